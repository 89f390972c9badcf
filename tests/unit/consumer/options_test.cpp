#include "consumer/options.hpp"

#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::StartsWith;
using testing::ThrowsMessage;
using Change = std::function<void(ConsumerOptions&)>;

ConsumerOptions valid() {
  ConsumerOptions options;
  options.queue = "orders";
  options.name = "worker";
  return options;
}

ConsumerOptions cooperative() {
  auto options = valid();
  options.subconsumer = "w1";
  return options;
}

constexpr auto month = milliseconds{std::chrono::hours{24 * 30}};

TEST(ConsumerOptions, HaveTheDefaultsOfPgquePy) {
  const ConsumerOptions options;
  EXPECT_EQ(options.poll_interval, 30s);
  EXPECT_EQ(options.retry_after, 60s);
  EXPECT_EQ(options.unknown_handler_policy, UnknownHandlerPolicy::nack);
  EXPECT_EQ(options.subconsumer, "");
  EXPECT_EQ(options.dead_interval, std::nullopt);
}

TEST(ConsumerOptions, HaveTheDefaultsTheyDocument) {
  const ConsumerOptions options;
  EXPECT_EQ(options.transaction, std::nullopt);
  EXPECT_EQ(options.concurrency, 1);
  EXPECT_EQ(options.drain_timeout, 25s);
  EXPECT_EQ(options.handler_timeout, std::nullopt);
  EXPECT_EQ(options.slow_batch_after, 10s);
  EXPECT_EQ(options.no_ticks_after, 60s);
  EXPECT_FALSE(options.give_up_on_bad_payload);
  EXPECT_FALSE(options.on_send);
  EXPECT_EQ(options.connect_timeout, 10s);
  EXPECT_EQ(options.statement_timeout, 0ms);
  EXPECT_EQ(options.max_messages, 10'000);
  EXPECT_FALSE(options.catch_up);
  EXPECT_EQ(CatchUp{}.events, 500);
  EXPECT_EQ(options.min_lag, 0ms);
  EXPECT_EQ(options.idle_in_transaction_timeout, 15min);
  EXPECT_FALSE(options.retry_delay);
  EXPECT_FALSE(options.key);
  EXPECT_FALSE(options.on_error);
  EXPECT_FALSE(options.log);
  EXPECT_FALSE(options.crash_guard);
  EXPECT_EQ(CrashGuard{}.crashes, 3);
}

TEST(ConsumerOptions, AreCheckedByTheConstructorWithoutAServer) {
  EXPECT_NO_THROW((Consumer{nowhere, valid()}));
  EXPECT_THROW((Consumer{nowhere, ConsumerOptions{}}), std::invalid_argument);
}

TEST(ConsumerOptions, AreTakenUpToTheirLimits) {
  for (const auto& change : std::vector<Change>{
           [](auto& o) { o.queue = std::string(57, 'q'); },
           [](auto& o) { o.name = "a.b"; },  // dots matter to cooperative consumers only
           [](auto& o) { o.poll_interval = 1ms; },
           [](auto& o) { o.poll_interval = month; },
           [](auto& o) { o.max_messages = 1; },
           [](auto& o) { o.max_messages = 2147483647; },
           [](auto& o) { o.catch_up = CatchUp{1}; },
           [](auto& o) { o.catch_up = CatchUp{2147483647}; },
           [](auto& o) { o.min_lag = 0ms; },
           [](auto& o) { o.min_lag = month; },
           [](auto& o) { o.retry_after = 0s; },
           [](auto& o) { o.retry_after = seconds{2147483647}; },
           [](auto& o) { o.unknown_handler_policy = UnknownHandlerPolicy::ack; },
           [](auto& o) { o.subconsumer = "w1"; },
           [](auto& o) { o = cooperative(), o.dead_interval = 1ms; },
           [](auto& o) { o = cooperative(), o.dead_interval = month; },
           [](auto& o) { o = cooperative(), o.transaction = TransactionMode::split; },
           [](auto& o) { o.concurrency = 1024; },
           [](auto& o) { o.key = [](const Message&) { return std::string{}; }; },
           [](auto& o) { o.concurrency = 2, o.key = [](const Message&) { return std::string{}; }; },
           [](auto& o) { o.concurrency = 2, o.transaction = TransactionMode::split; },
           [](auto& o) { o.transaction = TransactionMode::per_batch; },
           [](auto& o) { o.transaction = TransactionMode::split; },
           [](auto& o) { o.drain_timeout = 0ms; },
           [](auto& o) { o.drain_timeout = month; },
           [](auto& o) { o.handler_timeout = 1ms; },
           [](auto& o) { o.handler_timeout = month; },
           [](auto& o) { o.slow_batch_after = 0ms; },
           [](auto& o) { o.slow_batch_after = month; },
           [](auto& o) { o.no_ticks_after = 0ms; },
           [](auto& o) { o.no_ticks_after = month; },
           [](auto& o) { o.connect_timeout = 0s; },
           [](auto& o) { o.statement_timeout = milliseconds{2147483647}; },
           [](auto& o) { o.idle_in_transaction_timeout = milliseconds{2147483647}; },
           [](auto& o) { o.crash_guard = CrashGuard{"orders.guard"}; },
           [](auto& o) { o.crash_guard.emplace().file = "orders.guard", o.crash_guard->crashes = 1; },
           [](auto& o) { o.crash_guard.emplace().file = "orders.guard", o.crash_guard->crashes = 2147483647; },
       }) {
    auto options = valid();
    change(options);
    EXPECT_NO_THROW((Consumer{nowhere, options})) << &change;
  }
}

TEST(ConsumerOptions, AreRefusedByNameBeyondTheirLimits) {
  struct Case {
    const char* option;
    Change change;
  };
  for (const auto& [option, change] : std::vector<Case>{
           {"queue", [](auto& o) { o.queue = ""; }},
           {"queue", [](auto& o) { o.queue = std::string(58, 'q'); }},
           {"queue", [](auto& o) { o.queue = "\xFF"; }},
           {"queue", [](auto& o) { o.queue = std::string("a\0b", 3); }},
           {"name", [](auto& o) { o.name = ""; }},
           {"name", [](auto& o) { o.name = "\xC3"; }},
           {"poll_interval", [](auto& o) { o.poll_interval = 0ms; }},
           {"poll_interval", [](auto& o) { o.poll_interval = -1ms; }},
           {"poll_interval", [](auto& o) { o.poll_interval = month + 1ms; }},
           {"poll_interval", [](auto& o) { o.poll_interval = milliseconds::max(); }},
           {"max_messages", [](auto& o) { o.max_messages = 0; }},
           {"max_messages", [](auto& o) { o.max_messages = -1; }},
           {"max_messages",
            [](auto& o) { o.max_messages = 1, o.pooled = true, o.transaction = TransactionMode::split; }},
           {"catch_up.events", [](auto& o) { o.catch_up = CatchUp{0}; }},
           {"catch_up.events", [](auto& o) { o.catch_up = CatchUp{-1}; }},
           {"min_lag", [](auto& o) { o.min_lag = -1ms; }},
           {"min_lag", [](auto& o) { o.min_lag = month + 1ms; }},
           {"retry_after", [](auto& o) { o.retry_after = -1s; }},
           {"retry_after", [](auto& o) { o.retry_after = seconds{2147483648}; }},
           {"unknown_handler_policy", [](auto& o) { o.unknown_handler_policy = static_cast<UnknownHandlerPolicy>(2); }},
           {"unknown_handler_policy",
            [](auto& o) { o.unknown_handler_policy = static_cast<UnknownHandlerPolicy>(-1); }},
           {"subconsumer", [](auto& o) { o.subconsumer = "w.1"; }},
           {"queue", [](auto& o) { o.queue = "postgresql://u:s3cret@h/db"; }},
           {"name", [](auto& o) { o.name = "postgresql://u:s3cret@h/db"; }},
           {"subconsumer", [](auto& o) { o.subconsumer = "postgresql://u:s3cret@h/db"; }},
           {"subconsumer", [](auto& o) { o.subconsumer = "\xFF"; }},
           {"name", [](auto& o) { o = cooperative(), o.name = "g.x"; }},
           {"dead_interval", [](auto& o) { o.dead_interval = 10s; }},  // without a subconsumer
           {"dead_interval", [](auto& o) { o = cooperative(), o.dead_interval = 0ms; }},
           {"dead_interval", [](auto& o) { o = cooperative(), o.dead_interval = -1ms; }},
           {"dead_interval", [](auto& o) { o = cooperative(), o.dead_interval = month + 1ms; }},
           {"concurrency", [](auto& o) { o.concurrency = 0; }},
           {"concurrency", [](auto& o) { o.concurrency = -1; }},
           {"concurrency", [](auto& o) { o.concurrency = 1025; }},
           {"transaction", [](auto& o) { o.transaction = static_cast<TransactionMode>(2); }},
           {"transaction", [](auto& o) { o = cooperative(), o.transaction = TransactionMode::per_batch; }},
           {"transaction", [](auto& o) { o.concurrency = 2, o.transaction = TransactionMode::per_batch; }},
           {"drain_timeout", [](auto& o) { o.drain_timeout = -1ms; }},
           {"drain_timeout", [](auto& o) { o.drain_timeout = month + 1ms; }},
           {"handler_timeout", [](auto& o) { o.handler_timeout = 0ms; }},
           {"handler_timeout", [](auto& o) { o.handler_timeout = month + 1ms; }},
           {"slow_batch_after", [](auto& o) { o.slow_batch_after = -1ms; }},
           {"slow_batch_after", [](auto& o) { o.slow_batch_after = month + 1ms; }},
           {"no_ticks_after", [](auto& o) { o.no_ticks_after = -1ms; }},
           {"no_ticks_after", [](auto& o) { o.no_ticks_after = month + 1ms; }},
           {"reconnect.initial", [](auto& o) { o.reconnect.initial = 0ms; }},
           {"reconnect.maximum", [](auto& o) { o.reconnect.maximum = 99ms; }},
           {"reconnect.maximum", [](auto& o) { o.reconnect.maximum = month + 1ms; }},
           {"connect_timeout", [](auto& o) { o.connect_timeout = -1s; }},
           {"connect_timeout", [](auto& o) { o.connect_timeout = std::chrono::duration_cast<seconds>(month) + 1s; }},
           {"statement_timeout", [](auto& o) { o.statement_timeout = -1ms; }},
           {"statement_timeout", [](auto& o) { o.statement_timeout = milliseconds{2147483648}; }},
           {"idle_in_transaction_timeout", [](auto& o) { o.idle_in_transaction_timeout = -1ms; }},
           {"idle_in_transaction_timeout", [](auto& o) { o.idle_in_transaction_timeout = milliseconds{2147483648}; }},
           {"crash_guard.file", [](auto& o) { o.crash_guard = CrashGuard{}; }},
           {"crash_guard.file", [](auto& o) { o.crash_guard = CrashGuard{std::string("a\0b", 3)}; }},
           {"crash_guard.crashes", [](auto& o) { o.crash_guard.emplace().file = "x", o.crash_guard->crashes = 0; }},
           {"crash_guard.crashes", [](auto& o) { o.crash_guard.emplace().file = "x", o.crash_guard->crashes = -1; }},
       }) {
    auto options = valid();
    change(options);
    EXPECT_THAT([&] { Consumer(nowhere, options); },
                ThrowsMessage<std::invalid_argument>(StartsWith(std::string{option} + ": ")));
  }
}

TEST(TransactionModeOf, IsPerBatchUnlessWorkIsShared) {
  EXPECT_EQ(detail::transaction_mode(valid()), TransactionMode::per_batch);
  EXPECT_EQ(detail::transaction_mode(cooperative()), TransactionMode::split);
  auto concurrent = valid();
  concurrent.concurrency = 2;
  EXPECT_EQ(detail::transaction_mode(concurrent), TransactionMode::split);
  auto chosen = valid();
  chosen.transaction = TransactionMode::split;
  EXPECT_EQ(detail::transaction_mode(chosen), TransactionMode::split);
}

TEST(SessionSettings, LimitTheStatementsOfTheConsumerByItsOptionAlone) {
  using testing::HasSubstr;
  auto options = valid();
  EXPECT_THAT(detail::session_settings(options), HasSubstr("set statement_timeout = 0;"));
  options.statement_timeout = 3s;
  EXPECT_THAT(detail::session_settings(options), HasSubstr("set statement_timeout = 3000;"));
  options.pooled = true;
  options.transaction = TransactionMode::split;
  EXPECT_EQ(detail::session_settings(options),
            "set local idle_in_transaction_session_timeout = 900000;set local statement_timeout = 3000;");
}

TEST(HeartbeatInterval, IsAThirdOfTheDeadIntervalAtMostTenSeconds) {
  auto options = cooperative();
  EXPECT_EQ(detail::heartbeat_interval(options), 10s);
  for (const auto& [dead, beat] : std::vector<std::pair<milliseconds, milliseconds>>{
           {9s, 3s}, {30s, 10s}, {31s, 10s}, {month, 10s}, {3ms, 1ms}, {2ms, 1ms}, {1ms, 1ms}}) {
    options.dead_interval = dead;
    EXPECT_EQ(detail::heartbeat_interval(options), beat) << dead.count();
  }
}

}  // namespace
}  // namespace pgque::test
