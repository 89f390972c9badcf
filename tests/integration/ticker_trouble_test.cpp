// What goes wrong around a ticker, and that it ticks on: locks, failing functions, queues that cannot be ticked. Each
// test also runs through PgBouncer, with `pooled`.

#include <pgque/ticker.hpp>

#include <csignal>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <pgque/signals.hpp>
#include <pqxx/pqxx>

#include "ticker_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using testing::StartsWith;

// A transaction of another session that holds what it locked until it is released.
class Holding {
 public:
  explicit Holding(const std::string& statement) {
    work_.emplace(other_.connection());
    work_->exec(statement);
  }
  void release() { work_.reset(); }

 private:
  Sql other_;
  std::optional<pqxx::work> work_;
};

class TickerTroubleTest : public TickerTest {
 protected:
  // All duties are due all the time, and so are attempts after errors.
  TickerOptions busy() {
    auto options = fast();
    options.maintenance_period = options.rotation_period = 5ms;
    options.reconnect = {1ms, 10ms};
    options.pooled = pooled();
    return options;
  }
  // As if the consumer had nacked that many messages of the queue.
  void put_up_for_retry(const TestQueue& of, int count, const std::string& due = "now()") {
    sql()(
        "insert into pgque.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, "
        "ev_data) "
        "select " +
        due + ", queue_id, i, now(), sub_id, 1, 't', '1' from pgque.queue join pgque.subscription on sub_queue = " +
        "queue_id, generate_series(1, " + std::to_string(count) + ") i where queue_name = " + sql().quote(of.name()));
  }
  auto logged(const std::string& beginning, const std::string& part) {
    return Contains(Field(&LogCapture::Line::message, AllOf(StartsWith(beginning), HasSubstr(part))));
  }
};

// The row of a queue is locked by whoever changes its configuration. Seen: no tick on any queue, a stop took 6 s.
TEST_F(TickerTroubleTest, ALockedQueueWhoseRotationIsDueStopsNoTicksAndNoRotationOfOthers) {
  TestQueue busy_queue{sql()};
  make_rotation_due(busy_queue);
  make_rotation_due(queue());
  Holding lock{"select pgque.set_queue_config(" + sql().quote(busy_queue.name()) + ", 'ticker_max_lag', '1 hour')"};
  const auto switched = setting(queue(), "queue_switch_time");
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance_errors >= 2; })) << "of the queue, and of all";
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_TRUE(wait_until([&] { return setting(queue(), "queue_switch_time") != switched; }));
  EXPECT_EQ(ticker.stats().maintenance, 0U);
  EXPECT_EQ(ticker.stats().tick_errors, 0U);
  EXPECT_THAT(ticker_log.lines(LogEvent::failed), logged("maint: ", "the queues that can be rotated"));
  EXPECT_THAT(ticker_log.lines(LogEvent::failed), Contains(Field(&LogCapture::Line::queue, busy_queue.name())));
  lock.release();
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 1; }));
  EXPECT_FALSE(running.ended());
}

// maint() fails for all queues. Seen: so did the look for the queues to rotate.
TEST_F(TickerTroubleTest, ARotationPeriodThatIsOutOfRangeStopsNoRotationOfOthers) {
  TestQueue odd{sql()};
  odd.config("rotation_period", "300000 years");
  make_rotation_due(queue());
  const auto switched = setting(queue(), "queue_switch_time");
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  EXPECT_TRUE(wait_until([&] { return setting(queue(), "queue_switch_time") != switched; }));
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance_errors >= 1; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_THAT(ticker_log.lines(LogEvent::failed), logged("maint: ", "the queues that can be rotated"));
  odd.config("rotation_period", "2 hours");
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 1; }));
}

TEST_F(TickerTroubleTest, ALockedQueueKeepsItsLagAndStopsNothingElse) {
  TestQueue busy_queue{sql()};
  busy_queue.config("ticker_max_lag", "1 hour");
  Holding lock{"update pgque.queue set queue_max_retries = 1 where queue_name = " + sql().quote(busy_queue.name())};
  auto lowering = busy();
  lowering.ticker_max_lag = 50ms;
  Ticker ticker{dsn(), lowering};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().max_lag_errors >= 1 && ticker.stats().maintenance >= 1; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_THAT(ticker_log.lines(LogEvent::failed), logged("lower ticker_max_lag: ", "no queue's ticker_max_lag"));
  lock.release();
  EXPECT_TRUE(wait_until([&] { return setting(busy_queue, "queue_ticker_max_lag") == "00:00:00.05"; }));
}

// Seen: `pgque tick` ended at each start, and no queue was ticked.
TEST_F(TickerTroubleTest, AQueueWithoutInsertsAndADueRetryStopsNoTicks) {
  TestQueue refusing{sql()};
  client().subscribe(refusing, consumer_name());
  put_up_for_retry(refusing, 1);
  put_up_for_retry(queue(), 1);
  const auto set_refusing = [&](const std::string& value) {
    sql()("update pgque.queue set queue_disable_insert = " + value +
          " where queue_name = " + sql().quote(refusing.name()));
  };
  set_refusing("true");
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().retry_errors >= 2; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 2; }));
  EXPECT_EQ(ticker.stats().retries, 0U);
  EXPECT_THAT(ticker_log.lines(LogEvent::failed),
              logged("maint_retry_events: Insert into queue disallowed",
                     "the retries of all queues wait behind those of queue \"" + refusing.name() + '"'));
  set_refusing("false");
  EXPECT_TRUE(wait_until([&] { return ticker.stats().retries == 2; }));
  EXPECT_FALSE(running.ended());
}

TEST_F(TickerTroubleTest, AFailingMaintenanceFunctionStopsNoTicks) {
  put_up_for_retry(queue(), 1);
  std::optional<MaintenanceFunction> failing{std::in_place, sql(), queue(), "raise exception 'no'"};
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance_errors >= 2 && ticker.stats().retries == 1; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_EQ(ticker.stats().maintenance, 0U);
  EXPECT_THAT(ticker_log.lines(LogEvent::failed), logged("maint: no ", "nothing is maintained but"));
  failing.reset();
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 1; }));
  EXPECT_FALSE(running.ended());
}

TEST_F(TickerTroubleTest, AConsumerAtATickThatDoesNotExistStopsNoTicks) {
  make_rotation_due(queue());
  sql()("update pgque.subscription set sub_last_tick = 5000 where sub_queue = " + setting(queue(), "queue_id"));
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance_errors >= 2; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_THAT(
      ticker_log.lines(LogEvent::failed),
      logged("maint: queue " + queue().name() + " maint failure: tick 5000 not found", "unsubscribe it, or move it"));
  EXPECT_FALSE(running.ended());
}

// What takes PgQue's retries from all others for as long as it lasts.
class BlockedRetriesTest : public TickerTroubleTest, public testing::WithParamInterface<std::string> {};

TEST_P(BlockedRetriesTest, StopNoTicksAndOneSignalEndsTheTicker) {
  put_up_for_retry(queue(), 1);
  Holding lock{GetParam()};
  Ticker ticker{dsn(), busy()};
  stop_on_signals(ticker);
  {
    Running running{ticker};
    ASSERT_TRUE(wait_until([&] { return ticker.stats().retry_errors >= 1; }));
    EXPECT_TRUE(is_ticked(queue()));
    EXPECT_EQ(ticker.stats().retries, 0U);
    EXPECT_THAT(ticker_log.lines(LogEvent::failed),
                logged("maint_retry_events: ", "until this works, the retries of all queues wait"));
    EXPECT_THAT(ticker_log.lines(LogEvent::failed), Contains(Field(&LogCapture::Line::sqlstate, "55P03")));
    ::kill(::getpid(), SIGTERM);
    ASSERT_TRUE(running.wait_ended(promptly));
    EXPECT_EQ(running.error(), nullptr);
  }
  lock.release();
  Running running{ticker};
  EXPECT_TRUE(wait_until([&] { return ticker.stats().retries == 1; }));
}

// As VACUUM, and as VACUUM FULL.
INSTANTIATE_TEST_SUITE_P(By, BlockedRetriesTest,
                         testing::Values("select pgque.maint_retry_events()",
                                         "lock table pgque.retry_queue in share update exclusive mode",
                                         "lock table pgque.retry_queue in access exclusive mode"));

// Otherwise each second one lock would keep autovacuum from its work.
TEST_F(TickerTroubleTest, NothingIsLockedForRetriesThatAreNotDue) {
  put_up_for_retry(queue(), 1, "now() + interval '1 hour'");
  const Holding lock{"lock table pgque.retry_queue in share update exclusive mode"};
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  // All duties that are due have a turn, one after another.
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 5; }));
  EXPECT_EQ(ticker.stats().retry_errors, 0U);
  EXPECT_EQ(ticker.stats().last_error, "");
}

TEST_F(TickerTroubleTest, ManyDueRetriesDelayNeitherTicksNorMaintenance) {
  constexpr int count = 1000;
  put_up_for_retry(queue(), count);
  const auto trigger = unique_name("slow");
  sql()("create function public." + trigger +
        "() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05); return old; end $$; create trigger " +
        trigger + " before delete on pgque.retry_queue for each row execute function public." + trigger + "()");
  Ticker ticker{dsn(), busy()};
  {
    Running running{ticker};
    EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 3; }));
    EXPECT_TRUE(is_ticked(queue()));
    EXPECT_GT(queue().retries(), 0) << "maintenance or ticks waited for the last of them";
    sql()("drop function public." + trigger + "() cascade");
    EXPECT_TRUE(wait_until([&] { return ticker.stats().retries == count; }));
  }
  EXPECT_EQ(queue().retries(), 0);
}

TEST_F(TickerTroubleTest, AQueueThatCannotBeTickedStopsNoOther) {
  TestQueue bad{sql()};
  let_tick(bad);
  // As after a restore into a younger cluster.
  sql()("update pgque.tick set tick_snapshot = '9000000000:9000000000:' where tick_queue = " +
        setting(bad, "queue_id"));
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().tick_errors >= 3; }));
  const auto before = last_tick(bad);
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_EQ(last_tick(bad), before);
  EXPECT_TRUE(ticker.stats().leader);
  EXPECT_THAT(ticker_log.lines(LogEvent::failed), logged("ticker: Invalid PgQ state", "ticked one by one"));
  EXPECT_THAT(ticker_log.lines(LogEvent::failed),
              logged("ticker (queue \"" + bad.name() + "\"): Invalid PgQ state", "restored into a younger cluster"));
  EXPECT_THAT(ticker_log.lines(LogEvent::failed), Contains(Field(&LogCapture::Line::queue, bad.name())));
  sql()("update pgque.tick set tick_snapshot = pg_current_snapshot() where tick_queue = " + setting(bad, "queue_id"));
  EXPECT_TRUE(is_ticked(bad));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_FALSE(running.ended());
}

TEST_F(TickerTroubleTest, AQueueThatIsBeingDroppedStopsNoOther) {
  TestQueue doomed{sql()};
  let_tick(doomed);
  const Holding dropping{"select pgque.drop_queue(" + sql().quote(doomed.name()) + ", true)"};
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().tick_errors >= 1; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_FALSE(running.ended());
}

// PgQue calls the function in the transaction that rotates, which keeps each queue that it may rotate from being
// ticked.
TEST_F(TickerTroubleTest, AHangingMaintenanceFunctionStopsNoTicksOfAQueueWhoseRotationIsDue) {
  TestQueue other{sql()};
  make_rotation_due(queue());
  const MaintenanceFunction hanging{sql(), other, "perform pg_sleep(50)"};
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return hanging.running(); }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_EQ(ticker.stats().tick_errors, 0U);
}

// The functions would go on for longer than any test waits.
TEST_F(TickerTroubleTest, StopsWhileMaintenanceHangs) {
  const MaintenanceFunction hanging{sql(), queue(), "perform pg_sleep(50)"};
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return hanging.running(); }));
  EXPECT_TRUE(is_ticked(queue()));
  const auto took = running.stop_and_join();
  record("stop", took);
  EXPECT_LT(took, 5s);
  EXPECT_EQ(running.error(), nullptr);
  EXPECT_EQ(ticker.stats().last_error, "");
  EXPECT_TRUE(wait_until([&] { return !hanging.running(); })) << "the server goes on";
}

TEST_F(TickerTroubleTest, StopsWhileATickHangs) {
  const auto trigger = unique_name("hanging");
  sql()("create function public." + trigger +
        "() returns trigger language plpgsql as $$ begin perform pg_sleep(25); return new; end $$; create trigger " +
        trigger + " before insert on pgque.tick for each row when (new.tick_queue = " + setting(queue(), "queue_id") +
        ") execute function public." + trigger + "()");
  Ticker ticker{dsn(), busy()};
  Running running{ticker};
  EXPECT_TRUE(wait_until([&] {
    client().send(queue(), "1");
    return sql().number(
               "select count(*) from pg_stat_activity where datname = current_database() and wait_event = "
               "'PgSleep' and query like '%pgque.ticker()%'") == 1;
  }));
  const auto took = running.stop_and_join();
  record("stop", took);
  sql()("drop function public." + trigger + "() cascade");
  EXPECT_LT(took, 5s);
  EXPECT_EQ(running.error(), nullptr);
  EXPECT_EQ(ticker.stats().last_error, "");
}

TEST_F(TickerTroubleTest, ADutySessionThatIsLostIsReplacedAndTicksGoOn) {
  Ticker ticker{watched_dsn(), busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 1; }));
  ASSERT_EQ(kill_other_sessions(), 1);
  ASSERT_TRUE(wait_until([&] { return ticker.stats().connection_errors != 0; }));
  EXPECT_EQ(ticker.stats().connection_errors, 1U);
  const auto maintained = ticker.stats().maintenance;
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance > maintained; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_EQ(ticker.stats().reconnects, 0U);
  EXPECT_EQ(ticker.stats().maintenance_errors + ticker.stats().retry_errors + ticker.stats().rotation_errors, 0U);
  EXPECT_EQ(ticker_log.count(LogEvent::connection_lost), 1U);
}

TEST_F(TickerTroubleTest, DutiesThatCannotConnectStopNoTicks) {
  const auto role_dsn = dsn_of_role_with({"pgque_admin"});
  const auto role = role_of(role_dsn);
  sql()("alter role " + role + " connection limit 1");
  Ticker ticker{role_dsn, busy()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().connection_errors >= 2; }));
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_THAT(ticker_log.lines(LogEvent::connection_lost),
              logged("connect: ", "maintenance and retries wait for a connection, ticks do not"));
  sql()("alter role " + role + " connection limit 2");
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 1; }));
  EXPECT_FALSE(running.ended());
}

// A role's limits are for its programs; maintenance could never succeed within them.
TEST_F(TickerTroubleTest, TheTimeoutsOfTheRoleDoNotApply) {
  const MaintenanceFunction slow{sql(), queue(), "perform pg_sleep(4)"};
  Ticker ticker{dsn_of_role_set({{"statement_timeout", "'3s'"}}), busy()};
  Running running{ticker};
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 1; }));
  EXPECT_EQ(ticker.stats().last_error, "");
}

}  // namespace
}  // namespace pgque::test
