extern const bool urgent;
extern const json mail;
void rebuild_index_of(std::int64_t product, pqxx::transaction_base& transaction);
void publish(const pgque::Message& message);
