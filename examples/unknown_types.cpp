// What happens to messages whose type has no handler: they are retried by default, acknowledged by policy, or given to
// "*".

#include <exception>
#include <iostream>
#include <string>

#include <pgque/pgque.hpp>

#include "setup.hpp"

namespace {

// Lets a consumer handle the waiting messages, with the given policy and perhaps a "*" handler. Returns its counters.
pgque::ConsumerStats consume(const std::string& queue, const std::string& name, pgque::UnknownHandlerPolicy policy,
                             bool catch_all) {
  pgque::ConsumerOptions options;
  options.queue = queue;
  options.name = name;
  options.unknown_handler_policy = policy;
  pgque::Consumer* running = nullptr;
  options.log = [&](const pgque::LogRecord& record) {
    if (record.event == pgque::LogEvent::unknown_type) std::cout << "  warning: " << record.message << '\n';
    if (record.event == pgque::LogEvent::batch_acked) running->stop();
  };
  pgque::Consumer consumer{example::dsn(), options};
  running = &consumer;
  consumer.on("order.created", [](const pgque::Message&) { std::cout << "  order.created handled\n"; });
  if (catch_all) {
    consumer.on("*", [](const pgque::Message& message) {
      std::cout << "  " << message.type.value_or("NULL") << " handled by \"*\"\n";
    });
  }
  consumer.start();
  return consumer.stats();
}

int run() {
  const example::TemporaryQueue queue{"unknown"};
  pgque::Client client{example::dsn()};
  // Every consumer gets every message.
  for (const char* name : {"careful", "lenient", "catch_all"}) client.subscribe(queue.name(), name);
  client.send(queue.name(), "1", "order.created");
  client.send(queue.name(), "2", "order.misspelt");
  client.force_next_tick(queue.name());
  client.ticker(queue.name());

  std::cout << "by default an unknown type is nacked, and retried until it is a dead letter:\n";
  const auto careful = consume(queue.name(), "careful", pgque::UnknownHandlerPolicy::nack, false);
  std::cout << "with the policy \"ack\" it is acknowledged with a warning:\n";
  const auto lenient = consume(queue.name(), "lenient", pgque::UnknownHandlerPolicy::ack, false);
  std::cout << "with a \"*\" handler nothing is unknown:\n";
  const auto catch_all = consume(queue.name(), "catch_all", pgque::UnknownHandlerPolicy::nack, true);
  return careful.retries == 1 && lenient.retries == 0 && lenient.unknown == 1 && catch_all.messages == 2 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "unknown_types: " << error.what() << '\n';
    return 1;
  }
}
