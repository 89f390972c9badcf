#include "order_handlers.hpp"

#include <chrono>

namespace example {

using nlohmann::json;

void from_json(const json& from, Order& order) {
  from.at("order_id").get_to(order.order_id);
  from.at("product").get_to(order.product);
  from.at("quantity").get_to(order.quantity);
}

void create_tables(pqxx::transaction_base& transaction) {
  transaction.exec(
      "create schema example_shop;"
      "create table example_shop.product (name text primary key, stock integer);"
      "create table example_shop.invoice (order_id integer primary key, product text, quantity integer);"
      "create table example_shop.mail (order_id integer, words text)");
}

void drop_tables(pqxx::transaction_base& transaction) {
  transaction.exec("drop schema if exists example_shop cascade");
}

void invoice(const Order& order, pgque::Context& context) {
  if (order.quantity < 1) throw pgque::GiveUp{"an order of nothing"};
  auto& transaction = context.transaction();
  const auto product = transaction.quote(order.product);
  const auto quantity = std::to_string(order.quantity);
  const auto stock = transaction.exec("select stock from example_shop.product where name operator(pg_catalog.=) " +
                                      product + " for update");
  if (stock.empty()) throw pgque::GiveUp{"no such product: " + order.product};
  if (stock[0][0].as<int>() < order.quantity) throw pgque::RetryAfter{std::chrono::minutes{10}, "out of stock"};
  transaction.exec("update example_shop.product set stock = stock operator(pg_catalog.-) " + quantity +
                   " where name operator(pg_catalog.=) " + product);
  transaction.exec("insert into example_shop.invoice values (" + std::to_string(order.order_id) + ", " + product +
                   ", " + quantity + ")");
  context.send(audit_queue, json{{"order_id", order.order_id}}, "order.invoiced");
}

void thank(const Order& order, pgque::Context& context) {
  if (order.product.empty()) throw pgque::GiveUp{"nothing to thank for"};
  const auto words = "Thank you for " + std::to_string(order.quantity) + " of " + order.product;
  context.on_ack([id = order.order_id, words](pqxx::transaction_base& transaction) {
    transaction.exec("insert into example_shop.mail values (" + std::to_string(id) + ", " + transaction.quote(words) +
                     ")");
  });
}

void register_handlers(pgque::Consumer& consumer) {
  consumer.on<Order>("order.created", invoice);
  consumer.on<Order>("order.paid", thank);
}

}  // namespace example
