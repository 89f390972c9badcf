#pragma once

// The handlers of order_service.cpp, apart from its main(), so that order_handlers_test.cpp can test them.

#include <string>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

namespace example {

struct Order {
  int order_id = 0;
  std::string product;
  int quantity = 0;
};
void from_json(const nlohmann::json& from, Order& order);

// The service's tables. A real one would have migrations for them.
void create_tables(pqxx::transaction_base& transaction);
void drop_tables(pqxx::transaction_base& transaction);

// The queue that invoice() sends to.
inline constexpr const char* audit_queue = "example_audit";

// Takes the goods out of the stock, writes the invoice and tells the auditors: all of it exactly once, with the ack.
void invoice(const Order& order, pgque::Context& context);
// Writes the mail to the customer. That takes long, so the transaction begins only when the mail is written.
void thank(const Order& order, pgque::Context& context);

void register_handlers(pgque::Consumer& consumer);

}  // namespace example
