// Ticking by hand, for tests and demos: without a ticker no message becomes visible until the program ticks.

#include <exception>
#include <iostream>

#include <pgque/pgque.hpp>

#include "setup.hpp"

namespace {

int run() {
  const example::TemporaryQueue queue{"manual"};
  pgque::Client client{example::dsn()};
  client.subscribe(queue.name(), "reader");
  client.send(queue.name(), R"({"hello": "world"})");

  std::cout << "before the tick: " << client.receive(queue.name(), "reader").size() << " messages\n";

  // force_next_tick() makes no tick itself; the next ticker() then makes one, even if the queue's thresholds are not
  // reached. Each call is a separate transaction, as PgQue needs it: see docs/transactions.md.
  client.force_next_tick(queue.name());
  client.ticker(queue.name());

  const auto messages = client.receive(queue.name(), "reader");
  std::cout << "after the tick: " << messages.size() << " message: " << *messages.at(0).payload << '\n';
  std::cout << "acknowledged: " << std::boolalpha << client.ack(messages[0].batch_id) << '\n';
  return messages.size() == 1 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "manual_ticking: " << error.what() << '\n';
    return 1;
  }
}
