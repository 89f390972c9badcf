// What handlers defer by Context::on_ack(): it is written in the transaction that acks, exactly once, in every mode.

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pgque/transaction.hpp>
#include <pqxx/pqxx>

#include "row_trigger.hpp"
#include "thrown.hpp"
#include "writes_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConsumerOnAckTest : public WritesTest {
 protected:
  // A callback that writes this value.
  auto writes(const std::string& value) {
    return [sql = insert(value)](pqxx::transaction_base& transaction) { transaction.exec(sql); };
  }
  ConsumerOptions split() {
    auto with = options(TransactionMode::split);
    with.reconnect = {1ms, 10ms};
    return with;
  }
};

class OnAckTest : public ConsumerOnAckTest, public testing::WithParamInterface<const char*> {
 protected:
  // A consumer of the kind that the test is about, to be made before anything is sent.
  ConsumerOptions mode() {
    const std::string name = GetParam();
    auto with = split();
    if (name == "PerBatch") with.transaction = TransactionMode::per_batch;
    if (name == "Concurrent") with.concurrency = 8;
    if (name != "Worker") return with;
    client().subscribe_subconsumer(queue(), group_name(), "w1");
    with.transaction.reset();
    with.name = group_name();
    with.subconsumer = "w1";
    return with;
  }
  static bool is(const std::string& name) { return name == GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(ConsumerOnAckTest, OnAckTest, testing::Values("PerBatch", "Split", "Concurrent", "Worker"),
                         [](const auto& instance) { return std::string{instance.param}; });

TEST_P(OnAckTest, WritesInTheOrderOfTheMessagesOnTheThreadOfTheLoop) {
  const auto with = mode();
  publish_numbers(20);
  std::vector<std::string> order;
  std::vector<std::thread::id> threads;
  std::thread::id loop;
  Consumer consumer{watched_dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      order.push_back(value);
      threads.push_back(std::this_thread::get_id());
      transaction.exec(insert(value));
    });
  });
  std::thread running{[&] {
    loop = std::this_thread::get_id();
    consumer.start();
  }};
  EXPECT_TRUE(wait_batches(consumer, 1));
  consumer.stop();
  running.join();
  EXPECT_EQ(order, numbers(20));
  EXPECT_THAT(threads, testing::Each(loop));
  EXPECT_THAT(rows(), SizeIs(20));
  EXPECT_EQ(consumer.stats().messages, 20U);
  EXPECT_EQ(consumer.stats().deferred, 0U);
}

TEST_P(OnAckTest, OneThatThrowsFailsItsMessageAndKeepsTheWritesOfTheOthers) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(5);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack(writes(*message.payload));
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      if (value == "1") throw std::runtime_error{"no room"};
      if (value == "2") transaction.exec(insert("forbidden"));
      if (value == "4") throw 42;
    });
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("0", "3"));
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(3));
  EXPECT_EQ(reasons[2], "on_ack() error: an exception that is not a std::exception");
  EXPECT_EQ(reasons[0], "on_ack() error: no room");
  EXPECT_THAT(*reasons[1], AllOf(HasSubstr("on_ack() error: "), HasSubstr("violates check constraint")));
  EXPECT_EQ(consumer.stats().failures, 3U);
  EXPECT_EQ(consumer.stats().messages, 5U) << "their handlers have returned";
  EXPECT_EQ(log.count(LogEvent::handler_failed), 3U);
}

// In per_batch mode its handler has written before, and that can be undone only together with the batch.
TEST_P(OnAckTest, OneThatThrowsKeepsNothingOfItsHandlerEither) {
  const auto with = mode();
  TestQueue audit{sql(), "audit"};
  client().subscribe(audit, consumer_name());
  queue().config("max_retries", "0");
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (is("PerBatch")) context.transaction().exec(insert("handler " + *message.payload));
    context.send(audit, text(*message.payload));
    context.on_ack(writes(*message.payload));
    context.on_ack([value = *message.payload](pqxx::transaction_base&) {
      if (value == "1") throw std::runtime_error{"no room"};
    });
  });
  finish_batches(consumer);
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("on_ack() error: no room"));
  if (is("PerBatch")) {
    EXPECT_THAT(rows(), ElementsAre("0", "2", "handler 0", "handler 2"));
  } else {
    EXPECT_THAT(rows(), ElementsAre("0", "2"));
  }
  audit.tick();
  std::vector<std::string> sent;
  for (const auto& message : client().receive(audit, consumer_name())) sent.push_back(*message.payload);
  EXPECT_THAT(sent, testing::UnorderedElementsAre("0", "2"));
}

TEST_P(OnAckTest, TheRetryOfOneThatFailedWritesOnce) {
  const auto with = mode();
  publish_numbers(2);
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, first = context.attempt() == 1, value = *message.payload](pqxx::transaction_base& transaction) {
      ++calls;
      transaction.exec(insert(value));
      if (first && value == "1") throw RetryAfter{0s, "not yet"};
    });
  });
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(rows(), ElementsAre("0"));
  queue().expire_retries();
  queue().tick();
  ASSERT_TRUE(wait_batches(consumer, 2));
  EXPECT_THAT(rows(), ElementsAre("0", "1"));
  EXPECT_EQ(calls, 3);
}

TEST_P(OnAckTest, NothingIsWrittenForAHandlerThatThrewAfterwards) {
  const auto with = mode();
  publish_numbers(2);
  std::atomic<int> reruns{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack(writes(*message.payload));
    if (message.payload == "1") throw std::runtime_error{"no"};
    // A deadlock of the handler's own: it is called again, and what the first call deferred is gone.
    if (reruns++ == 0) Sql{}("do $$ begin raise exception using errcode = '40P01'; end $$");
  });
  finish_batches(consumer);
  EXPECT_EQ(reruns, 2);
  EXPECT_THAT(rows(), ElementsAre("0"));
  EXPECT_EQ(queue().retries(), 1);
}

TEST_P(OnAckTest, IsRepeatedAfterADeadlock) {
  const auto with = mode();
  publish_numbers(1);
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) {
    context.on_ack([&](pqxx::transaction_base& transaction) {
      transaction.exec(insert("once"));
      if (++calls < 3) transaction.exec("do $$ begin raise exception using errcode = '40P01'; end $$");
    });
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 3);
  EXPECT_THAT(rows(), ElementsAre("once"));
  EXPECT_EQ(queue().retries(), 0);
}

TEST_P(OnAckTest, SentEventsCountToo) {
  const auto with = mode();
  TestQueue audit{sql()};
  client().subscribe(audit, "reader");
  publish_numbers(2);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      Transaction{transaction}.send(audit, value, "done");
      if (value == "1") throw std::runtime_error{"no"};
    });
  });
  finish_batches(consumer);
  audit.tick();
  const auto messages = client().receive(audit, "reader");
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].payload, "0");
}

TEST_P(OnAckTest, ADeferredConstraintFailsOnlyItsMessage) {
  const auto with = mode();
  sql()("alter table " + table() + " add unique (value) deferrable initially deferred");
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack(writes(message.payload == "2" ? "2" : "same"));
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("2", "same"));
  EXPECT_EQ(queue().retries(), 1);
}

TEST_P(OnAckTest, NotNowLeavesTheBatchAndWritesNothing) {
  const auto with = mode();
  publish_numbers(3);
  std::atomic<bool> down{true};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec(insert(value));
      if (value == "2" && down.exchange(false)) throw NotNow{1ms, "the archive is down"};
    });
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().postponed, 1U);
  EXPECT_THAT(rows(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_THAT(log.lines(LogEvent::batch_postponed)[0].message, HasSubstr("the archive is down"));
}

TEST_P(OnAckTest, IsWrittenOnceAlthoughTheSessionIsKilledInACallback) {
  const auto with = mode();
  publish_numbers(3);
  std::atomic<int> handled{0};
  std::atomic<int> calls{0};
  Consumer consumer{watched_dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    ++handled;
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      if (++calls == 2) Sql{}("select pg_terminate_backend(pid)" + watched() + "and state <> 'idle'");
      transaction.exec(insert(value));
    });
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().failures, 0U);
  EXPECT_EQ(handled, is("PerBatch") ? 6 : 3) << "without a transaction around them, handlers are not repeated";
}

TEST_P(OnAckTest, IsHeldUntilTheLastPageAndWrittenInOrder) {
  auto with = mode();
  if (pooled() && !is("PerBatch")) GTEST_SKIP() << "there are no pages through a pooler in split mode";
  with.max_messages = 10;
  publish_numbers(25);
  std::vector<std::string> order;
  std::atomic<std::uint64_t> most{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    most = std::max<std::uint64_t>(most, consumer.stats().deferred);
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      order.push_back(value);
      transaction.exec(insert(value));
    });
  });
  finish_batches(consumer);
  EXPECT_EQ(order, numbers(25));
  EXPECT_THAT(rows(), SizeIs(25));
  EXPECT_EQ(most, is("PerBatch") ? 0U : 20U) << "before the last page";
  EXPECT_EQ(consumer.stats().deferred, 0U);
}

TEST_P(OnAckTest, ACallbackThatEndsTheTransactionFailsItsMessage) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec(insert(value));
      if (value == "0") transaction.commit();
      if (value == "1") transaction.abort();
    });
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("2"));
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(2));
  EXPECT_THAT(*reasons[0], HasSubstr("only the consumer commits this transaction"));
  EXPECT_THAT(*reasons[1], HasSubstr("the transaction was ended"));
}

// What was written until then is committed, and the batch comes again: once, and not for ever.
TEST_P(OnAckTest, ACallbackThatSendsCommitFailsItsMessageWhenTheBatchComesAgain) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(3);
  std::atomic<int> handled{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    ++handled;
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      if (value == "1") transaction.exec("commit");
    });
  });
  finish_batches(consumer);
  EXPECT_EQ(handled, 5);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(1));
  EXPECT_THAT(*reasons[0], HasSubstr("has ended the batch's transaction by a COMMIT or ROLLBACK of its own"));
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_THAT(consumer.stats().last_error, HasSubstr("has ended the batch's transaction"));
}

TEST_P(OnAckTest, AMisuseIsALogicErrorThatSaysSo) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(4);
  std::string on_other_thread;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (message.payload == "0") context.on_ack({});
    if (message.payload == "1") {
      std::thread{[&] {
        on_other_thread = thrown<std::logic_error>([&] { context.on_ack(writes("never")); }).what();
      }}.join();
    }
    if (message.payload == "2") {
      context.on_ack([&](pqxx::transaction_base&) { context.on_ack(writes("never")); });
    }
    if (message.payload == "3") {
      context.on_ack([&](pqxx::transaction_base&) { context.transaction(); });
    }
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), IsEmpty());
  EXPECT_EQ(on_other_thread, "Context::on_ack(): may be called only while the handler runs, and on its thread");
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(3));
  EXPECT_EQ(reasons[0], "handler error: callback: must not be empty");
  EXPECT_EQ(reasons[1], "on_ack() error: " + on_other_thread);
  EXPECT_EQ(reasons[2],
            "on_ack() error: Context::transaction(): may be called only while the handler runs, and on its thread");
}

TEST_F(ConsumerOnAckTest, NoTransactionIsOpenWhileHandlersRun) {
  publish_numbers(1);
  Gate gate;
  Consumer consumer{watched_dsn(), split()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack(writes(*message.payload));
    gate.pass();
  });
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  EXPECT_EQ(session_state(), "idle");
  EXPECT_THAT(rows(), IsEmpty());
  gate.open();
  ASSERT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(rows(), ElementsAre("0"));
}

TEST_F(ConsumerOnAckTest, NothingRunsIfTheBatchWasFinishedMeanwhile) {
  publish_numbers(2);
  int calls = 0;
  Consumer consumer{dsn(), split()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&](pqxx::transaction_base&) { ++calls; });
    if (message.payload == "1") client().ack(message.batch_id);
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().stale_acks == 1; }));
  EXPECT_EQ(calls, 0) << "that the batch is finished is known before";
  EXPECT_EQ(consumer.stats().batches, 0U);
}

TEST_F(ConsumerOnAckTest, EverythingIsRolledBackIfTheBatchIsFinishedInBetween) {
  publish_numbers(3);
  Consumer consumer{dsn(), split()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, value = *message.payload, batch = message.batch_id](pqxx::transaction_base& transaction) {
      transaction.exec(insert(value));
      if (value == "1") client().ack(batch);
      if (value == "2") throw std::runtime_error{"no"};
    });
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().stale_acks == 1; }));
  EXPECT_THAT(rows(), IsEmpty());
  EXPECT_EQ(consumer.stats().failures, 0U) << "a callback that fails then is not to blame";
  EXPECT_EQ(queue().retries(), 0);
}

TEST_F(ConsumerOnAckTest, EverythingIsRolledBackIfAnotherWorkerTakesTheBatchOver) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish_numbers(2);
  auto with = worker("w1");
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec(insert(value));
      if (value != "1") return;
      Client thief{dsn(), client_options()};
      std::vector<Message> stolen;
      EXPECT_TRUE(wait_until([&] {
        stolen = thief.receive_coop(queue(), group_name(), "thief", {std::nullopt, 1ms});
        return !stolen.empty();
      }));
      EXPECT_TRUE(thief.ack(stolen.at(0).batch_id));
    });
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }));
  EXPECT_THAT(rows(), IsEmpty());
  EXPECT_EQ(log.count(LogEvent::batch_lost), 1U);
}

TEST_F(ConsumerOnAckTest, IsRepeatedWithTheAckAndWithoutTheHandlers) {
  publish_numbers(2);
  std::optional<RowTrigger> failing{std::in_place, "update", "pgque.subscription", end_of_batch(),
                                    "raise exception using errcode = '55P03', message = 'in the way';"};
  std::atomic<int> handled{0};
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), split()};
  consumer.on("t", [&](const Message& message, Context& context) {
    ++handled;
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      ++calls;
      transaction.exec(insert(value));
      if (value == "1") throw std::runtime_error{"no"};
    });
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 3; }));
  EXPECT_THAT(rows(), IsEmpty());
  failing.reset();
  ASSERT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(rows(), ElementsAre("0"));
  EXPECT_EQ(handled, 2);
  EXPECT_GE(calls, 5);
  EXPECT_EQ(consumer.stats().failures, 1U) << "one that has failed is not called again";
  EXPECT_EQ(queue().retries(), 1);
}

TEST_F(ConsumerOnAckTest, ASerializationFailureRepeatsAllCallbacks) {
  publish_numbers(2);
  std::atomic<int> handled{0};
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), split()};
  consumer.on("t", [&](const Message& message, Context& context) {
    ++handled;
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec(insert(value));
      if (++calls == 2) transaction.exec("do $$ begin raise exception using errcode = '40001'; end $$");
    });
  });
  finish_batches(consumer);
  EXPECT_EQ(handled, 2);
  EXPECT_EQ(calls, 4);
  EXPECT_THAT(rows(), ElementsAre("0", "1"));
  EXPECT_EQ(queue().retries(), 0);
}

// Such as one that meets a conflict on a connection of its own, and can never succeed.
TEST_F(ConsumerOnAckTest, OneThatInterruptsTheTransactionTenTimesFailsItsMessage) {
  queue().config("max_retries", "0");
  publish_numbers(3);
  auto with = split();
  with.reconnect = {1ms, 1ms};
  std::atomic<int> calls{0};
  std::atomic<std::uint64_t> waiting{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec(insert(value));
      if (value == "2") waiting = consumer.stats().deferred;
      if (value != "1") return;
      ++calls;
      Sql{}("do $$ begin raise exception using errcode = '40001', message = 'elsewhere'; end $$");
    });
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 10);
  EXPECT_EQ(waiting, 2U) << "the one that failed does not wait any more";
  EXPECT_THAT(rows(), ElementsAre("0", "2"));
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(1));
  EXPECT_THAT(*reasons[0], AllOf(HasSubstr("on_ack() error: "), HasSubstr("elsewhere")));
  EXPECT_EQ(consumer.stats().failures, 1U);
}

TEST_F(ConsumerOnAckTest, AStopThatLeavesNoTimeWritesNothing) {
  publish_numbers(3);
  auto with = split();
  with.drain_timeout = 0ms;
  std::atomic<int> handled{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    ++handled;
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec(insert(value));
      consumer.stop_now();
      // For longer than the grace of a stop.
      wait_until([&] { return false; }, 1s);
    });
  });
  Running running{consumer};
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THAT(rows(), IsEmpty());
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(handled, 3);
  EXPECT_THAT(log.lines(LogEvent::batch_abandoned)[0].message, HasSubstr("deferred by on_ack()"));
}

TEST_F(ConsumerOnAckTest, AHangingCallbackIsSaidToBeStuck) {
  publish_numbers(1);
  auto with = split();
  with.handler_timeout = 20ms;
  Gate gate;
  Consumer consumer{dsn(), with};
  consumer.on("t",
              [&](const Message&, Context& context) { context.on_ack([&](pqxx::transaction_base&) { gate.pass(); }); });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().stuck == 1; }));
  gate.open();
  EXPECT_TRUE(wait_batches(consumer, 1));
}

}  // namespace
}  // namespace pgque::test
