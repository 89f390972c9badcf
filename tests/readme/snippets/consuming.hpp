struct Span {
  explicit Span(const pgque::Message& message);
};
struct Refund {
  std::int64_t id = 0;
};
void from_json(const json& value, Refund& refund);
std::string render(const pgque::Message& message);
void store(pqxx::transaction_base& transaction, const std::string& document);
