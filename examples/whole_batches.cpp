// Writes that commit exactly once: metrics are copied into a table as whole batches, and invoices, which take long to
// make, are written by on_ack() in the transaction that acknowledges their batch.

#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <tuple>
#include <vector>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

#include "setup.hpp"

namespace {

using nlohmann::json;

int run() {
  const example::TemporaryQueue queue{"whole_batches"};
  pqxx::connection connection{example::dsn()};
  pqxx::nontransaction tables{connection};
  const auto metrics = tables.quote_name(queue.name() + "_metrics");
  const auto invoices = tables.quote_name(queue.name() + "_invoices");
  tables.exec("create table " + metrics + " (name text, value double precision)");
  tables.exec("create table " + invoices + " (document text)");

  pgque::Client client{example::dsn()};
  client.subscribe(queue.name(), "writer");
  std::vector<pgque::Payload> sent;
  for (int i = 0; i < 1000; ++i) sent.emplace_back(json{{"name", "cpu"}, {"value", i}});
  sent.emplace_back(json{{"name", "broken"}});
  client.send_batch(queue.name(), "metric.cpu", sent);
  client.send(queue.name(), json("order 42"), "invoice");
  client.force_next_tick(queue.name());
  client.ticker(queue.name());

  pgque::ConsumerOptions options;
  options.queue = queue.name();
  options.name = "writer";
  options.transaction = pgque::TransactionMode::split;  // no transaction is open while handlers run
  options.until_drained = true;
  options.log = [](const pgque::LogRecord& record) {
    if (record.event == pgque::LogEvent::handler_failed) std::cout << "failed: " << record.message << '\n';
  };
  pgque::Consumer consumer{example::dsn(), options};
  consumer.on_batch("metric.*", [&](const std::vector<pgque::Message>& messages, pgque::BatchContext& context) {
    std::vector<std::tuple<std::string, double>> rows;
    for (const auto& message : messages) {
      const auto metric = pgque::payload_as<json>(message);
      if (metric.contains("value")) {
        rows.emplace_back(metric["name"].get<std::string>(), metric["value"].get<double>());
      } else {
        context.fail(message, "the metric has no value");  // this one comes again; the others are done
      }
    }
    if (rows.empty()) return;
    context.on_ack([rows, metrics](pqxx::transaction_base& transaction) {
      std::string sql = "insert into " + metrics + " values ";
      for (const auto& [name, value] : rows) {
        sql += "(" + transaction.quote(name) + ", " + std::to_string(value) + "),";
      }
      sql.pop_back();
      transaction.exec(sql);
    });
  });
  consumer.on("invoice", [&](const pgque::Message& message, pgque::Context& context) {
    const auto document = "invoice for " + *message.payload;  // takes long
    context.on_ack([document, invoices](pqxx::transaction_base& transaction) {
      transaction.exec("insert into " + invoices + " values (" + transaction.quote(document) + ")");
    });
  });
  consumer.start();

  const auto count = [&](const std::string& table) {
    return tables.exec("select pg_catalog.count(*) from " + table)[0][0].as<std::int64_t>();
  };
  const auto metric_rows = count(metrics);
  const auto invoice_rows = count(invoices);
  std::cout << metric_rows << " metrics and " << invoice_rows << " invoice, each once\n";
  tables.exec("drop table " + metrics);
  tables.exec("drop table " + invoices);
  return metric_rows == 1000 && invoice_rows == 1 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "whole_batches: " << error.what() << '\n';
    return 1;
  }
}
