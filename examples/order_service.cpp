// A service whose handlers are in a file of their own, with tests beside it: order_handlers.hpp and
// order_handlers_test.cpp.

#include <exception>
#include <iostream>
#include <string>
#include <thread>

#include <pgque/admin.hpp>

#include "order_handlers.hpp"
#include "setup.hpp"

using nlohmann::json;

namespace {

int run() {
  const example::TemporaryQueue orders{"orders"};
  pgque::Admin admin{example::dsn()};
  admin.create_queue(example::audit_queue);
  pqxx::connection connection{example::dsn()};
  pqxx::nontransaction tables{connection};
  example::drop_tables(tables);
  example::create_tables(tables);
  tables.exec("insert into example_shop.product values ('pen', 10)");

  pgque::Client client{example::dsn()};
  client.subscribe(orders.name(), "billing");
  client.send(orders.name(), json{{"order_id", 1}, {"product", "pen"}, {"quantity", 3}}, "order.created");
  client.send(orders.name(), json{{"order_id", 1}, {"product", "pen"}, {"quantity", 3}}, "order.paid");
  client.send(orders.name(), json{{"order_id", 2}, {"product", "yacht"}, {"quantity", 1}}, "order.created");

  pgque::Ticker ticker{example::dsn()};
  std::thread ticking{[&] { ticker.start(); }};
  pgque::ConsumerOptions options;
  options.queue = orders.name();
  options.name = "billing";
  pgque::Consumer* running = nullptr;
  options.log = [&](const pgque::LogRecord& record) {
    if (record.event == pgque::LogEvent::handler_failed) std::cout << "failed: " << record.message << '\n';
    if (record.event == pgque::LogEvent::batch_acked && running->stats().messages == 2) running->stop();
  };
  pgque::Consumer consumer{example::dsn(), options};
  running = &consumer;
  example::register_handlers(consumer);
  pgque::stop_on_signals(consumer);
  consumer.start();  // until all orders are handled, or Ctrl-C
  ticker.stop();
  ticking.join();

  const auto number = [&](const std::string& sql) { return tables.exec(sql)[0][0].as<int>(); };
  const auto stock = number("select stock from example_shop.product");
  const auto invoices = number("select pg_catalog.count(*) from example_shop.invoice");
  const auto mails = number("select pg_catalog.count(*) from example_shop.mail");
  std::cout << invoices << " invoice, " << mails << " mail, " << stock << " pens left\n";
  example::drop_tables(tables);
  admin.drop_queue(example::audit_queue);
  return invoices == 1 && mails == 1 && stock == 7 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "order_service: " << error.what() << '\n';
    return 1;
  }
}
