// Handlers of whole batches, by Consumer::on_batch().

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "thrown.hpp"
#include "writes_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConsumerOnBatchTest : public WritesTest {
 protected:
  static std::vector<std::string> payloads(const std::vector<Message>& messages) {
    std::vector<std::string> out;
    for (const auto& message : messages) out.push_back(*message.payload);
    return out;
  }
  // Of all messages in one statement.
  std::string insert_all(const std::vector<Message>& messages) const {
    std::string sql = "insert into " + table() + " values ";
    for (const auto& message : messages) sql += "('" + *message.payload + "'),";
    sql.pop_back();
    return sql;
  }
  // Sends numbers of alternating types.
  void publish_alternating(int count, const std::vector<std::string>& types) {
    auto transaction = client().begin();
    for (int i = 0; i < count; ++i) {
      transaction.send(queue(), std::to_string(i), types[static_cast<std::size_t>(i) % types.size()]);
    }
    transaction.commit();
    queue().tick();
  }
};

class OnBatchTest : public ConsumerOnBatchTest, public testing::WithParamInterface<const char*> {
 protected:
  ConsumerOptions mode() {
    const std::string name = GetParam();
    auto with = options(name == "PerBatch" ? TransactionMode::per_batch : TransactionMode::split);
    if (name == "Concurrent") with.concurrency = 4;
    if (name != "Worker") return with;
    client().subscribe_subconsumer(queue(), group_name(), "w1");
    return worker("w1");
  }
};

INSTANTIATE_TEST_SUITE_P(ConsumerOnBatchTest, OnBatchTest, testing::Values("PerBatch", "Split", "Concurrent", "Worker"),
                         [](const auto& instance) { return std::string{instance.param}; });

TEST_P(OnBatchTest, GetsTheMessagesOfItsTypeInOneCallInOrder) {
  const auto with = mode();
  publish_alternating(9, {"metric", "other", "metric.cpu"});
  std::mutex mutex;
  std::map<std::string, std::vector<std::vector<std::string>>> calls;
  const auto collect = [&](const std::string& handler) {
    return [&, handler](const std::vector<Message>& messages) {
      const std::lock_guard lock{mutex};
      calls[handler].push_back(payloads(messages));
    };
  };
  Seen others;
  Consumer consumer{dsn(), with};
  consumer.on_batch("metric", collect("metric")).on_batch("metric.*", collect("metric.*"));
  consumer.on("*", others.handler());
  finish_batches(consumer);
  EXPECT_THAT(calls["metric"], ElementsAre(ElementsAre("0", "3", "6")));
  EXPECT_THAT(calls["metric.*"], ElementsAre(ElementsAre("2", "5", "8")));
  EXPECT_THAT(others.payloads(), testing::UnorderedElementsAre("1", "4", "7"));
  EXPECT_EQ(consumer.stats().messages, 9U);
}

TEST_P(OnBatchTest, TheFallbackMayBeForBatches) {
  const auto with = mode();
  publish_alternating(4, {"a", "b"});
  std::vector<std::string> got;
  Consumer consumer{dsn(), with};
  consumer.on_batch("*", [&](const std::vector<Message>& messages, BatchContext&) { got = payloads(messages); });
  finish_batches(consumer);
  EXPECT_EQ(got, numbers(4));
  EXPECT_EQ(consumer.stats().unknown, 0U);
}

TEST_P(OnBatchTest, AnExceptionFailsAllOfThem) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>&, BatchContext&) { throw std::runtime_error{"no room"}; });
  finish_batches(consumer);
  EXPECT_THAT(queue().dead_letter_reasons(), testing::Each(std::optional<std::string>{"handler error: no room"}));
  EXPECT_EQ(queue().dead_letters(), 3);
  EXPECT_EQ(consumer.stats().failures, 3U);
  EXPECT_EQ(consumer.stats().messages, 0U);
  EXPECT_EQ(log.count(LogEvent::handler_failed), 3U);
}

TEST_P(OnBatchTest, FailAndRetryNameSingleMessages) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(5);
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.fail(messages[1], "bad unit");
    const auto copy = messages[3];
    context.fail(copy, "to be replaced");
    context.retry(copy, 30s, "not yet");
  });
  finish_batches(consumer);
  EXPECT_THAT(queue().dead_letter_reasons(),
              ElementsAre(std::optional<std::string>{"bad unit"}, std::optional<std::string>{"not yet"}));
  EXPECT_EQ(consumer.stats().messages, 3U);
  EXPECT_EQ(consumer.stats().failures, 2U);
}

TEST_P(OnBatchTest, RetryDecidesWhenTheMessageComesAgain) {
  auto with = mode();
  with.retry_after = 1000s;
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.retry(messages[0], 100000s, "later");
    context.fail(messages[1], "soon");
  });
  finish_batches(consumer);
  const auto due_after = [&](const std::string& seconds) {
    return sql().number("select count(*) from pgque.retry_queue where ev_queue = " + queue_id() +
                        " and ev_retry_after > now() + interval '" + seconds + " seconds'");
  };
  EXPECT_EQ(queue().retries(), 2);
  EXPECT_EQ(due_after("50000"), 1);
  EXPECT_EQ(due_after("500"), 2);
  EXPECT_EQ(due_after("100001"), 0);
}

TEST_P(OnBatchTest, WhatItNamedKeepsItsReasonWhenTheHandlerThrows) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(2);
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.fail(messages[0], "bad unit");
    throw RetryAfter{0s, "no room"};
  });
  finish_batches(consumer);
  EXPECT_THAT(queue().dead_letter_reasons(),
              ElementsAre(std::optional<std::string>{"bad unit"}, std::optional<std::string>{"no room"}));
}

TEST_P(OnBatchTest, NotNowLeavesTheBatch) {
  const auto with = mode();
  publish_numbers(3);
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.fail(messages[0], "not kept");
    if (++calls == 1) throw NotNow{1ms, "down"};
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(consumer.stats().postponed, 1U);
  EXPECT_EQ(consumer.stats().failures, 1U);
  EXPECT_EQ(queue().retries(), 1);
}

TEST_P(OnBatchTest, ChunksLimitACall) {
  const auto with = mode();
  publish_numbers(7);
  std::mutex mutex;
  std::set<std::vector<std::string>> calls;
  Consumer consumer{dsn(), with};
  consumer.on_batch("t",
                    [&](const std::vector<Message>& messages) {
                      const std::lock_guard lock{mutex};
                      calls.insert(payloads(messages));
                    },
                    {3});
  finish_batches(consumer);
  EXPECT_THAT(calls, ElementsAre(ElementsAre("0", "1", "2"), ElementsAre("3", "4", "5"), ElementsAre("6")));
}

TEST_P(OnBatchTest, PagesLimitACall) {
  auto with = mode();
  if (pooled() && with.transaction != TransactionMode::per_batch) GTEST_SKIP() << "there are no pages through a pooler";
  with.max_messages = 4;
  publish_numbers(6);
  std::mutex mutex;
  std::vector<std::vector<std::string>> calls;
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages) {
    const std::lock_guard lock{mutex};
    calls.push_back(payloads(messages));
  });
  finish_batches(consumer);
  EXPECT_THAT(calls, ElementsAre(ElementsAre("0", "1", "2", "3"), ElementsAre("4", "5")));
}

TEST_P(OnBatchTest, DefersWritesToTheAck) {
  const auto with = mode();
  publish_numbers(4);
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.fail(messages[0], "bad unit");
    const std::vector<Message> good(messages.begin() + 1, messages.end());
    context.on_ack([sql = insert_all(good)](pqxx::transaction_base& transaction) { transaction.exec(sql); });
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("1", "2", "3"));
  EXPECT_EQ(queue().retries(), 1);
}

TEST_P(OnBatchTest, ADeferredWriteThatThrowsFailsTheRestOfTheCall) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.fail(messages[0], "bad unit");
    context.on_ack([&](pqxx::transaction_base& transaction) {
      transaction.exec(insert("1"));
      throw std::runtime_error{"no room"};
    });
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), IsEmpty());
  auto reasons = queue().dead_letter_reasons();
  std::sort(reasons.begin(), reasons.end());
  EXPECT_THAT(reasons, ElementsAre("bad unit", "on_ack() error: no room", "on_ack() error: no room"));
  EXPECT_EQ(consumer.stats().failures, 3U);
}

TEST_P(OnBatchTest, AFailureThatNoMessageIsLeftForIsLogged) {
  const auto with = mode();
  publish_numbers(2);
  Consumer consumer{dsn(), with};
  consumer.on_batch("t",
                    [&](const std::vector<Message>& messages, BatchContext& context) {
                      context.fail(messages[0], "bad unit");
                      if (messages[0].payload == "0") throw std::runtime_error{"in the handler"};
                      context.on_ack([](pqxx::transaction_base&) { throw std::runtime_error{"in on_ack()"}; });
                    },
                    {1});
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().failures, 2U);
  EXPECT_EQ(queue().retries(), 2);
  std::vector<std::string> lines;
  for (const auto& line : log.lines(LogEvent::failed)) lines.push_back(line.message);
  EXPECT_THAT(lines, ElementsAre(HasSubstr("in the handler"), HasSubstr("in on_ack()")));
}

TEST_P(OnBatchTest, ADeadlockRepeatsTheCall) {
  const auto with = mode();
  publish_numbers(2);
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.fail(messages[static_cast<std::size_t>(calls)], "bad unit");
    context.on_ack(
        [&, value = std::to_string(calls)](pqxx::transaction_base& transaction) { transaction.exec(insert(value)); });
    if (++calls == 1) Sql{}("do $$ begin raise exception using errcode = '40P01'; end $$");
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(consumer.stats().failures, 1U) << "what the first call said does not count";
  EXPECT_THAT(rows(), ElementsAre("1"));
}

TEST_P(OnBatchTest, BadInputSaysWhatIsWrong) {
  const auto with = mode();
  publish_numbers(2);
  std::atomic<int> calls{0};
  Message foreign;
  foreign.msg_id = EventId{1};
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
    ++calls;
    EXPECT_EQ(std::string{thrown<std::invalid_argument>([&] { context.fail(foreign, "no"); }).what()},
              "message: 1 is not one of this call's");
    EXPECT_THAT(std::string{thrown<std::invalid_argument>([&] { context.retry(messages[0], -1s, "no"); }).what()},
                HasSubstr("retry_after"));
    EXPECT_EQ(context.message_count(), 2U);
    EXPECT_EQ(&context.message(1), &messages[1]);
    EXPECT_EQ(std::string{thrown<std::out_of_range>([&] { context.message(2); }).what()},
              "Context::message(): there are 2 messages");
    EXPECT_EQ(context.attempt(), 1);
    EXPECT_EQ(context.batch(), messages[0].batch_id);
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(consumer.stats().messages, 2U);
}

TEST_F(ConsumerOnBatchTest, ACallHasOneSavepoint) {
  publish_alternating(4, {"good", "bad"});
  Consumer consumer{dsn(), options()};
  consumer.on_batch("good", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.transaction().exec(insert_all(messages));
  });
  consumer.on_batch("bad", [&](const std::vector<Message>& messages, BatchContext& context) {
    context.transaction().exec(insert_all(messages));
    context.transaction().exec(insert("forbidden"));
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("0", "2"));
  EXPECT_EQ(queue().retries(), 2);
}

TEST_F(ConsumerOnBatchTest, TakesCopy) {
  publish_numbers(1000);
  Consumer consumer{dsn(), options()};
  consumer.on_batch("t", [&](const std::vector<Message>& messages, BatchContext& context) {
#if PQXX_VERSION_MAJOR < 7
    pqxx::stream_to stream{context.transaction(), table()};
#else
    auto stream = pqxx::stream_to::table(context.transaction(), {table()});
#endif
    for (const auto& message : messages) stream << std::make_tuple(*message.payload);
    stream.complete();
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), SizeIs(1000));
  EXPECT_EQ(consumer.stats().messages, 1000U);
}

TEST_F(ConsumerOnBatchTest, ADeferredConstraintFailsTheRestOfTheCall) {
  sql()("alter table " + table() + " add unique (value) deferrable initially deferred");
  sql()(insert("1"));
  publish_alternating(4, {"a", "b"});
  Consumer consumer{dsn(), options()};
  const auto write = [&](const std::vector<Message>& messages, BatchContext& context) {
    context.fail(messages[0], "bad unit");
    context.transaction().exec(insert_all(messages));
    context.on_ack([&](pqxx::transaction_base& transaction) { transaction.exec(insert("deferred")); });
  };
  consumer.on_batch("a", write).on_batch("b", write);
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("0", "1", "2", "deferred")) << "b's call has violated the constraint";
  EXPECT_EQ(queue().retries(), 3);
  EXPECT_EQ(consumer.stats().messages, 1U);
  EXPECT_EQ(consumer.stats().failures, 3U);
}

TEST_F(ConsumerOnBatchTest, DifferentTypesRunAtOnce) {
  auto with = options();
  with.concurrency = 2;
  publish_alternating(4, {"a", "b"});
  std::atomic<int> inside{0};
  std::atomic<int> together{0};
  const auto meet = [&](const std::vector<Message>&) {
    ++inside;
    if (wait_until([&] { return inside == 2; })) ++together;
  };
  Consumer consumer{dsn(), with};
  consumer.on_batch("a", meet).on_batch("b", meet);
  finish_batches(consumer);
  EXPECT_EQ(together, 2);
}

TEST_F(ConsumerOnBatchTest, AKeyDoesNotDivideACall) {
  auto with = options();
  with.concurrency = 4;
  with.key = [](const Message& message) { return *message.payload; };
  publish_alternating(6, {"many", "one"});
  Seen ones;
  std::vector<std::string> got;
  Consumer consumer{dsn(), with};
  consumer.on_batch("many", [&](const std::vector<Message>& messages) { got = payloads(messages); });
  consumer.on("one", ones.handler());
  finish_batches(consumer);
  EXPECT_THAT(got, ElementsAre("0", "2", "4"));
  EXPECT_EQ(ones.size(), 3U);
}

}  // namespace
}  // namespace pgque::test
