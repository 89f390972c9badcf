// A service that handles messages until SIGINT or SIGTERM. Run `produce` beside it, and a ticker (pg_cron, or the
// quick start's).
//
//   consume [QUEUE [CONSUMER]]

#include <exception>
#include <iostream>
#include <string>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>

#include "setup.hpp"

namespace {

// Any type with a from_json() can be received.
struct Order {
  int order_id;
};
void from_json(const nlohmann::json& json, Order& order) {
  json.at("order_id").get_to(order.order_id);
}

void run(const std::string& queue, const std::string& name) {
  pgque::Client{example::dsn()}.subscribe(queue, name);  // true the first time, harmless later

  pgque::ConsumerOptions options;
  options.queue = queue;
  options.name = name;
  // A message is retried within 1 s after its first failure, then within 2 s, 4 s, and so on up to 5 minutes.
  options.retry_delay = pgque::exponential_retry(std::chrono::seconds{1}, std::chrono::minutes{5});
  pgque::Consumer consumer{example::dsn(), options};

  // A payload that is not an Order counts as a failure of the handler.
  consumer.on<Order>("order.created",
                     [](const Order& order) { std::cout << "order " << order.order_id << " created" << std::endl; });
  consumer.on<Order>("order.paid", [](const Order& order, pgque::Context& context) {
    std::cout << "order " << order.order_id << " paid, attempt " << context.attempt() << std::endl;
  });
  consumer.on("*", [](const pgque::Message& message) {
    std::cout << message.type.value_or("NULL") << ": " << message.payload.value_or("NULL") << std::endl;
  });

  pgque::stop_on_signals(consumer);
  consumer.start();
  std::cout << "stopped after " << consumer.stats().messages << " messages" << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc > 1 ? argv[1] : "example_orders", argc > 2 ? argv[2] : "example_worker");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "consume: " << error.what() << '\n';
    return 1;
  }
}
