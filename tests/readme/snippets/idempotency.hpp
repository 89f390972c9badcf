extern pqxx::connection warehouse;
struct Payments {
  void charge(const std::string& customer, const std::string& idempotency_key);
};
extern Payments payments;
