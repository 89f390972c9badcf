// A service that uses libpqxx beside this library.

#include <iostream>

#include <pqxx/pqxx>

#include <pgque/pgque.hpp>
#include <pgque/pqxx.hpp>

namespace {

// The transactional outbox: never called here, but compiled and linked.
void place_order(pqxx::connection& connection) {
  pqxx::work work{connection};
  pgque::Transaction{work}.send("orders", R"({"order_id": 46})");
  work.commit();
  pgque::Client client = pgque::borrow(connection);
  pgque::native(client);
}

// The same.
[[maybe_unused]] void write_carefully(pgque::Context& context) {
  pqxx::subtransaction attempt{context.transaction()};
  attempt.exec("insert into orders values (46)");
  attempt.commit();
}

}  // namespace

int main() {
  try {
    pqxx::connection connection{"host=/nonexistent dbname=nowhere"};
    place_order(connection);
  } catch (const pqxx::broken_connection&) {
    std::cout << "pgque " << pgque::version() << " with libpqxx " << PQXX_VERSION << '\n';
    return 0;
  }
  return 1;
}
