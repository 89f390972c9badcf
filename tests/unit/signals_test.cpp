#include <pgque/signals.hpp>

#include <csignal>
#include <type_traits>

#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pgque/ticker.hpp>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

void users_handler(int) {}
void another_handler(int) {}

// Restores the handlers of SIGINT and SIGTERM after each test. Both begin with a handler of the user's.
class Signals : public testing::Test {
 protected:
  const SignalHandler interrupt_{SIGINT, users_handler};
  const SignalHandler terminate_{SIGTERM, users_handler};
};

// The log is the one place that is called while they run, without a server: stopped before they connect, they return.
template <class Runnable, class Options>
void expect_stopped_by_a_signal(Options options) {
  auto handler_while_running = &users_handler;
  options.log = [&](const LogRecord& record) {
    if (record.event != LogEvent::started) return;
    handler_while_running = handler_of(SIGTERM);
    ASSERT_EQ(::raise(SIGTERM), 0);
  };
  Runnable runnable{nowhere, options};
  if constexpr (std::is_same_v<Runnable, Consumer>) runnable.on("*", [](const Message&) {});
  stop_on_signals(runnable);
  EXPECT_EQ(handler_of(SIGTERM), users_handler);
  EXPECT_NO_THROW(runnable.start());
  EXPECT_NE(handler_while_running, &users_handler);
  EXPECT_EQ(handler_of(SIGTERM), users_handler);
}

TEST_F(Signals, StopAConsumerThatRuns) {
  ConsumerOptions options;
  options.queue = "orders";
  options.name = "worker";
  expect_stopped_by_a_signal<Consumer>(options);
}

TEST_F(Signals, StopATickerThatRuns) {
  expect_stopped_by_a_signal<Ticker>(TickerOptions{});
}

TEST_F(Signals, AreLeftAloneUnlessAskedFor) {
  auto handler_while_running = &another_handler;
  TickerOptions options;
  options.log = [&](const LogRecord&) { handler_while_running = handler_of(SIGTERM); };
  Ticker ticker{nowhere, options};
  ticker.stop();
  ticker.start();
  EXPECT_EQ(handler_while_running, &users_handler);
}

}  // namespace
}  // namespace pgque::test
