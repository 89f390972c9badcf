// What consumers do about errors: stop, pause, reconnect.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"
#include "row_trigger.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr auto promptly = 10s;

template <class E>
bool is(const std::exception_ptr& error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const E&) {
    return true;
  } catch (...) {
  }
  return false;
}

class ConsumerErrorsTest : public ConsumerTest {
 protected:
  // What start() throws.
  static std::exception_ptr error_of_start(Consumer& consumer) {
    Running running{consumer};
    EXPECT_TRUE(running.wait_ended());
    return running.error();
  }
};

// Before the savepoint, the session's limit is set. That fails as well, and must not end the consumer.
TEST_F(ConsumerErrorsTest, AConnectionThatIsLostBeforeAHandlerAsksForTheTransactionOnlyLeavesTheBatch) {
  const auto limited = dsn_of_role_set({{"statement_timeout", "'1h'"}});
  for (const bool swallowed : {false, true}) {
    publish("1");
    int calls = 0;
    auto with = options(TransactionMode::per_batch);
    with.reconnect = {1ms, 10ms};
    Consumer consumer{watched_dsn(limited), with};
    consumer.on("t", [&](const Message&, Context& context) {
      if (++calls == 1) kill_sessions();
      try {
        context.transaction().exec("select 1");
      } catch (const std::exception&) {
        if (!swallowed) throw;
      }
    });
    finish_batches(consumer);
    EXPECT_EQ(calls, 2);
    EXPECT_EQ(consumer.stats().abandoned, 1U);
    EXPECT_EQ(queue().retries(), 0);
  }
}

TEST_F(ConsumerErrorsTest, AFirstConnectionThatFailsIsThrownAtOnceEachTime) {
  auto patient = options();
  patient.reconnect = {30s, 30s};
  Consumer consumer{"host=127.0.0.1 port=1 dbname=nowhere password=secret", patient};
  consumer.on("*", ignore);
  for (int i = 0; i < 2; ++i) {
    const auto begin = Clock::now();
    const auto error = error_of_start(consumer);
    EXPECT_LT(Clock::now() - begin, promptly);
    EXPECT_TRUE(is<ConnectionError>(error));
    EXPECT_THAT(what(error), Not(HasSubstr("secret")));
    EXPECT_EQ(consumer.stats().last_error, what(error));
    EXPECT_EQ(consumer.stats().state, ConsumerState::idle);
  }
  EXPECT_NO_THROW(consumer.on("t", [](const Message&) {}));  // it does not count as running
}

TEST_F(ConsumerErrorsTest, AMissingConsumerOrQueueStopsItWithConsumerNotFound) {
  auto no_consumer = options();
  no_consumer.name = "nobody";
  auto no_queue = options();
  no_queue.queue = unique_name("nowhere");
  for (const auto& missing : {no_consumer, no_queue}) {
    for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
      auto with = missing;
      with.transaction = mode;
      Consumer consumer{dsn(), with};
      consumer.on("*", ignore);
      const auto error = error_of_start(consumer);
      EXPECT_TRUE(is<ConsumerNotFound>(error));
      EXPECT_THAT(what(error), AllOf(HasSubstr(with.queue), HasSubstr(with.name), HasSubstr("subscribe")));
    }
  }
}

TEST_F(ConsumerErrorsTest, AMissingQueueStopsAWorkerWithQueueNotFound) {
  auto no_queue = worker("w1");
  no_queue.queue = unique_name("nowhere");
  Consumer consumer{dsn(), no_queue};
  consumer.on("*", ignore);
  EXPECT_TRUE(is<QueueNotFound>(error_of_start(consumer)));
}

TEST_F(ConsumerErrorsTest, OnErrorDecidesAndIsAskedOnce) {
  auto no_consumer = options();
  no_consumer.name = "nobody";
  std::vector<std::string> asked;
  no_consumer.on_error = [&](const Error& error) {
    asked.emplace_back(error.what());
    return ErrorAction::stop;
  };
  Consumer consumer{dsn(), no_consumer};
  consumer.on("*", ignore);
  const auto error = error_of_start(consumer);
  EXPECT_THAT(asked, ElementsAre(what(error)));
}

TEST_F(ConsumerErrorsTest, OnErrorRetryGoesOnUntilTheConsumerIsSubscribed) {
  const auto late_name = consumer_name() + "_late";
  auto retrying = options();
  retrying.name = late_name;
  std::atomic<int> asked{0};
  retrying.on_error = [&](const Error&) {
    ++asked;
    return ErrorAction::retry;
  };
  retrying.reconnect = {1ms, 10ms};
  Seen seen;
  Consumer consumer{dsn(), retrying};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return asked >= 3; }));
  client().subscribe(queue(), late_name);
  publish("1");
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(consumer.stats().reconnects, 0U);  // the connection was good all the time
}

TEST_F(ConsumerErrorsTest, AMissingGrantStopsItAndNamesTheRole) {
  for (const bool paged : {false, true}) {
    auto with = options();
    if (paged) with.max_messages = 10;
    Consumer consumer{dsn_of_role_with({}), with};
    consumer.on("*", ignore);
    const auto error = error_of_start(consumer);
    EXPECT_THAT(what(error), AllOf(HasSubstr("42501"), HasSubstr("pgque_reader")));
    EXPECT_TRUE(is<Error>(error));
  }
}

TEST_F(ConsumerErrorsTest, TheReaderRoleIsAllItNeeds) {
  const auto reader = dsn_of_role_with({"pgque_reader"});
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  auto paged = options(TransactionMode::per_batch);
  paged.max_messages = 1;
  auto paged_split = options(TransactionMode::split);
  paged_split.max_messages = 1;
  auto cooperative = worker("w1");
  cooperative.dead_interval = 1h;
  for (const auto& with : {options(TransactionMode::per_batch), options(TransactionMode::split), paged, paged_split}) {
    publish_numbers(2);
    queue().empty_tick();
    Consumer consumer{reader, with};
    consumer.on("t", [](const Message& message) {
      if (message.payload == "1") throw std::runtime_error{"no"};
    });
    finish_batches(consumer);
    EXPECT_EQ(consumer.stats().last_error, "handler error: no");
  }
  Consumer consumer{reader, cooperative};
  consumer.on("t", [](const Message&) {});
  finish_batches(consumer, 4);
  EXPECT_EQ(consumer.stats().last_error, "");
}

TEST_F(ConsumerErrorsTest, ADatabaseWithoutPgqueIsCalledSo) {
  const auto database = unique_name("pgque_test_empty");
  sql()("create database " + database + " template template0");
  {
    Consumer consumer{dsn_with({{"dbname", database}}), options()};
    consumer.on("*", ignore);
    EXPECT_THAT(what(error_of_start(consumer)), HasSubstr("PgQue is not installed"));
  }
  sql()("drop database " + database);
}

TEST_F(ConsumerErrorsTest, ASessionKilledWhileWaitingIsReplacedAndListensAgain) {
  Seen seen;
  Consumer consumer{watched_dsn(), options()};
  consumer.on("t", seen.handler());
  Running running{consumer};
  for (int round = 1; round <= 2; ++round) {
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    const auto begin = Clock::now();
    ASSERT_EQ(kill_sessions(), 1);
    const auto expected = static_cast<std::uint64_t>(round);
    ASSERT_TRUE(wait_until([&] { return consumer.stats().reconnects == expected; }, promptly));
    record("reconnected_after", Clock::now() - begin);
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    publish(std::to_string(round));
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == expected; }, promptly));
  }
  EXPECT_THAT(seen.payloads(), ElementsAre("1", "2"));
  const auto lost = log.lines(LogEvent::connection_lost);
  ASSERT_EQ(lost.size(), 2U);
  EXPECT_EQ(lost[0].level, LogLevel::warning);
  EXPECT_EQ(log.count(LogEvent::connected), 3U);
  EXPECT_NE(consumer.stats().last_error, "");
  running.stop_and_join();
  EXPECT_EQ(running.error(), nullptr);
}

TEST_F(ConsumerErrorsTest, ASessionKilledInAHandlerLosesNoMessage) {
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    publish_numbers(3);
    Seen seen;
    bool once = true;
    Consumer consumer{watched_dsn(), options(mode)};
    consumer.on("t", [&](const Message& message) {
      seen(message);
      if (message.payload == "1" && std::exchange(once, false)) Sql{}("select pg_terminate_backend(pid)" + watched());
    });
    finish_batches(consumer);
    const auto handled = seen.payloads();
    const auto stats = consumer.stats();
    if (mode == TransactionMode::per_batch) {
      // Whether "2" is handled in vain the first time does not matter.
      EXPECT_EQ((std::vector(handled.begin(), handled.begin() + 2)), numbers(2));
      EXPECT_EQ((std::vector(handled.end() - 3, handled.end())), numbers(3));
    } else {
      EXPECT_EQ(handled, numbers(3)) << "the handlers do not need the connection, and the ack is sent over a new one";
    }
    EXPECT_EQ(stats.abandoned, mode == TransactionMode::per_batch ? 1U : 0U);
    EXPECT_EQ(stats.reconnects, 1U);
    EXPECT_EQ(stats.batches, 1U);
    EXPECT_EQ(queue().retries(), 0);
    EXPECT_THAT(client().receive(queue(), consumer_name()), IsEmpty());
  }
}

TEST_F(ConsumerErrorsTest, PausesBetweenFailedConnectionsGrowAndNothingIsLost) {
  const auto role_dsn = dsn_of_role_with({"pgque_reader"});
  const auto role = role_of(role_dsn);
  std::mutex mutex;
  std::vector<Clock::time_point> failures;
  auto growing = options();
  growing.reconnect = {40ms, 10s};
  growing.log = [&, sink = log.sink()](const LogRecord& record) {
    sink(record);
    if (record.event != LogEvent::connection_lost) return;
    const std::lock_guard lock{mutex};
    failures.push_back(Clock::now());
  };
  const auto failed = [&] {
    const std::lock_guard lock{mutex};
    return failures.size();
  };
  Seen seen;
  Consumer consumer{role_dsn, growing};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  sql()("alter role " + role + " nologin");
  sql()("select pg_terminate_backend(pid) from pg_stat_activity where usename = '" + role + "'");
  publish("1");
  // The one that was lost, and four attempts.
  EXPECT_TRUE(wait_until([&] { return failed() >= 5; }));
  EXPECT_TRUE(wait_state(consumer, ConsumerState::backing_off));
  sql()("alter role " + role + " login");
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(consumer.stats().reconnects, 1U);
  auto shortest = 20ms;
  for (std::size_t i = 1; i < failures.size(); ++i, shortest *= 2) EXPECT_GE(failures[i] - failures[i - 1], shortest);
  for (const auto& line : log.lines()) EXPECT_THAT(line.message, Not(HasSubstr("secret")));
}

TEST_F(ConsumerErrorsTest, APassingErrorOfReceiveIsSurvived) {
  publish("1");
  auto quick = options();
  quick.reconnect = {1ms, 10ms};
  Seen seen;
  Consumer consumer{watched_dsn(), quick};
  consumer.on("t", seen.handler());
  Sql other;
  std::optional<pqxx::work> holding{std::in_place, other.connection()};
  holding->exec("select * from pgque.receive(" + sql().quote(queue().name()) + ", " + sql().quote(consumer_name()) +
                ")");
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  sql()("select pg_cancel_backend(pid)" + watched());
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 1; }));
  EXPECT_EQ(log.lines(LogEvent::failed)[0].sqlstate, "57014");
  EXPECT_EQ(log.lines(LogEvent::failed)[0].level, LogLevel::error);
  holding.reset();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(consumer.stats().reconnects, 0U);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 0U);
}

TEST_F(ConsumerErrorsTest, AnAckOfABatchFinishedElsewhereIsWarnedAbout) {
  publish("1");
  publish("2");
  Seen seen;
  Consumer consumer{dsn(), options(TransactionMode::split)};
  consumer.on("t", [&](const Message& message, Context& context) {
    seen(message);
    if (message.payload == "1") Client{dsn(), client_options()}.ack(context.batch());
  });
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("1", "2"));
  const auto stale = log.lines(LogEvent::stale_ack);
  ASSERT_EQ(stale.size(), 1U);
  EXPECT_EQ(stale[0].level, LogLevel::warning);
  EXPECT_THAT(stale[0].message, HasSubstr("stale"));
  EXPECT_EQ(stale[0].batch_id, seen.messages()[0].batch_id);
  EXPECT_EQ(consumer.stats().stale_acks, 1U);
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_F(ConsumerErrorsTest, FailuresInABatchFinishedElsewhereDoNotStopIt) {
  publish("1");
  publish("2");
  auto quick = options(TransactionMode::split);
  quick.reconnect = {1ms, 10ms};
  Seen seen;
  Consumer consumer{dsn(), quick};
  consumer.on("t", [&](const Message& message, Context& context) {
    seen(message);
    if (message.payload != "1") return;
    Client{dsn(), client_options()}.ack(context.batch());
    throw std::runtime_error{"no"};
  });
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("1", "2"));
  EXPECT_EQ(log.count(LogEvent::nack_failed), 0U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(consumer.stats().stale_acks, 1U);
  const auto stale = log.lines(LogEvent::stale_ack);
  ASSERT_EQ(stale.size(), 1U);
  EXPECT_THAT(stale[0].message, HasSubstr("the messages that failed here are not delivered again"));
}

TEST_F(ConsumerErrorsTest, UnsubscribingWhileItWaitsStopsItWithConsumerNotFound) {
  Consumer consumer{dsn(), options()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  client().unsubscribe(queue(), consumer_name());
  queue().tick();
  ASSERT_TRUE(running.wait_ended(promptly));
  EXPECT_TRUE(is<ConsumerNotFound>(running.error()));
}

TEST_F(ConsumerErrorsTest, UnsubscribingWhileAHandlerRunsMakesItsAckStale) {
  publish("1");
  Consumer consumer{dsn(), options(TransactionMode::split)};
  consumer.on("t", [&](const Message&) { Client{dsn(), client_options()}.unsubscribe(queue(), consumer_name()); });
  EXPECT_TRUE(is<ConsumerNotFound>(error_of_start(consumer)));
  EXPECT_EQ(consumer.stats().stale_acks, 1U);
  EXPECT_EQ(consumer.stats().batches, 0U);
}

TEST_F(ConsumerErrorsTest, DroppingTheQueueWhileAHandlerRunsStopsItWithConsumerNotFound) {
  publish("1");
  Consumer consumer{dsn(), options(TransactionMode::split)};
  consumer.on("t", [&](const Message&) { Sql{}("select pgque.drop_queue('" + queue().name() + "', true)"); });
  EXPECT_TRUE(is<ConsumerNotFound>(error_of_start(consumer)));
  EXPECT_EQ(consumer.stats().stale_acks, 1U);
}

TEST_F(ConsumerErrorsTest, DroppingTheQueueWhileItWaitsStopsItWithConsumerNotFound) {
  auto frequent = options();
  frequent.poll_interval = 10ms;  // nothing is notified when a queue is dropped
  Consumer consumer{dsn(), frequent};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  sql()("select pgque.drop_queue(" + sql().quote(queue().name()) + ", true)");
  ASSERT_TRUE(running.wait_ended());
  EXPECT_TRUE(is<ConsumerNotFound>(running.error()));
}

// The error that PgQue may briefly report when two processes with one name receive at the same time.
TEST_F(ConsumerErrorsTest, ACorruptionThatIsNoneIsSurvived) {
  publish("1");
  std::optional<RowTrigger> failing;
  failing.emplace("update", "pgque.subscription",
                  "old.sub_batch is null and new.sub_batch is not null and new.sub_queue = " + queue_id(),
                  "raise exception 'PgQ corruption: Consumer c on queue q does not see tick <NULL>';");
  auto quick = options();
  quick.reconnect = {1ms, 10ms};
  std::atomic<int> asked{0};
  quick.on_error = [&](const Error&) {
    ++asked;
    return ErrorAction::stop;
  };
  Seen seen;
  Consumer consumer{dsn(), quick};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 2; }));
  EXPECT_EQ(log.lines(LogEvent::failed)[0].sqlstate, "P0001");
  failing.reset();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(asked, 0);
}

struct NackCase {
  const char* name;
  TransactionMode mode;
  const char* handled_type;  // so the messages of type "t" fail, or are unknown
};

class FailingNackTest : public ConsumerErrorsTest, public testing::WithParamInterface<NackCase> {};

INSTANTIATE_TEST_SUITE_P(ConsumerErrorsTest, FailingNackTest,
                         testing::Values(NackCase{"HandlerErrorPerBatch", TransactionMode::per_batch, "t"},
                                         NackCase{"HandlerErrorSplit", TransactionMode::split, "t"},
                                         NackCase{"UnknownTypePerBatch", TransactionMode::per_batch, "other"},
                                         NackCase{"UnknownTypeSplit", TransactionMode::split, "other"}),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(FailingNackTest, NeverLeadsToAnAckAndBacksOffUntilItWorks) {
  constexpr std::size_t deliveries = 5;
  const auto fails = publish("1");
  const auto good = client().send(queue(), "2", "good");
  queue().tick();
  std::optional<RowTrigger> failing;
  failing.emplace("insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), "raise exception 'the disk is full';");
  auto growing = options(GetParam().mode);
  growing.poll_interval = 1ms;
  growing.reconnect = {40ms, 10s};
  std::mutex mutex;
  std::vector<Clock::time_point> attempts;
  growing.log = [&, sink = log.sink()](const LogRecord& record) {
    sink(record);
    if (record.event != LogEvent::batch_received) return;
    const std::lock_guard lock{mutex};
    attempts.push_back(Clock::now());
  };
  const auto attempted = [&] {
    const std::lock_guard lock{mutex};
    return attempts.size();
  };
  Seen seen;
  Consumer consumer{dsn(), growing};
  consumer.on(GetParam().handled_type, [](const Message&) { throw std::runtime_error{"no"}; });
  consumer.on("good", seen.handler());
  Running running{consumer};
  // Notifications must not shorten the pauses.
  ASSERT_TRUE(wait_until([&] {
    queue().tick();
    return attempted() >= deliveries;
  }));
  EXPECT_EQ(consumer.stats().batches, 0U);
  EXPECT_GE(log.count(LogEvent::nack_failed), deliveries - 1);
  EXPECT_EQ(log.lines(LogEvent::nack_failed)[0].level, LogLevel::error);
  EXPECT_THAT(log.lines(LogEvent::nack_failed)[0].message, HasSubstr("the disk is full"));
  // At each attempt, after the handler's own error.
  EXPECT_TRUE(wait_until([&] { return consumer.stats().last_error.find("the disk is full") != std::string::npos; }));
  EXPECT_EQ(log.count(LogEvent::batch_acked), 0U);
  EXPECT_THAT(seen.payloads(), IsEmpty());
  {
    const std::lock_guard lock{mutex};
    auto shortest = 20ms;
    for (std::size_t i = 1; i < deliveries; ++i, shortest *= 2) EXPECT_GE(attempts[i] - attempts[i - 1], shortest);
  }
  EXPECT_EQ(queue().retries(), 0);
  // The batch is not finished: another process could receive the message now.
  {
    Sql other;
    pqxx::work look{other.connection()};
    const auto rows = look.exec("select msg_id from pgque.receive(" + sql().quote(queue().name()) + ", " +
                                sql().quote(consumer_name()) + ")");
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0][0].c_str(), to_string(fails));
  }

  failing.reset();
  EXPECT_TRUE(wait_until([&] { return seen.size() == 1; }));
  EXPECT_THAT(seen.ids(), ElementsAre(good));
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(consumer.stats().retries, 1U);
  EXPECT_GE(consumer.stats().abandoned, deliveries - 1);
  EXPECT_EQ(consumer.stats().reconnects, 0U);
}

TEST_F(ConsumerErrorsTest, AFailingNackLeavesTheBatchAtItsPageInPerBatchMode) {
  publish_numbers(4);
  std::optional<RowTrigger> failing;
  failing.emplace("insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), "raise exception 'the disk is full';");
  auto paged = options();
  paged.max_messages = 2;
  paged.reconnect = {1ms, 10ms};
  std::atomic<bool> fail{true};
  Seen seen;
  Gate gate;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (seen.size() == 3) gate.pass();
    if (fail && message.payload == "1") throw std::runtime_error{"no"};
  });
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  EXPECT_THAT(seen.payloads(), ElementsAre("0", "1", "0"));
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(log.count(LogEvent::nack_failed), 1U);
  fail = false;
  gate.open();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("0", "1", "0", "1", "2", "3"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().retries, 0U);
}

TEST_F(ConsumerErrorsTest, AFailingNackTakesTheOtherNacksAndWritesOfItsBatchBack) {
  const auto table = unique_name("pgque_test_writes");
  sql()("create table " + table + " (value text)");
  const auto ids = publish_numbers(3);
  std::optional<RowTrigger> failing;
  // Only the last message cannot be nacked.
  failing.emplace("insert", "pgque.retry_queue", "new.ev_id = " + to_string(ids[2]) + " and new.ev_data = '2'",
                  "raise exception 'not this one';");
  auto slow = options();
  slow.reconnect = {200ms, 200ms};
  Consumer consumer{dsn(), slow};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec("insert into " + table + " values (" + *message.payload + ")");
    if (message.payload != "1") throw std::runtime_error{"no"};
  });
  {
    Running running{consumer};
    EXPECT_TRUE(wait_state(consumer, ConsumerState::backing_off));
    EXPECT_EQ(queue().retries(), 0);
    EXPECT_EQ(sql().number("select count(*) from " + table), 0);
    failing.reset();
    EXPECT_TRUE(wait_batches(consumer, 1));
  }
  EXPECT_EQ(queue().retries(), 2);
  EXPECT_EQ(sql().value("select string_agg(value, ' ') from " + table), "1");
  sql()("drop table " + table);
}

TEST_F(ConsumerErrorsTest, AFailingAckTakesTheWritesBackAndBacksOffUntilItWorks) {
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    constexpr std::size_t deliveries = 4;
    const auto table = unique_name("pgque_test_writes");
    sql()("create table " + table + " (value text)");
    publish("1");
    std::optional<RowTrigger> failing;
    failing.emplace("update", "pgque.subscription",
                    "old.sub_batch is not null and new.sub_batch is null and new.sub_queue = " + queue_id(),
                    "raise exception using errcode = '58030', message = 'the disk is broken';");
    auto growing = options(mode);
    growing.poll_interval = 1ms;
    growing.reconnect = {40ms, 10s};
    std::mutex mutex;
    std::vector<Clock::time_point> attempts;
    Consumer consumer{dsn(), growing};
    consumer.on("t", [&](const Message& message, Context& context) {
      if (mode == TransactionMode::per_batch) {
        context.transaction().exec("insert into " + table + " values (" + *message.payload + ")");
      }
      const std::lock_guard lock{mutex};
      attempts.push_back(Clock::now());
    });
    std::optional<Running<Consumer>> running{std::in_place, consumer};
    ASSERT_TRUE(wait_until([&] {
      sql()("notify \"pgque_" + queue().name() + '"');
      const std::lock_guard lock{mutex};
      return attempts.size() >= deliveries;
    }));
    EXPECT_EQ(consumer.stats().batches, 0U);
    EXPECT_THAT(consumer.stats().last_error, HasSubstr("the disk is broken"));
    EXPECT_EQ(sql().number("select count(*) from " + table), 0);
    failing.reset();
    EXPECT_TRUE(wait_batches(consumer, 1));
    running.reset();
    EXPECT_EQ(sql().number("select count(*) from " + table), mode == TransactionMode::per_batch ? 1 : 0);
    sql()("drop table " + table);
    const std::lock_guard lock{mutex};
    auto shortest = 20ms;
    for (std::size_t i = 1; i < deliveries; ++i, shortest *= 2) EXPECT_GE(attempts[i] - attempts[i - 1], shortest);
    EXPECT_EQ(consumer.stats().abandoned, attempts.size() - 1);
    EXPECT_EQ(consumer.stats().reconnects, 0U);
  }
}

}  // namespace
}  // namespace pgque::test
