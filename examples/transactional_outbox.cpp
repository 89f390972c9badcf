// An order and its event that are stored together or not at all, and a handler whose own writes commit exactly once.

#include <exception>
#include <iostream>
#include <string>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

#include "setup.hpp"

using nlohmann::json;

namespace {

// Stores an order and, in the same transaction, its event. With `fail` it throws before the commit.
void place_order(pqxx::connection& connection, const std::string& queue, int id, bool fail) {
  pqxx::work work{connection};
  work.exec("insert into example_order values (" + std::to_string(id) + ")");
  pgque::Transaction{work}.send(queue, json{{"order_id", id}}, "order.created");
  if (fail) throw std::runtime_error{"the service crashed before its commit"};
  work.commit();
}

int run() {
  const example::TemporaryQueue queue{"outbox"};
  pqxx::connection connection{example::dsn()};
  pqxx::nontransaction{connection}.exec(
      "create table if not exists example_order (id int primary key); truncate example_order;"
      "create table if not exists example_invoice (order_id int); truncate example_invoice");

  auto client = pgque::Client{example::dsn()};
  client.subscribe(queue.name(), "billing");
  place_order(connection, queue.name(), 1, false);
  try {
    place_order(connection, queue.name(), 2, true);
  } catch (const std::exception& error) {
    std::cout << "order 2: " << error.what() << '\n';
  }
  client.force_next_tick(queue.name());
  client.ticker(queue.name());

  pgque::ConsumerOptions options;
  options.queue = queue.name();
  options.name = "billing";
  pgque::Consumer consumer{example::dsn(), options};
  consumer.on("order.created", [&](const pgque::Message& message, pgque::Context& context) {
    const int id = pgque::payload_as<json>(message).at("order_id").get<int>();
    // The transaction that received the message and will acknowledge it: the invoice is written exactly once.
    context.transaction().exec("insert into example_invoice values (" + std::to_string(id) + ")");
    std::cout << "order " << id << " invoiced\n";
    consumer.stop();
  });
  consumer.start();

  pqxx::nontransaction reading{connection};
  const auto count = [&](const char* table) {
    return reading.exec(std::string{"select pg_catalog.count(*) from "} + table)[0][0].as<int>();
  };
  std::cout << count("example_order") << " order, " << count("example_invoice") << " invoice\n";
  const bool right = count("example_order") == 1 && count("example_invoice") == 1;
  reading.exec("drop table example_order, example_invoice");
  return right ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "transactional_outbox: " << error.what() << '\n';
    return 1;
  }
}
