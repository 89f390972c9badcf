// The embedded scheduler: ticks, retries and maintenance, one active ticker per database.

#include <pgque/ticker.hpp>

#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <pgque/consumer.hpp>
#include <pgque/signals.hpp>
#include <pqxx/pqxx>

#include "ticker_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAreArray;

TEST_F(TickerTest, TicksMakeMessagesVisible) {
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  Running run_consumer{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  Ticker ticker{dsn(), fast()};
  Running run_ticker{ticker};
  for (std::size_t i = 1; i <= 5; ++i) {
    const auto begin = Clock::now();
    client().send(queue(), std::to_string(i), "t");
    ASSERT_TRUE(wait_until([&] { return seen.size() == i; }, promptly));
    record("send_to_handler", Clock::now() - begin);
  }
  EXPECT_THAT(seen.payloads(), ElementsAre("1", "2", "3", "4", "5"));
  EXPECT_GE(ticker.stats().ticks, 5U);
}

TEST_F(TickerTest, BringsBackManyRetriesInOneRound) {
  const auto ids = publish_numbers(25);
  auto impatient = options();
  impatient.retry_after = 0s;
  Seen again;
  Consumer consumer{dsn(), impatient};
  consumer.on("t", [&](const Message& message) {
    if (!message.retry_count) throw std::runtime_error{"no"};
    again(message);
  });
  Running run_consumer{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  ASSERT_EQ(queue().retries(), 25);

  auto once_an_hour = fast();
  once_an_hour.retry_period = 1h;  // PgQue moves ten per call, so one call would leave fifteen
  Ticker ticker{dsn(), once_an_hour};
  Running run_ticker{ticker};
  EXPECT_TRUE(wait_until([&] { return again.size() == 25; }, promptly));
  EXPECT_THAT(again.ids(), UnorderedElementsAreArray(ids));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(ticker.stats().retries, 25U);
}

TEST_F(TickerTest, DeadLettersAppearAfterTheLastRetryWithNothingElseRunning) {
  queue().config("max_retries", "1");
  auto impatient = options();
  impatient.retry_after = 0s;
  std::vector<std::int32_t> attempts;
  Consumer consumer{dsn(), impatient};
  consumer.on("t", [&](const Message&, Context& context) {
    attempts.push_back(context.attempt());
    throw std::runtime_error{"attempt " + std::to_string(context.attempt())};
  });
  Ticker ticker{dsn(), fast()};
  {
    Running run_consumer{consumer};
    Running run_ticker{ticker};
    client().send(queue(), "1", "t");
    ASSERT_TRUE(wait_until([&] { return queue().dead_letters() == 1; }));
    ASSERT_TRUE(wait_batches(consumer, 2));
  }
  EXPECT_THAT(attempts, ElementsAre(1, 2));
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("handler error: attempt 2"));
  EXPECT_EQ(queue().retries(), 0);
}

TEST_F(TickerTest, LowersTickerMaxLagAndNeverRaisesIt) {
  TestQueue slow{sql()};
  TestQueue fresh{sql(), "o'clock \"x\""};
  slow.config("ticker_max_lag", "1 hour");
  auto lowering = once();
  lowering.ticker_max_lag = 50ms;
  Ticker ticker{dsn(), lowering};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance == 1; }));
  EXPECT_EQ(setting(slow, "queue_ticker_max_lag"), "00:00:00.05");
  EXPECT_EQ(setting(fresh, "queue_ticker_max_lag"), "00:00:00.05");
  EXPECT_EQ(setting(queue(), "queue_ticker_max_lag"), "00:00:00.001");
  running.stop_and_join();
  EXPECT_EQ(running.error(), nullptr);
}

TEST_F(TickerTest, LooksAtTickerMaxLagWithEveryMaintenance) {
  TestQueue other{sql()};
  auto lowering = fast();
  lowering.maintenance_period = 5ms;
  lowering.ticker_max_lag = 50ms;
  Ticker ticker{dsn(), lowering};
  Running running{ticker};
  for (int i = 0; i < 2; ++i) {
    other.config("ticker_max_lag", "1 hour");
    EXPECT_TRUE(wait_until([&] { return setting(other, "queue_ticker_max_lag") == "00:00:00.05"; }));
  }
}

TEST_F(TickerTest, LeavesQueuesAloneByDefault) {
  Ticker ticker{dsn(), once()};
  TestQueue other{sql()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance == 1; }));
  EXPECT_EQ(setting(other, "queue_ticker_max_lag"), "1 day");
}

TEST_F(TickerTest, MaintainsAndFinishesTableRotations) {
  sql()("update pgque.queue set queue_switch_step2 = null where queue_name = " + sql().quote(queue().name()));
  auto often = fast();
  often.maintenance_period = 5ms;
  often.rotation_period = 5ms;
  Ticker ticker{dsn(), often};
  Running running{ticker};
  EXPECT_TRUE(wait_until([&] { return setting(queue(), "queue_switch_step2") != "NULL"; }));
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance >= 3; }));
  EXPECT_EQ(ticker.stats().last_error, "");
}

TEST_F(TickerTest, AQueueThatIsPausedOrTickedFromElsewhereDoesNotHinderTheOthers) {
  TestQueue paused{sql()};
  TestQueue external{sql()};
  let_tick(paused);
  let_tick(external);
  paused.config("ticker_paused", "true");
  external.config("external_ticker", "true");
  const auto paused_before = last_tick(paused);
  const auto external_before = last_tick(external);
  Ticker ticker{dsn(), fast()};
  Running running{ticker};
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_EQ(last_tick(paused), paused_before);
  EXPECT_EQ(last_tick(external), external_before);
  EXPECT_EQ(ticker.stats().last_error, "");
}

TEST_F(TickerTest, OnlyOneOfTwoIsActiveAndTheOtherTakesOverWhenItStops) {
  Ticker first{dsn(), fast()};
  Ticker second{dsn(), fast()};
  Running run_first{first};
  ASSERT_TRUE(wait_leader(first));
  Running run_second{second};
  ASSERT_TRUE(wait_until([&] { return ticker_log.count(LogEvent::standby) == 1; }));
  client().send(queue(), "1");
  const auto ticks = first.stats().ticks;
  EXPECT_TRUE(wait_until([&] {
    client().send(queue(), "1");
    return first.stats().ticks >= ticks + 2;
  }));
  EXPECT_FALSE(second.stats().leader);
  EXPECT_EQ(second.stats().ticks, 0U);
  EXPECT_EQ(second.stats().maintenance, 0U);
  EXPECT_EQ(ticker_log.count(LogEvent::standby), 1U);  // said once, not at every look

  const auto begin = Clock::now();
  run_first.stop_and_join();
  EXPECT_FALSE(first.stats().leader);
  ASSERT_TRUE(wait_until([&] { return second.stats().leader; }, promptly));
  record("takeover_after_stop", Clock::now() - begin);
  EXPECT_TRUE(wait_until([&] {
    client().send(queue(), "1");
    return second.stats().ticks >= 2;
  }));
  EXPECT_EQ(ticker_log.count(LogEvent::leader), 2U);
}

// With `pooled` the lead lasts for a transaction: a session's lock would stay with the pooler.
class PooledTickerTest : public TickerTest {};

TEST_F(PooledTickerTest, StandsByWhileAnotherHoldsTheLeadAndThenDoesEverything) {
  TestQueue ticked{sql()};
  let_tick(ticked);
  Ticker direct{direct_dsn(), fast()};
  auto through_a_pooler = fast();
  through_a_pooler.pooled = true;
  Ticker pooled_one{dsn(), through_a_pooler};
  Running run_direct{direct};
  ASSERT_TRUE(wait_leader(direct));
  Running run_pooled{pooled_one};
  ASSERT_TRUE(wait_until([&] { return ticker_log.count(LogEvent::standby) == 1; }));
  EXPECT_TRUE(wait_until([&] {
    client().send(ticked, "1");
    return direct.stats().ticks >= 2;
  }));
  EXPECT_EQ(pooled_one.stats().ticks, 0U);
  EXPECT_EQ(pooled_one.stats().maintenance, 0U);
  EXPECT_FALSE(pooled_one.stats().leader);

  run_direct.stop_and_join();
  ASSERT_TRUE(wait_until([&] { return pooled_one.stats().leader && pooled_one.stats().maintenance == 1; }));
  std::vector<EventId> ids;
  for (int i = 0; i < 25; ++i) ids.push_back(client().send(queue(), std::to_string(i), "t"));
  auto impatient = options();
  impatient.retry_after = 0s;
  Seen again;
  Consumer consumer{dsn(), impatient};
  consumer.on("t", [&](const Message& message) {
    if (!message.retry_count) throw std::runtime_error{"no"};
    again(message);
  });
  Running run_consumer{consumer};
  EXPECT_TRUE(wait_until([&] { return again.size() == 25; }));
  EXPECT_THAT(again.ids(), UnorderedElementsAreArray(ids));
  EXPECT_EQ(pooled_one.stats().retries, 25U);
  EXPECT_GE(pooled_one.stats().ticks, 1U);
  EXPECT_EQ(ticker_log.count(LogEvent::standby), 1U);
}

TEST_F(PooledTickerTest, TakesTurnsWithAnotherPooledOneAndMaintainsNoMoreOften) {
  TestQueue ticked{sql()};
  let_tick(ticked);
  auto through_a_pooler = fast();
  through_a_pooler.pooled = true;
  Ticker first{dsn(), through_a_pooler};
  Ticker second{dsn(), through_a_pooler};
  Running run_first{first};
  Running run_second{second};
  EXPECT_TRUE(wait_until([&] {
    client().send(ticked, "1");
    return first.stats().ticks >= 20 && second.stats().ticks >= 20;
  }));
  // One may have found the other in the middle of a long transaction, and stand by for a moment.
  for (const auto* const ticker : {&first, &second}) {
    EXPECT_TRUE(wait_leader(*ticker));
    EXPECT_EQ(ticker->stats().maintenance, 1U);
    EXPECT_EQ(ticker->stats().last_error, "");
  }
}

// Both would take turns with other tickers by the same lock.
TEST_F(PooledTickerTest, ItsTicksDoNotWaitForItsMaintenance) {
  TestQueue ticked{sql()};
  let_tick(ticked);
  const MaintenanceFunction slow{sql(), queue(), "perform pg_sleep(30)"};
  auto through_a_pooler = fast();
  through_a_pooler.pooled = true;
  Ticker pooled_one{dsn(), through_a_pooler};
  Running run_pooled{pooled_one};
  ASSERT_TRUE(wait_until([&] { return slow.running(); }));
  EXPECT_TRUE(is_ticked(ticked));
  EXPECT_TRUE(slow.running());
  EXPECT_TRUE(pooled_one.stats().leader);
  EXPECT_EQ(ticker_log.count(LogEvent::standby), 0U);
  EXPECT_LT(run_pooled.stop_and_join(), promptly);
}

TEST_F(PooledTickerTest, LeavesNoLockBehind) {
  auto through_a_pooler = fast();
  through_a_pooler.pooled = true;
  Ticker pooled_one{dsn(), through_a_pooler};
  Running run_pooled{pooled_one};
  ASSERT_TRUE(wait_leader(pooled_one));
  run_pooled.stop_and_join();
  EXPECT_FALSE(pooled_one.stats().leader);
  Ticker direct{direct_dsn(), fast()};
  Running run_direct{direct};
  EXPECT_TRUE(wait_leader(direct));
  EXPECT_EQ(ticker_log.count(LogEvent::standby), 0U);
}

TEST_F(TickerTest, AnotherTakesOverWhenTheActiveOneLosesItsSession) {
  auto slow_to_return = fast();
  slow_to_return.reconnect = {30s, 30s};
  Ticker first{watched_dsn(), slow_to_return};
  Ticker second{dsn(), fast()};
  Running run_first{first};
  ASSERT_TRUE(wait_leader(first));
  Running run_second{second};
  ASSERT_TRUE(wait_until([&] { return ticker_log.count(LogEvent::standby) == 1; }));
  const auto begin = Clock::now();
  ASSERT_EQ(kill_ticking_session(), 1);
  ASSERT_TRUE(wait_until([&] { return second.stats().leader; }, promptly));
  record("takeover_after_kill", Clock::now() - begin);
  EXPECT_TRUE(wait_until([&] { return !first.stats().leader; }));
}

TEST_F(TickerTest, ReconnectsAfterItsSessionWasKilled) {
  Ticker ticker{watched_dsn(), fast()};
  Running running{ticker};
  ASSERT_TRUE(wait_leader(ticker));
  EXPECT_EQ(ticker.stats().reconnects, 0U);
  ASSERT_EQ(kill_ticking_session(), 1);
  ASSERT_TRUE(wait_until([&] { return ticker.stats().reconnects == 1 && ticker.stats().leader; }, promptly));
  const auto ticks = ticker.stats().ticks;
  EXPECT_TRUE(wait_until([&] {
    client().send(queue(), "1");
    return ticker.stats().ticks > ticks;
  }));
  EXPECT_NE(ticker.stats().last_error, "");
  EXPECT_EQ(ticker_log.count(LogEvent::connection_lost), 1U);
  EXPECT_EQ(ticker_log.lines(LogEvent::connection_lost)[0].level, LogLevel::warning);
  running.stop_and_join();
  EXPECT_EQ(running.error(), nullptr);
}

TEST_F(TickerTest, AMissingGrantStopsItAndNamesTheRole) {
  for (const auto& roles : {std::vector<std::string>{}, std::vector<std::string>{"pgque_reader", "pgque_writer"}}) {
    Ticker ticker{dsn_of_role_with(roles), fast()};
    Running running{ticker};
    ASSERT_TRUE(running.wait_ended());
    EXPECT_THAT(what(running.error()), AllOf(HasSubstr("42501"), HasSubstr("pgque_admin")));
    EXPECT_FALSE(ticker.stats().leader);
    EXPECT_EQ(ticker.stats().last_error, what(running.error()));
  }
}

TEST_F(TickerTest, AStandbyWithoutTheGrantFailsAtItsStart) {
  Ticker active{direct_dsn(), fast()};
  Running run_active{active};
  ASSERT_TRUE(wait_leader(active));
  for (const bool pooled : {false, true}) {
    auto standing_by = fast();
    standing_by.pooled = pooled;
    Ticker ticker{dsn_of_role_with({"pgque_reader", "pgque_writer"}), standing_by};
    Running running{ticker};
    ASSERT_TRUE(running.wait_ended());
    EXPECT_EQ(what(running.error()),
              "ticker: permission denied for function ticker [SQLSTATE 42501]: grant the role pgque_admin to the "
              "connecting user");
  }
  EXPECT_EQ(ticker_log.count(LogEvent::standby), 0U);
  EXPECT_TRUE(active.stats().leader);
}

TEST_F(TickerTest, TheAdminRoleIsAllItNeeds) {
  auto everything = fast();
  everything.maintenance_period = everything.rotation_period = 5ms;
  everything.ticker_max_lag = 50ms;
  TestQueue other{sql()};
  other.config("ticker_max_lag", "1 hour");
  make_rotation_due(other);
  const auto switched = setting(other, "queue_switch_time");
  client().send(queue(), "1");
  queue().tick();
  const auto messages = client().receive(queue(), consumer_name());
  client().nack(messages.at(0), {0s});
  client().ack(messages[0].batch_id);
  Ticker ticker{dsn_of_role_with({"pgque_admin"}), everything};
  Running running{ticker};
  EXPECT_TRUE(wait_until([&] {
    client().send(queue(), "1");
    return ticker.stats().maintenance >= 2 && ticker.stats().ticks >= 2 && ticker.stats().retries == 1;
  }));
  EXPECT_NE(setting(other, "queue_switch_time"), switched);
  EXPECT_EQ(ticker.stats().last_error, "");
}

TEST_F(TickerTest, OnErrorRetryGoesOnUntilTheGrantIsThere) {
  const auto role_dsn = dsn_of_role_with({});
  std::atomic<int> asked{0};
  auto retrying = fast();
  retrying.reconnect = {1ms, 10ms};
  retrying.on_error = [&](const Error& error) {
    EXPECT_EQ(error.sqlstate(), "42501");
    ++asked;
    return ErrorAction::retry;
  };
  Ticker ticker{role_dsn, retrying};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return asked >= 2; }));
  sql()("grant pgque_admin to " + role_of(role_dsn));
  EXPECT_TRUE(wait_until([&] {
    client().send(queue(), "1");
    return ticker.stats().ticks >= 1;
  }));
}

TEST_F(TickerTest, AFirstConnectionThatFailsIsThrownAtOnce) {
  auto patient = fast();
  patient.reconnect = {30s, 30s};
  Ticker ticker{"host=127.0.0.1 port=1 dbname=nowhere", patient};
  const auto begin = Clock::now();
  EXPECT_THROW(ticker.start(), ConnectionError);
  EXPECT_LT(Clock::now() - begin, promptly);
}

class DroppedQueueTest : public TickerTest, public testing::WithParamInterface<bool> {};

TEST_P(DroppedQueueTest, IsNoReasonToStop) {
  const bool lowering = GetParam();
  TestQueue doomed{sql()};
  let_tick(doomed);
  if (lowering) doomed.config("ticker_max_lag", "1 hour");
  Sql other;
  std::optional<pqxx::work> dropping{std::in_place, other.connection()};
  dropping->exec("select pgque.drop_queue(" + sql().quote(doomed.name()) + ", true)");
  auto with = fast();
  if (lowering) with.ticker_max_lag = 50ms;
  with.reconnect = {1ms, 10ms};
  Ticker ticker{watched_dsn(), with};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  dropping->commit();
  dropping.reset();
  EXPECT_TRUE(wait_until([&] {
    client().send(queue(), "1");
    return ticker.stats().ticks >= 2 || running.ended();
  }));
  EXPECT_FALSE(running.ended()) << what(running.error());
}

INSTANTIATE_TEST_SUITE_P(TickerTest, DroppedQueueTest, testing::Bool(),
                         [](const auto& instance) { return instance.param ? "WhileLoweringItsLag" : "WhileTicking"; });

TEST_F(TickerTest, StopBeforeStartMakesTheNextStartReturnAtOnceAndNoOther) {
  Ticker ticker{dsn(), fast()};
  ticker.stop();
  ticker.start();
  EXPECT_EQ(ticker_log.count(LogEvent::connected), 0U);
  Running running{ticker};
  EXPECT_TRUE(wait_leader(ticker));
}

TEST_F(TickerTest, StopsAtOnceWhateverItsPeriods) {
  auto slow = once();
  slow.standby_period = 1h;
  Ticker active{dsn(), slow};
  Ticker standby{dsn(), slow};
  Running run_active{active};
  ASSERT_TRUE(wait_until([&] { return active.stats().maintenance == 1; }));
  Running run_standby{standby};
  ASSERT_TRUE(wait_until([&] { return ticker_log.count(LogEvent::standby) == 1; }));
  for (auto* running : {&run_standby, &run_active}) {
    const auto begin = Clock::now();
    running->stop_and_join();
    const auto took = Clock::now() - begin;
    record("stop", took);
    EXPECT_LT(took, promptly);
    EXPECT_EQ(running->error(), nullptr);
  }
}

TEST_F(TickerTest, StopsAtOnceDuringThePauseAfterAnError) {
  auto patient = fast();
  patient.reconnect = {30s, 30s};
  Ticker ticker{watched_dsn(), patient};
  Running running{ticker};
  ASSERT_TRUE(wait_leader(ticker));
  ASSERT_EQ(kill_ticking_session(), 1);
  ASSERT_TRUE(wait_until([&] { return ticker_log.count(LogEvent::connection_lost) == 1; }));
  EXPECT_LT(running.stop_and_join(), promptly);
  EXPECT_EQ(running.error(), nullptr);
}

TEST_F(TickerTest, StartWhileRunningIsALogicErrorAndStartAfterwardsIsNot) {
  Ticker ticker{dsn(), fast()};
  for (int i = 0; i < 2; ++i) {
    Running running{ticker};
    ASSERT_TRUE(wait_leader(ticker));
    EXPECT_THROW(ticker.start(), std::logic_error);
  }
  EXPECT_EQ(ticker.stats().reconnects, 0U);
}

TEST_F(TickerTest, TheDestructorStopsItAndLetsGoOfTheLead) {
  auto ticker = std::make_unique<Ticker>(watched_dsn(), fast());
  std::thread thread{[ticker = ticker.get()] { ticker->start(); }};
  ASSERT_TRUE(wait_leader(*ticker));
  ticker.reset();
  EXPECT_TRUE(wait_until([&] { return sessions() == 0; }));
  thread.join();
}

TEST_F(TickerTest, StopsOnSignalsAndRestoresTheHandlers) {
  const auto handler = [] {
    struct sigaction action {};
    ::sigaction(SIGTERM, nullptr, &action);
    return action.sa_handler;
  };
  ASSERT_EQ(handler(), SIG_DFL);
  Ticker ticker{dsn(), fast()};
  stop_on_signals(ticker);
  {
    Running running{ticker};
    ASSERT_TRUE(wait_leader(ticker));
    ASSERT_NE(handler(), SIG_DFL);
    ::kill(::getpid(), SIGTERM);
    ASSERT_TRUE(running.wait_ended(promptly));
    EXPECT_EQ(running.error(), nullptr);
  }
  EXPECT_EQ(handler(), SIG_DFL);
}

TEST_F(TickerTest, AMovedTickerRunsAndTheMovedFromOneDoesNot) {
  Ticker first{dsn(), fast()};
  Ticker second{std::move(first)};
  EXPECT_THROW(first.start(), std::logic_error);  // NOLINT(bugprone-use-after-move)
  Running running{second};
  EXPECT_TRUE(wait_leader(second));
}

TEST_F(TickerTest, ItsSessionsAreNamedAfterTheLibrary) {
  Ticker ticker{dsn(), once()};
  Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().maintenance == 1; }));
  for (const std::string name : {"pgque ticker", "pgque maintenance"}) {
    EXPECT_EQ(sql().number("select count(*) from pg_stat_activity where datname = current_database() and "
                           "application_name = '" +
                           name + "'"),
              1)
        << name;
  }
}

TEST_F(TickerTest, StatsAreZeroAtFirstAndCountWhatItDid) {
  Ticker ticker{dsn(), fast()};
  const auto before = ticker.stats();
  EXPECT_EQ(before.ticks + before.retries + before.maintenance + before.reconnects, 0U);
  EXPECT_FALSE(before.leader);
  EXPECT_EQ(before.last_error, "");

  publish("1");
  const auto messages = client().receive(queue(), consumer_name());
  ASSERT_EQ(messages.size(), 1U);
  client().nack(messages[0], {0s, std::nullopt});
  client().ack(messages[0].batch_id);
  {
    Running running{ticker};
    ASSERT_TRUE(wait_until([&] { return ticker.stats().retries == 1 && ticker.stats().ticks >= 1; }));
    EXPECT_EQ(ticker.stats().maintenance, 1U);
    EXPECT_TRUE(ticker.stats().leader);
  }
  EXPECT_FALSE(ticker.stats().leader);
  EXPECT_EQ(ticker.stats().last_error, "");
  EXPECT_EQ(ticker_log.count(LogEvent::started), 1U);
  EXPECT_EQ(ticker_log.count(LogEvent::stopped), 1U);
}

}  // namespace
}  // namespace pgque::test
