// Several workers share one consumer.

#include <chrono>
#include <optional>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"
#include "row_trigger.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAreArray;

class ConsumerCoopTest : public ConsumerTest {
 protected:
  void subscribe(const std::string& worker_name) { client().subscribe_subconsumer(queue(), group_name(), worker_name); }
  // Takes over what other workers hold, whether or not they are alive.
  std::vector<Message> steal() { return client().receive_coop(queue(), group_name(), "thief", {std::nullopt, 1ms}); }
};

TEST_F(ConsumerCoopTest, WorkersRegisterThemselvesAndHandleWhatComesAfterwards) {
  Seen seen;
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_EQ(sql().value(of_worker("sub_role", "w1")), "coop_member");
  publish("1");
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(sql().value(of_worker("sub_batch", "w1")), std::nullopt);  // acknowledged
  EXPECT_EQ(log.lines(LogEvent::started).at(0).consumer, group_name() + ".w1");
}

TEST_F(ConsumerCoopTest, TwoWorkersHandleDisjointBatchesAtTheSameTime) {
  subscribe("w1");
  subscribe("w2");
  const auto first = publish("1");
  const auto second = publish("2");
  Seen one, two;
  std::atomic<int> inside{0};
  std::atomic<int> together{0};
  const auto meet = [&](const Message&) {
    ++inside;
    if (wait_until([&] { return inside == 2; })) ++together;
  };
  Consumer consumer_one{dsn(), worker("w1")};
  consumer_one.on("t", [&](const Message& message) {
    one(message);
    meet(message);
  });
  Consumer consumer_two{dsn(), worker("w2")};
  consumer_two.on("t", [&](const Message& message) {
    two(message);
    meet(message);
  });
  {
    Running run_one{consumer_one};
    Running run_two{consumer_two};
    EXPECT_TRUE(wait_batches(consumer_one, 1));
    EXPECT_TRUE(wait_batches(consumer_two, 1));
  }
  EXPECT_EQ(together, 2);
  ASSERT_EQ(one.size(), 1U);
  ASSERT_EQ(two.size(), 1U);
  EXPECT_THAT((std::vector{one.ids()[0], two.ids()[0]}), UnorderedElementsAreArray({first, second}));
  EXPECT_NE(one.messages()[0].batch_id, two.messages()[0].batch_id);
}

TEST_F(ConsumerCoopTest, ManyBatchesAreSharedWithoutLossOrRepetition) {
  subscribe("w1");
  subscribe("w2");
  std::vector<EventId> sent;
  Seen seen;
  Consumer one{dsn(), worker("w1")};
  one.on("t", seen.handler());
  Consumer two{dsn(), worker("w2")};
  two.on("t", seen.handler());
  Running run_one{one};
  Running run_two{two};
  for (int i = 0; i < 20; ++i) {
    for (const auto id : publish_numbers(3)) sent.push_back(id);
  }
  EXPECT_TRUE(wait_until([&] { return one.stats().batches + two.stats().batches == 20; }));
  EXPECT_THAT(seen.ids(), UnorderedElementsAreArray(sent));
}

TEST_F(ConsumerCoopTest, ABatchIsPagedLikeThatOfANormalConsumer) {
  subscribe("w1");
  publish_numbers(250);
  auto paged = worker("w1");
  paged.max_messages = 20;
  Seen seen;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (message.payload == "7" || message.payload == "201") throw std::runtime_error{"no"};
  });
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(250)));
  EXPECT_EQ(queue().retries(), 2);
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_F(ConsumerCoopTest, ARestartedWorkerGetsItsOwnUnfinishedBatchAgain) {
  subscribe("w1");
  publish("1");
  const auto unfinished = client().receive_coop(queue(), group_name(), "w1");
  ASSERT_EQ(unfinished.size(), 1U);
  Seen seen;
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.ids(), ElementsAre(unfinished[0].msg_id));
}

TEST_F(ConsumerCoopTest, TheBatchOfADeadWorkerIsTakenOverAfterTheDeadInterval) {
  subscribe("dead");
  subscribe("w1");
  const auto orphan = publish("1");
  const auto begin = *sql().value("select clock_timestamp()");
  const auto dead_batch = client().receive_coop(queue(), group_name(), "dead");
  ASSERT_EQ(dead_batch.size(), 1U);
  auto heir = worker("w1");
  heir.dead_interval = 300ms;
  heir.poll_interval = 10ms;  // nothing is notified when a worker dies
  Seen seen;
  std::optional<std::string> in_time;
  Consumer consumer{dsn(), heir};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    in_time = Sql{}.value("select clock_timestamp() - timestamptz '" + begin + "' >= interval '300 ms'");
  });
  finish_batches(consumer);
  EXPECT_THAT(seen.ids(), ElementsAre(orphan));
  EXPECT_NE(seen.messages()[0].batch_id, dead_batch[0].batch_id);
  EXPECT_EQ(in_time, "t");
  EXPECT_FALSE(client().ack(dead_batch[0].batch_id));
}

TEST_F(ConsumerCoopTest, ABatchIsNotTakenOverWithoutOrBeforeTheDeadInterval) {
  for (const bool with_interval : {false, true}) {
    subscribe("busy");
    subscribe("w1");
    publish("\"held\"");
    const auto held = client().receive_coop(queue(), group_name(), "busy");
    ASSERT_EQ(held.size(), 1U);
    auto sibling = worker("w1");
    sibling.poll_interval = 1ms;
    if (with_interval) sibling.dead_interval = 1h;
    Seen seen;
    Consumer consumer{dsn(), sibling};
    consumer.on("t", seen.handler());
    {
      Running running{consumer};
      ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
      publish("\"next\"");
      ASSERT_TRUE(wait_batches(consumer, 1));
    }
    EXPECT_THAT(seen.payloads(), ElementsAre("\"next\""));
    EXPECT_TRUE(client().ack(held[0].batch_id));
  }
}

// A worker whose heartbeats come is not taken over, as ABatchIsNotTakenOverWithoutOrBeforeTheDeadInterval shows. So the
// next tests only wait for heartbeats: a busy machine may delay one for longer than a takeover takes.
TEST_F(ConsumerCoopTest, HeartbeatsKeepTheBatchOfALongHandler) {
  subscribe("w1");
  publish("1");
  auto lively = worker("w1");
  lively.dead_interval = 300ms;  // so there is a heartbeat every 100 ms
  std::set<std::string> signs_of_life;
  Consumer consumer{dsn(), lively};
  consumer.on("t", [&](const Message&) {
    Sql other;
    EXPECT_TRUE(wait_until([&] {
      signs_of_life.insert(other.value(of_worker("sub_active", "w1")).value_or("none"));
      return signs_of_life.size() >= 5;
    }));
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().lost, 0U);
  EXPECT_EQ(consumer.stats().stuck, 0U);
  EXPECT_EQ(consumer.stats().batches, 1U);
}

// Each page is shorter than the time between two heartbeats.
TEST_F(ConsumerCoopTest, HeartbeatsKeepABatchOfManyShortPages) {
  subscribe("w1");
  publish_numbers(80);
  auto lively = worker("w1");
  lively.dead_interval = 3s;  // so there is a heartbeat every second
  lively.max_messages = 1;
  std::set<std::string> signs_of_life;
  Sql other;
  Consumer consumer{dsn(), lively};
  consumer.on("t", [&](const Message&) {
    signs_of_life.insert(other.value(of_worker("sub_active", "w1")).value_or("none"));
    if (signs_of_life.size() >= 3) return;
    const auto begin = Clock::now();
    EXPECT_TRUE(wait_until([&] { return Clock::now() - begin > 250ms; }));
  });
  Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }, 60s));
  EXPECT_GE(signs_of_life.size(), 3U);
  EXPECT_EQ(consumer.stats().lost, 0U);
}

TEST_F(ConsumerCoopTest, AWorkerThatWaitedForTheGroupIsNotTakenOver) {
  subscribe("w1");
  auto paged = worker("w1");
  paged.max_messages = 1;
  for (const auto& with : {worker("w1"), paged}) {
    publish_numbers(1);
    const auto ids = publish_numbers(2);
    Sql other;
    pqxx::work holding{other.connection()};  // as a pgque-py worker does while its handlers run
    holding.exec("select pgque.ack(batch_id) from pgque.receive_coop(" + sql().quote(queue().name()) + ", " +
                 sql().quote(group_name()) + ", 'other')");
    Gate gate;
    Seen seen;
    Consumer consumer{watched_dsn(), with};
    consumer.on("t", [&](const Message& message) {
      seen(message);
      gate.pass();
    });
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] {
      return sql().number("select count(*)" + watched() +
                          "and wait_event_type = 'Lock' and clock_timestamp() - xact_start > interval '200 ms'") == 1;
    }));
    // For the server, this transaction asks now, so the time that passes from here on does not matter.
    Sql sibling;
    pqxx::work asking{sibling.connection()};
    asking.exec("select 1");
    holding.commit();
    ASSERT_TRUE(gate.wait_arrived());
    EXPECT_THAT(Transaction{asking}.receive_coop(queue(), group_name(), "w2", {std::nullopt, 200ms}), IsEmpty());
    asking.commit();
    gate.open();
    ASSERT_TRUE(wait_batches(consumer, 1));
    EXPECT_THAT(seen.ids(), ElementsAreArray(ids));
  }
}

// A worker whose first window is empty, so that it looks ahead and finds the message 1. Its look-ahead, and the receive
// after it, can be held.
class CoopLookAheadTest : public ConsumerCoopTest {
 protected:
  void SetUp() override {
    ConsumerCoopTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    subscribe("w1");
    queue().empty_tick();
    publish("1");
  }
  std::string looks_ahead() { return "new.sub_queue = " + queue_id() + " and current_query() like '%.next_batch%'"; }
  std::string receives_what_is_open() {
    return "new.sub_queue = " + queue_id() +
           " and old.sub_batch is not null and new.sub_batch is not null and current_query() like '%.receive_coop(%'";
  }
  std::optional<std::string> open_batch() { return sql().value(of_worker("sub_batch", "w1")); }

  Seen seen_;
};

TEST_F(CoopLookAheadTest, AWorkerThatWaitedInItIsNotSilent) {
  HeldStatements look_ahead{"update", "pgque.subscription", looks_ahead()};
  HeldStatements receive{"update", "pgque.subscription", receives_what_is_open()};
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", seen_.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return look_ahead.waits(); }));
  const auto until = sql().value("select clock_timestamp()").value();
  look_ahead.release();
  ASSERT_TRUE(wait_until([&] { return receive.waits(); }));
  EXPECT_NE(open_batch(), std::nullopt);
  EXPECT_EQ(sql().value(of_worker("sub_active > timestamptz '" + until + "'", "w1")), "t");
  receive.release();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(seen_.payloads(), ElementsAre("1"));
}

TEST_F(CoopLookAheadTest, AStopInItLeavesTheBatchToOthers) {
  HeldStatements look_ahead{"update", "pgque.subscription", looks_ahead()};
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", seen_.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return look_ahead.waits(); }));
  consumer.stop();
  ASSERT_TRUE(running.wait_ended());
  look_ahead.release();
  EXPECT_EQ(running.error(), nullptr);
  EXPECT_THAT(seen_.payloads(), IsEmpty());
  EXPECT_EQ(open_batch(), std::nullopt);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(consumer.stats().last_error, "");
  EXPECT_THAT(client().receive_coop(queue(), group_name(), "w2"), SizeIs(1));
}

TEST_F(CoopLookAheadTest, AStopAfterItHandlesTheBatchThatItOpened) {
  HeldStatements receive{"update", "pgque.subscription", receives_what_is_open()};
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", seen_.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return receive.waits(); }));
  consumer.stop();
  // If the receive were cancelled, that would happen now.
  EXPECT_FALSE(running.wait_ended(500ms));
  receive.release();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_EQ(running.error(), nullptr);
  EXPECT_THAT(seen_.payloads(), ElementsAre("1"));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(open_batch(), std::nullopt);
}

TEST_F(CoopLookAheadTest, AStopAfterItWithoutTimeLeavesTheBatchForTheNextStart) {
  auto impatient = worker("w1");
  impatient.drain_timeout = 0ms;
  {
    HeldStatements receive{"update", "pgque.subscription", receives_what_is_open()};
    Consumer consumer{dsn(), impatient};
    consumer.on("t", seen_.handler());
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return receive.waits(); }));
    const auto batch = open_batch();
    consumer.stop();
    ASSERT_TRUE(running.wait_ended());
    EXPECT_EQ(running.error(), nullptr);
    EXPECT_THAT(seen_.payloads(), IsEmpty());
    EXPECT_EQ(consumer.stats().abandoned, 1U);
    EXPECT_NE(batch, std::nullopt);
    EXPECT_EQ(open_batch(), batch);
    const auto abandoned = log.lines(LogEvent::batch_abandoned);
    ASSERT_EQ(abandoned.size(), 1U);
    EXPECT_EQ(to_string(abandoned[0].batch_id.value()), batch);
    EXPECT_THAT(abandoned[0].message, HasSubstr("to this worker or after dead_interval to another"));
  }
  Consumer consumer{dsn(), impatient};
  consumer.on("t", seen_.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen_.payloads(), ElementsAre("1"));
  EXPECT_EQ(open_batch(), std::nullopt);
}

// A worker whose log calls stop() or stop_now() when it has been given a batch and no handler has begun.
class CoopGivenTest : public ConsumerCoopTest {
 protected:
  void SetUp() override {
    ConsumerCoopTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    subscribe("w1");
  }
  // Returns what the run has counted.
  ConsumerStats stop_when_given(ConsumerOptions with, void (Consumer::*stop)()) {
    std::optional<Consumer> consumer;
    with.log = [&, sink = log.sink()](const LogRecord& record) {
      sink(record);
      if (record.event == LogEvent::batch_received) ((*consumer).*stop)();
    };
    consumer.emplace(dsn(), with);
    consumer->on("t", seen_.handler());
    consumer->start();
    return consumer->stats();
  }
  std::optional<std::string> open_batch() { return sql().value(of_worker("sub_batch", "w1")); }

  Seen seen_;
};

TEST_F(CoopGivenTest, AStopHandlesTheBatch) {
  auto paged = worker("w1");
  paged.max_messages = 2;
  auto concurrent = worker("w1");
  concurrent.concurrency = 3;
  for (const auto& with : {worker("w1"), paged, concurrent}) {
    publish_numbers(5);
    publish("5");  // the next batch
    const auto stats = stop_when_given(with, &Consumer::stop);
    EXPECT_EQ(stats.messages, 5U);
    EXPECT_EQ(stats.batches, 1U);
    EXPECT_EQ(stats.abandoned, 0U);
    EXPECT_EQ(open_batch(), std::nullopt);
    const auto next = client().receive_coop(queue(), group_name(), "w2");
    ASSERT_THAT(next, SizeIs(1));
    EXPECT_TRUE(client().ack(next[0].batch_id));
  }
}

TEST_F(CoopGivenTest, AStopWithoutTimeLeavesTheBatchForTheNextStart) {
  publish_numbers(3);
  auto impatient = worker("w1");
  impatient.drain_timeout = 0ms;
  for (const bool now : {false, true}) {
    const auto stats = stop_when_given(now ? worker("w1") : impatient, now ? &Consumer::stop_now : &Consumer::stop);
    EXPECT_EQ(stats.messages, 0U);
    EXPECT_EQ(stats.abandoned, 1U);
    EXPECT_NE(open_batch(), std::nullopt);
  }
  EXPECT_THAT(seen_.payloads(), IsEmpty());
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", seen_.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen_.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_EQ(open_batch(), std::nullopt);
}

TEST_F(CoopGivenTest, AStopTooLateToCancelTheReceiveHandlesTheBatch) {
  publish_numbers(3);
  Sql other;
  std::optional<pqxx::work> holding{std::in_place, other.connection()};
  holding->exec("lock table pgque.retry_queue in access exclusive mode");  // a worker reads it after its first receive
  auto unpaged = worker("w1");
  unpaged.max_messages = std::nullopt;  // so the receive is committed before
  Consumer consumer{watched_dsn(), unpaged};
  consumer.on("t", seen_.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  EXPECT_NE(open_batch(), std::nullopt);
  const auto stopped = sql().value("select clock_timestamp()").value();
  consumer.stop();
  // What waited is cancelled, and asked for again.
  EXPECT_TRUE(wait_until([&] {
    return running.ended() || sql().number("select count(*)" + watched() +
                                           "and wait_event_type = 'Lock' "
                                           "and query_start > timestamptz '" +
                                           stopped + "'") == 1;
  }));
  holding.reset();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_EQ(running.error(), nullptr);
  EXPECT_THAT(seen_.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(consumer.stats().last_error, "");
  EXPECT_EQ(open_batch(), std::nullopt);
}

// A late commit does not count in what the batch is expected to have, so it is received before it is read in pages.
TEST_F(CoopGivenTest, AStopBetweenTheReceiveAndThePagesHandlesTheBatch) {
  queue().config("ticker_max_count", "1");
  Sql late;
  late("begin");
  late("select pgque.send_batch(" + sql().quote(queue().name()) + ", 't', array['1', '2', '3'])");
  client().send(queue(), "0", "t");
  ASSERT_TRUE(client().ticker(queue()));
  late("commit");
  client().send(queue(), "4", "t");
  ASSERT_TRUE(client().ticker(queue()));
  const auto first = client().receive_coop(queue(), group_name(), "w1");
  ASSERT_THAT(first, SizeIs(1));
  ASSERT_TRUE(client().ack(first[0].batch_id));
  const auto counter = "public." + unique_name("pgque_test_updates");  // PgQue has a search path of its own
  sql()("create sequence " + counter);
  {
    // The receive touches the worker when it is given the batch; the second update is by the cursor's receive.
    HeldStatements held{"update", "pgque.subscription",
                        "old.sub_batch is not null and new.sub_batch = old.sub_batch and new.sub_queue = " +
                            queue_id() + " and nextval('" + counter + "') > 1"};
    auto paged = worker("w1");
    paged.max_messages = 2;
    Consumer consumer{dsn(), paged};
    consumer.on("t", seen_.handler());
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return held.waits(); }));
    EXPECT_NE(open_batch(), std::nullopt);
    consumer.stop();
    const auto updates = "select last_value from " + counter;
    EXPECT_TRUE(wait_until([&] { return running.ended() || (sql().number(updates) > 2 && held.waits()); }));
    held.release();
    ASSERT_TRUE(running.wait_ended());
    EXPECT_THAT(seen_.payloads(), ElementsAre("1", "2", "3", "4"));
    EXPECT_EQ(open_batch(), std::nullopt);
    EXPECT_EQ(consumer.stats().abandoned, 0U);
    EXPECT_EQ(consumer.stats().batches, 1U);
  }
  sql()("drop sequence " + counter);
}

// The next start of a normal consumer gets the batch in any case.
TEST_F(CoopGivenTest, AStopOfANormalConsumerLeavesTheBatch) {
  publish_numbers(3);
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    const auto stats = stop_when_given(options(mode), &Consumer::stop);
    EXPECT_EQ(stats.messages, 0U);
    EXPECT_EQ(stats.abandoned, 1U);
  }
  EXPECT_THAT(seen_.payloads(), IsEmpty());
  EXPECT_THAT(client().receive(queue(), consumer_name()), SizeIs(3));
}

// At whatever moment the stop comes: before a receive, in it, or after it.
TEST_F(CoopGivenTest, AStopAtAnyMomentLeavesNoBatchOpen) {
  std::vector<EventId> sent;
  for (int round = 0; round < 20; ++round) {
    queue().empty_tick();
    sent.push_back(publish("1"));
    Consumer consumer{dsn(), worker("w1")};
    consumer.on("t", seen_.handler());
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connected) == static_cast<std::size_t>(round) + 1; }));
    const auto until = Clock::now() + round * 500us;
    wait_until([&] { return Clock::now() >= until; });
    running.stop_and_join();
    ASSERT_EQ(open_batch(), std::nullopt) << round;
    ASSERT_EQ(consumer.stats().abandoned, 0U) << round;
  }
  auto rest = worker("w2");
  rest.until_drained = true;
  Consumer consumer{dsn(), rest};
  consumer.on("t", seen_.handler());
  consumer.start();
  EXPECT_THAT(seen_.ids(), UnorderedElementsAreArray(sent));
}

TEST_F(ConsumerCoopTest, AHeartbeatThatIsStoppedWhileItWaitsLogsNoLostConnection) {
  subscribe("w1");
  publish_numbers(2);
  auto lively = worker("w1");
  lively.dead_interval = 300ms;  // so there is a heartbeat every 100 ms
  lively.drain_timeout = 0ms;    // so the second message is left, and no ack waits for the lock
  Sql other;
  std::optional<pqxx::work> holding;
  Consumer consumer{watched_dsn(), lively};
  consumer.on("t", [&](const Message&) {
    holding.emplace(other.connection());
    holding->exec("select 1 from pgque.subscription join pgque.queue on queue_id = sub_queue where queue_name = " +
                  sql().quote(queue().name()) + " for update of subscription");
    EXPECT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
    consumer.stop();
  });
  consumer.start();
  EXPECT_EQ(log.count(LogEvent::batch_abandoned), 1U);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 0U);
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
  holding.reset();
}

TEST_F(ConsumerCoopTest, AHeartbeatThatLosesItsConnectionSaysThatItIsTheHeartbeat) {
  subscribe("w1");
  publish("1");
  auto lively = worker("w1");
  lively.dead_interval = 300ms;
  Consumer consumer{dsn(), lively};
  consumer.on("t", [&](const Message&) {
    // The heartbeat's session is the one that has touched the worker's row.
    EXPECT_TRUE(wait_until([&] {
      return sql().number(
                 "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and "
                 "pid <> pg_backend_pid() and query like '%touch_subconsumer%' and application_name like 'pgque%'") ==
             1;
    }));
    EXPECT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) == 1; }));
  });
  Running running{consumer};
  EXPECT_TRUE(wait_batches(consumer, 1));
  ASSERT_EQ(log.count(LogEvent::connection_lost), 1U);
  EXPECT_THAT(log.lines(LogEvent::connection_lost).at(0).message, testing::StartsWith("heartbeat: "));
}

TEST_F(ConsumerCoopTest, ABatchTakenOverIsReportedAndNotAcked) {
  for (const bool failing : {false, true}) {
    subscribe("w1");
    publish_numbers(2);
    auto slow = worker("w1");
    slow.dead_interval = 1h;  // so the next heartbeat is 10 s away
    Gate gate;
    std::atomic<bool> fail{failing};
    Seen seen;
    Consumer consumer{dsn(), slow};
    consumer.on("t", [&](const Message& message) {
      seen(message);
      gate.pass();
      if (fail) throw std::runtime_error{"no"};
    });
    const auto lost_before = log.count(LogEvent::batch_lost);
    Running running{consumer};
    ASSERT_TRUE(gate.wait_arrived());
    const auto stolen = steal();
    ASSERT_EQ(stolen.size(), 2U);
    gate.open();
    ASSERT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }));
    const auto lost = log.lines(LogEvent::batch_lost);
    ASSERT_EQ(lost.size(), lost_before + 1);
    EXPECT_EQ(lost.back().level, LogLevel::warning);
    EXPECT_EQ(lost.back().batch_id, seen.messages()[0].batch_id);
    EXPECT_NE(lost.back().batch_id, stolen[0].batch_id);
    const auto stats = consumer.stats();
    EXPECT_EQ(stats.batches, 0U);
    EXPECT_EQ(stats.stale_acks, 0U);
    EXPECT_EQ(stats.abandoned, 0U);
    EXPECT_EQ(stats.retries, 0U);
    EXPECT_EQ(queue().retries(), 0);
    EXPECT_TRUE(client().ack(stolen[0].batch_id));  // it belongs to the thief

    // The loser goes on with other batches, at once.
    fail = false;
    publish("\"next\"");
    EXPECT_TRUE(wait_batches(consumer, 1));
    EXPECT_EQ(seen.payloads().back(), "\"next\"");
  }
}

TEST_F(ConsumerCoopTest, AHeartbeatTellsOfAWorkerThatIsRegisteredNoLonger) {
  subscribe("w1");
  publish("1");
  auto lively = worker("w1");
  lively.dead_interval = 60ms;
  Gate gate;
  Consumer consumer{dsn(), lively};
  consumer.on("t", [&](const Message&) { gate.pass(); });
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  ASSERT_TRUE(client().unsubscribe_subconsumer(queue(), group_name(), "w1", BatchHandling::retry));
  EXPECT_TRUE(wait_until([&] {
    for (const auto& line : log.lines(LogEvent::failed)) {
      if (line.message.find("no longer registered") != std::string::npos) return true;
    }
    return false;
  }));
  gate.open();
  EXPECT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }));
  EXPECT_EQ(queue().retries(), 1);
}

TEST_F(ConsumerCoopTest, FailedMessagesComeBackToAnyWorkerOfTheGroup) {
  subscribe("w1");
  subscribe("w2");
  const auto id = publish("1");
  {
    Consumer one{dsn(), worker("w1")};
    one.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
    finish_batches(one);
  }
  queue().expire_retries();
  Seen seen;
  Consumer two{dsn(), worker("w2")};
  two.on("t", seen.handler());
  finish_batches(two);
  EXPECT_THAT(seen.ids(), ElementsAre(id));
  EXPECT_EQ(seen.messages()[0].retry_count, 1);
}

TEST_F(ConsumerCoopTest, AnOrdinaryConsumerOfAGroupIsRefused) {
  subscribe("w1");
  auto ordinary = options();
  ordinary.name = group_name();
  Consumer consumer{dsn(), ordinary};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THAT(what(running.error()), HasSubstr("cooperative"));
}

}  // namespace
}  // namespace pgque::test
