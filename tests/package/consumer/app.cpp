// A service that uses neither JSON values nor libpqxx itself.

#include <chrono>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>

#include <pgque/pgque.hpp>

namespace {

constexpr const char* nowhere = "host=/nonexistent dbname=nowhere";  // fails at once, without a server

// Everything the library throws must be caught by its own class and by its base, also across a shared library.
template <class Thrown, class Action>
bool throws(const char* what, Action action) {
  try {
    action();
    std::cerr << what << ": nothing was thrown\n";
  } catch (const Thrown&) {
    return true;
  } catch (const std::exception& error) {
    std::cerr << what << ": something else was thrown: " << error.what() << '\n';
  }
  return false;
}

bool connects_nowhere() {
  const auto connect = [] { pgque::Client client{nowhere}; };
  return throws<pgque::ConnectionError>("client", connect) && throws<pgque::Error>("client", connect);
}

bool consumes_nowhere() {
  pgque::ConsumerOptions options;
  options.queue = "orders";
  options.name = "order_worker";
  options.log = [](const pgque::LogRecord&) {};
  pgque::Consumer consumer{nowhere, options};
  consumer.on("order.created",
              [](const pgque::Message& message) { std::cout << message.payload.value_or("") << '\n'; });
  consumer.on("order.paid", [](const pgque::Message&, pgque::Context& context) {
    pgque::Transaction{context.transaction()}.send("audit", "{}");
  });
  consumer.on("*", [](const pgque::Message&, pgque::Context&) { throw pgque::RetryAfter{std::chrono::seconds{1}}; });
  return throws<pgque::ConnectionError>("consumer", [&] { consumer.start(); });
}

bool ticks_nowhere() {
  pgque::TickerOptions options;
  options.log = [](const pgque::LogRecord&) {};
  pgque::Ticker ticker{nowhere, options};
  ticker.stop();
  return ticker.stats().ticks == 0;
}

}  // namespace

int main() {
  const auto expected = std::to_string(PGQUE_VERSION_MAJOR) + '.' + std::to_string(PGQUE_VERSION_MINOR) + '.' +
                        std::to_string(PGQUE_VERSION_PATCH);
  std::cout << "pgque " << pgque::version() << ", C++ " << __cplusplus << '\n';
  const bool ok = pgque::version() == expected && connects_nowhere() && consumes_nowhere() && ticks_nowhere();
  return ok ? 0 : 1;
}
