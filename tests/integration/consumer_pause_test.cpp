// pause() and resume(), and handlers that throw NotNow because something else is down.

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pgque/retry.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr auto promptly = 10s;
// Long enough to notice that something happens that should not.
constexpr auto a_while = 200ms;

using ConsumerPauseTest = ConsumerTest;

TEST_F(ConsumerPauseTest, FinishesTheBatchAndThenReceivesNothingUntilResumed) {
  publish_numbers(3);
  auto busy = options();
  busy.poll_interval = 1ms;
  Seen seen;
  Consumer consumer{dsn(), busy};
  consumer.on("t", [&](const Message& message) {
    consumer.pause();
    seen(message);
  });
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
  EXPECT_THAT(seen.payloads(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(consumer.stats().postponed, 0U);

  publish("3");
  EXPECT_FALSE(wait_until([&] { return seen.size() != 3; }, a_while));
  consumer.resume();
  EXPECT_TRUE(wait_until([&] { return seen.size() == 4; }));
}

TEST_F(ConsumerPauseTest, WakesAWaitingConsumerBothWays) {
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  const Running running{consumer};
  for (std::size_t round = 1; round <= 3; ++round) {
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    consumer.pause();
    ASSERT_TRUE(wait_until([&] { return consumer.stats().state == ConsumerState::paused; }, promptly));
    publish("1");
    consumer.resume();
    EXPECT_TRUE(wait_until([&] { return seen.size() == round; }, promptly));
  }
}

TEST_F(ConsumerPauseTest, BeforeTheStartConnectsAndThenWaits) {
  publish("1");
  Seen seen;
  Consumer consumer{watched_dsn(), options()};
  consumer.on("t", seen.handler());
  consumer.pause();
  consumer.pause();
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
  if (!pooled()) {
    EXPECT_EQ(sessions(), 1);
  }
  EXPECT_EQ(seen.size(), 0U);
  consumer.resume();
  EXPECT_TRUE(wait_batches(consumer, 1));
}

TEST_F(ConsumerPauseTest, DuringAReceiveThatFindsNothingLeavesNoTransactionOpen) {
  Sql other;
  std::optional<pqxx::work> locked{std::in_place, other.connection()};
  locked->exec("select from pgque.subscription where sub_queue = " + queue_id() + " for update");
  Consumer consumer{watched_dsn(), options(TransactionMode::per_batch)};
  consumer.on("*", [](const Message&) {});
  const Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  consumer.pause();
  locked.reset();
  ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
  EXPECT_EQ(sql().number("select count(*)" + watched() + "and state like 'idle in%'"), 0);
  publish("1");
  consumer.resume();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_FALSE(running.ended());
}

TEST_F(ConsumerPauseTest, LastsOverSeveralStarts) {
  Consumer consumer{dsn(), options()};
  consumer.on("*", ignore);
  consumer.pause();
  for (int start = 0; start < 2; ++start) {
    Running running{consumer};
    EXPECT_TRUE(wait_state(consumer, ConsumerState::paused));
    EXPECT_LT(running.stop_and_join(), promptly);
    EXPECT_EQ(running.error(), nullptr);
  }
}

TEST_F(ConsumerPauseTest, ReplacesALostConnectionAndStaysPaused) {
  if (pooled()) GTEST_SKIP() << "the pooler keeps the connection";
  Consumer consumer{watched_dsn(), options()};
  consumer.on("*", [](const Message&) {});
  consumer.pause();
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
  ASSERT_EQ(kill_sessions(), 1);
  EXPECT_TRUE(
      wait_until([&] { return consumer.stats().reconnects == 1 && consumer.stats().state == ConsumerState::paused; }));
  publish("1");
  consumer.resume();
  EXPECT_TRUE(wait_batches(consumer, 1));
}

// In the test process nothing reads what the server sends but this consumer.
TEST_F(ConsumerPauseTest, ReadsNotificationsAllTheTime) {
  if (pooled()) GTEST_SKIP() << "the pooler's sessions do not listen";
  Consumer consumer{watched_dsn(), options()};
  consumer.on("*", [](const Message&) {});
  consumer.pause();
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
  // More than the sockets' buffers hold: the server could not send the rest, and would wait for the client.
  const auto channel = sql().quote("pgque_" + queue().name());
  sql()("select pg_notify(" + channel + ", repeat('x', 7000) || i) from generate_series(1, 2000) i");
  EXPECT_TRUE(wait_until([&] {
    return sql().number("select count(*)" + watched() + "and state = 'idle' and wait_event = 'ClientRead'") == 1 &&
           sql().value("select pg_notification_queue_usage()") == "0";
  }));
  EXPECT_EQ(consumer.stats().state, ConsumerState::paused);
}

TEST_F(ConsumerPauseTest, OfAMovedFromConsumerIsRefused) {
  Consumer consumer{dsn(), options()};
  const Consumer other{std::move(consumer)};
  EXPECT_THROW(consumer.pause(), std::logic_error);   // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(consumer.resume(), std::logic_error);  // NOLINT(bugprone-use-after-move)
}

// For both transaction modes: what has to hold when a handler throws NotNow.
class NotNowTest : public ConsumerTest, public testing::WithParamInterface<TransactionMode> {
 protected:
  ConsumerOptions options() { return ConsumerTest::options(GetParam()); }
  bool split() const { return GetParam() == TransactionMode::split; }
  void expect_no_retry_used() {
    EXPECT_EQ(queue().retries(), 0);
    EXPECT_EQ(queue().dead_letters(), 0);
  }
};

INSTANTIATE_TEST_SUITE_P(Modes, NotNowTest, testing::Values(TransactionMode::per_batch, TransactionMode::split),
                         [](const auto& mode) {
                           return mode.param == TransactionMode::per_batch ? "per_batch" : "split";
                         });

TEST_P(NotNowTest, LeavesTheWholeBatchAndDeliversItAgain) {
  publish_numbers(4);
  std::vector<std::string> calls;
  std::vector<std::int32_t> attempts;
  bool down = true;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    calls.push_back(*message.payload);
    attempts.push_back(context.attempt());
    if (*message.payload == "1" && down) throw std::runtime_error{"it fails as well"};
    if (*message.payload == "2" && std::exchange(down, false)) throw NotNow{1ms, "payments are down"};
  });
  finish_batches(consumer);
  EXPECT_THAT(calls, ElementsAre("0", "1", "2", "0", "1", "2", "3"));
  EXPECT_THAT(attempts, Each(1));
  expect_no_retry_used();
  const auto stats = consumer.stats();
  EXPECT_EQ(stats.postponed, 1U);
  EXPECT_EQ(stats.abandoned, 0U);
  EXPECT_EQ(stats.failures, 1U);
  EXPECT_EQ(stats.retries, 0U);
  const auto lines = log.lines(LogEvent::batch_postponed);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].level, LogLevel::warning);
  EXPECT_THAT(lines[0].message, AllOf(HasSubstr("1 ms"), HasSubstr("payments are down")));
  EXPECT_THAT(lines[0].message,
              split() ? HasSubstr("come again") : testing::Matcher<std::string>(Not(HasSubstr("again"))));
  EXPECT_NE(lines[0].batch_id, std::nullopt);
  EXPECT_EQ(log.count(LogEvent::batch_abandoned), 0U);
}

TEST_P(NotNowTest, PausesForItsDelayAndThenGoesOn) {
  publish("1");
  std::vector<Clock::time_point> calls;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&) {
    calls.push_back(Clock::now());
    if (calls.size() == 1) throw NotNow{300ms};
  });
  finish_batches(consumer);
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_GE(calls[1] - calls[0], 300ms);
}

TEST_P(NotNowTest, IsEndedByResumeAndByStop) {
  publish("1");
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&) {
    ++calls;
    throw NotNow{1h, "closed"};
  });
  Running running{consumer};
  for (int call = 1; call <= 3; ++call) {
    ASSERT_TRUE(wait_until([&] { return consumer.stats().postponed == static_cast<std::uint64_t>(call); }));
    ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
    EXPECT_EQ(calls, call);
    if (call < 3) consumer.resume();
  }
  EXPECT_LT(running.stop_and_join(), promptly);
  EXPECT_EQ(running.error(), nullptr);
  expect_no_retry_used();
}

// A pause that was asked for does not end with NotNow's delay.
TEST_P(NotNowTest, DoesNotEndAPause) {
  publish("1");
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&) {
    if (++calls > 1) return;
    consumer.pause();
    throw NotNow{1ms};
  });
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
  EXPECT_FALSE(wait_until([&] { return calls > 1; }, a_while));
  consumer.resume();
  EXPECT_TRUE(wait_batches(consumer, 1));
}

TEST_P(NotNowTest, AnOutageInFrontOfTenThousandMessagesUsesUpNoRetry) {
  constexpr int count = 10'000;
  constexpr int looks = 30;
  queue().config("max_retries", "1");
  publish_numbers(count);
  std::atomic<int> looked{0};
  std::atomic<int> handled{0};
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&) {
    if (looked < looks) {
      ++looked;
      throw NotNow{1ms, "payments are down"};
    }
    ++handled;
  });
  finish_batches(consumer);
  EXPECT_EQ(looked, looks);
  EXPECT_EQ(handled, count);
  EXPECT_EQ(consumer.stats().postponed, static_cast<std::uint64_t>(looks));
  EXPECT_EQ(consumer.stats().failures, 0U);
  expect_no_retry_used();
}

TEST_P(NotNowTest, OnALaterPageLeavesTheEarlierPagesAsWell) {
  if (pooled() && split()) GTEST_SKIP() << "a pooler does not keep the cursor of pages";
  publish_numbers(5);
  auto paged = options();
  paged.max_messages = 2;
  std::vector<std::string> calls;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&, down = true](const Message& message) mutable {
    calls.push_back(*message.payload);
    if (!down) return;
    if (*message.payload == "0") throw std::runtime_error{"no"};
    if (*message.payload == "3") {
      down = false;
      throw NotNow{0ms};
    }
  });
  finish_batches(consumer);
  EXPECT_THAT(calls, ElementsAre("0", "1", "2", "3", "0", "1", "2", "3", "4"));
  expect_no_retry_used();
}

TEST_F(ConsumerPauseTest, NotNowRollsBackWhatTheHandlersOfTheBatchWrote) {
  const auto table = unique_name("not_now");
  sql()("create table " + table + " (payload text)");
  publish_numbers(3);
  bool down = true;
  Consumer consumer{direct_dsn(), options(TransactionMode::per_batch)};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec("insert into " + table + " values (" + context.transaction().quote(*message.payload) +
                               ")");
    if (*message.payload == "2" && std::exchange(down, false)) throw NotNow{0ms};
  });
  finish_batches(consumer);
  EXPECT_EQ(sql().value("select string_agg(payload, ',' order by payload) from " + table), "0,1,2");
  sql()("drop table " + table);
}

TEST_F(ConsumerPauseTest, NotNowOfOneOfSeveralThreadsLetsNoFurtherHandlerBegin) {
  constexpr int count = 100;
  constexpr int threads = 4;
  publish_numbers(count);
  auto concurrent = options();
  concurrent.concurrency = threads;
  std::atomic<bool> down{true};
  std::atomic<int> while_down{0};
  std::atomic<int> handled{0};
  Consumer consumer{dsn(), concurrent};
  consumer.on("t", [&](const Message&) {
    if (!down) {
      ++handled;
      return;
    }
    ++while_down;
    throw NotNow{1h};
  });
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::paused));
  EXPECT_LE(while_down, threads);  // those that had begun
  down = false;
  consumer.resume();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(handled, count);
  EXPECT_EQ(consumer.stats().postponed, 1U);
  EXPECT_EQ(queue().retries(), 0);
}

TEST_F(ConsumerPauseTest, NotNowLeavesAWorkerItsBatch) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish_numbers(2);
  std::vector<std::string> calls;
  std::vector<BatchId> batches;
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", [&](const Message& message, Context& context) {
    calls.push_back(*message.payload);
    batches.push_back(context.batch());
    if (calls.size() == 1) throw NotNow{0ms};
  });
  finish_batches(consumer);
  EXPECT_THAT(calls, ElementsAre("0", "0", "1"));
  EXPECT_THAT(batches, Each(batches.at(0)));
  EXPECT_EQ(consumer.stats().lost, 0U);
}

}  // namespace
}  // namespace pgque::test
