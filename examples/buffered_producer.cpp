// Many threads send single events; one connection stores them in batches. The future of each event holds its outcome.
//
//   buffered_producer [EVENTS PER THREAD]

#include <chrono>
#include <exception>
#include <future>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include <pgque/buffered_producer.hpp>
#include <pgque/json.hpp>
#include <pgque/pgque.hpp>

#include "setup.hpp"

using nlohmann::json;

namespace {

int run(int count) {
  const example::TemporaryQueue queue{"buffered"};
  pgque::BufferedProducerOptions options;
  options.linger = std::chrono::milliseconds{2};              // an event waits at most this long for others
  options.buffer_messages = 10'000;                           // beyond that, send() waits for room
  options.block_timeout = std::chrono::milliseconds{30'000};  // but not longer than this
  options.drain_timeout =
      std::chrono::milliseconds{10'000};  // the destructor tries to send the rest for at most this long
  pgque::BufferedProducer producer{example::dsn(), options};

  // send() returns at once. These threads do not need the ids: if a batch fails, the log says so.
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < count; ++i) {
        producer.send(queue.name(), json{{"thread", thread}, {"number", i}}, "measured");
      }
    });
  }
  for (auto& thread : threads) thread.join();

  // An event that matters: its future has the id once it is committed, or the error.
  std::future<pgque::EventId> order = producer.send(queue.name(), json{{"order_id", 42}}, "order.created");
  try {
    const auto id = order.get();
    std::cout << "the order is event " << id << '\n';
  } catch (const pgque::Error& error) {
    // The event is not stored, unless the outcome is unknown.
    std::cerr << (error.outcome_unknown() ? "perhaps stored: " : "not stored: ") << error.what() << '\n';
    return 1;
  }

  if (!producer.flush(std::chrono::milliseconds{10'000})) std::cout << "not everything was sent in time\n";
  const auto stats = producer.stats();
  std::cout << stats.sent << " events in " << (stats.batches < stats.sent ? "fewer" : "as many") << " batches, "
            << stats.failed << " failed\n";
  return producer.close() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? std::stoi(argv[1]) : 5000);
  } catch (const std::exception& error) {
    std::cerr << "buffered_producer: " << error.what() << '\n';
    return 1;
  }
}
