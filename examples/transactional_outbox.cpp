// An order and its event that are stored together or not at all, and a handler whose own writes commit exactly once.

#include <exception>
#include <iostream>
#include <string>

#include "outbox.hpp"
#include "setup.hpp"

namespace {

int run() {
  const example::TemporaryQueue queue{"outbox"};
  pqxx::connection connection{example::dsn()};
  {
    pqxx::nontransaction tables{connection};
    example::create_outbox_tables(tables);
  }

  auto client = pgque::Client{example::dsn()};
  client.subscribe(queue.name(), "billing");
  example::place_order(connection, queue.name(), 1, false);
  try {
    example::place_order(connection, queue.name(), 2, true);
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
    example::write_invoice(message, context);
    std::cout << "order invoiced\n";
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
