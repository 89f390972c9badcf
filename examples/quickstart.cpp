// The whole thing in one process: a ticker, a producer and a consumer, with one message that fails at first.
//
//   scripts/demo
//   PGQUE_TEST_DSN=postgresql://localhost/mydb build/dev/examples/quickstart

#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>

#include <unistd.h>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>

#include "setup.hpp"

using namespace std::chrono_literals;
using nlohmann::json;

namespace {

// Prints one line of the story, with the time since the beginning and who is speaking.
class Story {
 public:
  void tell(const char* who, const std::string& what) {
    const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    const std::lock_guard lock{mutex_};
    std::printf(colours_ ? "  \033[2m%6.3f s\033[0m  \033[1m%-9s\033[0m %s\n" : "  %6.3f s  %-9s %s\n", seconds, who,
                what.c_str());
    std::fflush(stdout);
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  const bool colours_ = ::isatty(STDOUT_FILENO) == 1;
  std::mutex mutex_;
};

std::string describe(const pgque::Message& message) {
  return *message.type + ' ' + *message.payload + "  (event " + to_string(message.msg_id) + ", batch " +
         to_string(message.batch_id) + ')';
}

int run() {
  std::cout << "PgQue quick start: a ticker, a producer and a consumer in one process\n\n" << std::flush;
  Story story;

  const example::TemporaryQueue queue{"quickstart"};
  story.tell("setup", "queue \"" + queue.name() + "\" created");

  pgque::Client producer{example::dsn()};
  producer.subscribe(queue.name(), "order_worker");
  story.tell("setup", "consumer \"order_worker\" subscribed");

  // Messages become visible with the next tick. Services leave this to pg_cron or to one ticker in another process.
  pgque::TickerOptions ticker_options;
  ticker_options.ticker_max_lag = 100ms;
  pgque::Ticker ticker{example::dsn(), ticker_options};
  std::thread ticking{[&] { ticker.start(); }};
  story.tell("ticker", "started: ticks, retries and maintenance, without pg_cron");

  const auto id = producer.send(queue.name(), json{{"order_id", 42}}, "order.created");
  story.tell("producer", "sent order.created {\"order_id\":42}  (event " + to_string(id) + ')');
  const auto ids = producer.send_batch(queue.name(), "order.created", {json{{"order_id", 43}}, json{{"order_id", 44}}});
  story.tell("producer", "sent two more in one batch  (events " + to_string(ids[0]) + ", " + to_string(ids[1]) + ')');
  auto transaction = producer.begin();
  transaction.send(queue.name(), json{{"order_id", 42}, {"amount", 9.9}}, "order.paid");
  transaction.send(queue.name(), json{{"order_id", 42}}, "order.shipped");
  transaction.commit();
  story.tell("producer", "sent order.paid and order.shipped in one transaction");

  pgque::ConsumerOptions options;
  options.queue = queue.name();
  options.name = "order_worker";
  options.retry_after = 1s;
  options.log = [](const pgque::LogRecord&) {};  // the handlers tell the story here
  pgque::Consumer consumer{example::dsn(), options};
  int handled = 0;
  const auto done = [&] {
    if (++handled == 5) consumer.stop();
  };
  consumer.on("order.paid", [&](const pgque::Message& message, const pgque::Context& context) {
    if (context.attempt() == 1) {
      story.tell("consumer", describe(message) + " failed: the bank is busy; again in 1 s");
      throw std::runtime_error{"the bank is busy"};
    }
    story.tell("consumer", describe(message) + " handled at attempt " + std::to_string(context.attempt()));
    done();
  });
  consumer.on("*", [&](const pgque::Message& message) {
    story.tell("consumer", describe(message) + " handled");
    done();
  });
  pgque::stop_on_signals(consumer);
  story.tell("consumer", "started, waiting for notifications");
  consumer.start();  // until all five are handled, or Ctrl-C

  ticker.stop();
  ticking.join();
  const auto stats = consumer.stats();
  story.tell("consumer", "stopped: " + std::to_string(stats.messages) + " messages handled in " +
                             std::to_string(stats.batches) + " batches, " + std::to_string(stats.retries) + " retried");
  story.tell("ticker", "stopped after " + std::to_string(ticker.stats().ticks) + " ticks");
  std::cout << (handled == 5 ? "\nEverything sent was handled.\n" : "\nInterrupted.\n");
  return handled == 5 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "quickstart: " << error.what() << '\n';
    return 1;
  }
}
