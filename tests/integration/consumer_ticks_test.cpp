// A queue that gets no ticks: a consumer says so, because nothing is delivered then.

#include <optional>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// The queue's ticker_idle_period is one day, and no ticker ticks it.
class ConsumerTicksTest : public ConsumerTest {
 protected:
  // A consumer that looks for ticks soon.
  ConsumerOptions impatient() {
    auto with = options();
    with.no_ticks_after = 50ms;
    return with;
  }
  // As if all ticks had been made that much earlier.
  void age_ticks(const std::string& interval) {
    sql()("update pgque.tick set tick_time = tick_time - interval '" + interval + "' where tick_queue = " + queue_id());
  }
  bool wait_warnings(std::size_t count) {
    return wait_until([&] { return log.count(LogEvent::no_ticks) >= count; });
  }
  // Until the consumer has looked for ticks, and has asked the server for nothing since then.
  bool wait_looked() {
    return wait_until(
        [&] { return sql().value("select query" + watched()).value_or("").find("ev_time") != std::string::npos; });
  }
};

TEST_F(ConsumerTicksTest, OneWarningSaysWhatToDo) {
  age_ticks("2 days");
  Consumer consumer{dsn(), impatient()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_warnings(1));
  const auto line = log.lines(LogEvent::no_ticks)[0];
  EXPECT_EQ(line.level, LogLevel::warning);
  EXPECT_EQ(line.queue, queue().name());
  EXPECT_THAT(line.message, AllOf(HasSubstr("no tick for 2 d"), HasSubstr("pgque tick"), HasSubstr("pgque::Ticker"),
                                  HasSubstr("pgque.start()")));
}

TEST_F(ConsumerTicksTest, TheWarningIsRepeatedOnlyAfterTicksHaveComeAndStayAwayAgain) {
  age_ticks("2 days");
  auto often = impatient();
  often.poll_interval = 1ms;
  Consumer consumer{dsn(), often};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_warnings(1));
  publish("1");
  age_ticks("2 days");
  ASSERT_TRUE(wait_warnings(2));
  EXPECT_EQ(log.count(LogEvent::no_ticks), 2U);
}

TEST_F(ConsumerTicksTest, ATickThatIsYoungEnoughForAnIdleQueueIsNoReason) {
  age_ticks("1 hour");
  Consumer consumer{watched_dsn(), impatient()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_looked());
  EXPECT_EQ(log.count(LogEvent::no_ticks), 0U);
}

// Events that wait are to be ticked after ticker_max_lag, whatever ticker_idle_period is. It is the queue's first
// event.
TEST_F(ConsumerTicksTest, TheSameTickIsTooOldWhereAnEventWaitsTooLong) {
  queue().config("ticker_paused", "true");
  queue().config("ticker_max_lag", "10 minutes");
  client().send(queue(), "1", "t");
  age_ticks("1 hour");
  sql()("update " + *sql().value("select queue_data_pfx from pgque.queue where queue_id = " + queue_id()) +
        " set ev_time = ev_time - interval '1 hour'");
  Consumer consumer{dsn(), impatient()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_warnings(1));
}

TEST_F(ConsumerTicksTest, AnEventThatHasJustComeIsNoReason) {
  queue().config("ticker_paused", "true");
  queue().config("ticker_max_lag", "10 minutes");
  client().send(queue(), "1", "t");
  age_ticks("1 hour");
  Consumer consumer{watched_dsn(), impatient()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_looked());
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_EQ(log.count(LogEvent::no_ticks), 0U);
}

TEST_F(ConsumerTicksTest, AQueueThatMayBeIdleForEverIsNotAskedAgainAndAgain) {
  queue().config("ticker_idle_period", "1000 years");
  age_ticks("2 days");
  Consumer consumer{watched_dsn(), impatient()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_looked());
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto last = sql().value("select query_start" + watched());
  EXPECT_FALSE(wait_until([&] { return sql().value("select query_start" + watched()) != last; }, 500ms));
  EXPECT_EQ(log.count(LogEvent::no_ticks), 0U);
}

// It waits for a lock on the events until the role's limit, which nothing else needs while there is nothing to receive.
TEST_F(ConsumerTicksTest, ALookThatFailsStopsNothing) {
  const auto limited = dsn_of_role_set({{"lock_timeout", "'10ms'"}});
  const auto events = sql().value("select queue_data_pfx from pgque.queue where queue_id = " + queue_id());
  Consumer consumer{limited, impatient()};
  Seen seen;
  consumer.on("t", seen.handler());
  std::optional<pqxx::work> lock{std::in_place, sql().connection()};
  lock->exec("lock table " + *events + " in access exclusive mode");
  Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return log.count(LogEvent::failed) != 0; }));
  lock.reset();
  publish("1");
  ASSERT_TRUE(wait_batches(consumer, 1));
  const auto failed = log.lines(LogEvent::failed);
  ASSERT_FALSE(failed.empty());
  EXPECT_EQ(failed[0].level, LogLevel::info);
  EXPECT_THAT(failed[0].message, HasSubstr("look for ticks"));
  EXPECT_EQ(consumer.stats().reconnects, 0U);
  EXPECT_EQ(consumer.stats().last_error, "");
}

TEST_F(ConsumerTicksTest, APausedQueueIsCalledSo) {
  queue().config("ticker_paused", "true");
  age_ticks("2 days");
  Consumer consumer{dsn(), impatient()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_warnings(1));
  EXPECT_THAT(log.lines(LogEvent::no_ticks)[0].message, HasSubstr("pgque queue set '" + queue().name() + "' --resume"));
}

TEST_F(ConsumerTicksTest, AnExternalTickerIsCalledSo) {
  queue().config("external_ticker", "true");
  age_ticks("2 days");
  Consumer consumer{dsn(), impatient()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_warnings(1));
  EXPECT_THAT(log.lines(LogEvent::no_ticks)[0].message, HasSubstr("external_ticker"));
}

TEST_F(ConsumerTicksTest, ZeroSwitchesItOff) {
  auto never = impatient();
  never.no_ticks_after = 0ms;
  never.poll_interval = 1ms;
  Consumer consumer{dsn(), never};
  consumer.on("*", ignore);
  Running running{consumer};
  publish("1");
  ASSERT_TRUE(wait_batches(consumer, 1));
  age_ticks("2 days");
  // It waits, and polls, with the old tick.
  for (int polls = 0; polls < 3; ++polls) {
    ASSERT_TRUE(wait_state(consumer, ConsumerState::receiving));
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  }
  EXPECT_EQ(log.count(LogEvent::no_ticks), 0U);
}

}  // namespace
}  // namespace pgque::test
