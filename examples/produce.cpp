// Sending: one event, a batch, several calls in one transaction, and text that is not JSON.
//
//   produce [QUEUE]

#include <exception>
#include <iostream>
#include <string>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>

#include "setup.hpp"

using nlohmann::json;

namespace {

// Any type with a to_json() can be sent.
struct Order {
  int order_id;
  double amount;
};
void to_json(json& out, const Order& order) {
  out = {{"order_id", order.order_id}, {"amount", order.amount}};
}

void run(const std::string& queue) {
  example::create_queue(queue);  // does nothing if it exists
  pgque::Client client{example::dsn()};

  // Each call is committed when it returns.
  std::cout << "event " << client.send(queue, json{{"order_id", 42}}, "order.created") << '\n';
  std::cout << "event " << client.send(queue, Order{43, 9.9}, "order.created") << '\n';

  // Text is JSON text, which the server checks; pgque::text() is stored as it is.
  std::cout << "event " << client.send(queue, R"({"order_id": 44})", "order.created") << '\n';
  std::cout << "event " << client.send(queue, pgque::text("not JSON at all"), "note") << '\n';

  // All or nothing, in one statement.
  for (const auto id : client.send_batch(queue, "order.paid", {json{{"order_id", 42}}, json{{"order_id", 43}}})) {
    std::cout << "event " << id << '\n';
  }

  // Several calls, one commit.
  auto transaction = client.begin();
  transaction.send(queue, Order{45, 1.5}, "order.created");
  transaction.send(queue, Order{45, 1.5}, "order.paid");
  transaction.commit();
  std::cout << "sent\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? argv[1] : "example_orders");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "produce: " << error.what() << '\n';
    return 1;
  }
}
