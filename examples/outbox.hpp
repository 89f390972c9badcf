#pragma once

// The two halves of transactional_outbox.cpp, apart from its main(), so that tests/examples/outbox_test.cpp can test
// them.

#include <stdexcept>
#include <string>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

namespace example {

inline void create_outbox_tables(pqxx::transaction_base& transaction) {
  transaction.exec(
      "create table if not exists example_order (id int primary key); truncate example_order;"
      "create table if not exists example_invoice (order_id int); truncate example_invoice");
}

// Stores an order and, in the same transaction, its event. With `fail` it throws before the commit.
inline void place_order(pqxx::connection& connection, const std::string& queue, int id, bool fail) {
  pqxx::work work{connection};
  work.exec("insert into example_order values (" + std::to_string(id) + ")");
  pgque::Transaction{work}.send(queue, nlohmann::json{{"order_id", id}}, "order.created");
  if (fail) throw std::runtime_error{"the service crashed before its commit"};
  work.commit();
}

// Writes the invoice in the transaction that received the message and will acknowledge it, so exactly once.
inline void write_invoice(const pgque::Message& message, pgque::Context& context) {
  const int id = pgque::payload_as<nlohmann::json>(message).at("order_id").get<int>();
  context.transaction().exec("insert into example_invoice values (" + std::to_string(id) + ")");
}

}  // namespace example
