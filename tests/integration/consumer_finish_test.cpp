// Batches whose messages are handled and that cannot be finished at once, in split mode: the nacks and the ack are
// repeated, the handlers are not.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"
#include "row_trigger.hpp"

namespace pgque::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConsumerFinishTest : public ConsumerTest {
 protected:
  static constexpr int count = 100;

  static std::string raise(const std::string& sqlstate) {
    return "raise exception using errcode = '" + sqlstate + "', message = 'something is in the way';";
  }
  ConsumerOptions quick() {
    auto with = options(TransactionMode::split);
    with.reconnect = {1ms, 10ms};
    return with;
  }
  // Counts the calls, and fails one message.
  std::function<void(const Message&)> handler() {
    return [this](const Message& message) {
      ++calls_;
      if (message.payload == "3") throw std::runtime_error{"no"};
    };
  }
  int calls() const { return calls_; }

 private:
  std::atomic<int> calls_{0};
};

class TransientErrorTest : public ConsumerFinishTest, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(ConsumerFinishTest, TransientErrorTest,
                         testing::Values("55P03", "40001", "40P01", "57014", "53200", "53100"),
                         [](const auto& instance) { return std::string{instance.param}; });

TEST_P(TransientErrorTest, AtTheAckRepeatsTheAckAndNotTheHandlers) {
  publish_numbers(count);
  std::optional<RowTrigger> failing{std::in_place, "update", "pgque.subscription", end_of_batch(), raise(GetParam())};
  Consumer consumer{dsn(), quick()};
  consumer.on("t", handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 3; }));
  EXPECT_EQ(log.lines(LogEvent::failed)[0].sqlstate, GetParam());
  EXPECT_EQ(log.lines(LogEvent::failed)[0].level, LogLevel::warning);
  EXPECT_EQ(queue().retries(), 0) << "the nack is part of the transaction of the ack";
  failing.reset();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(calls(), count);
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(consumer.stats().retries, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(consumer.stats().reconnects, 0U);
  EXPECT_EQ(log.count(LogEvent::batch_received), 1U);
}

TEST_P(TransientErrorTest, AtANackRepeatsTheNacksAndNotTheHandlers) {
  publish_numbers(count);
  std::optional<RowTrigger> failing{std::in_place, "insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(),
                                    raise(GetParam())};
  Consumer consumer{dsn(), quick()};
  consumer.on("t", handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 3; }));
  EXPECT_EQ(consumer.stats().batches, 0U);
  failing.reset();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(calls(), count);
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
}

TEST_F(ConsumerFinishTest, PausesGrowBetweenAttempts) {
  publish_numbers(count);
  std::mutex mutex;
  std::vector<Clock::time_point> attempts;
  auto growing = options(TransactionMode::split);
  growing.reconnect = {40ms, 10s};
  growing.drain_timeout = 0ms;
  growing.log = [&, sink = log.sink()](const LogRecord& record) {
    sink(record);
    if (record.event != LogEvent::failed) return;
    const std::lock_guard lock{mutex};
    attempts.push_back(Clock::now());
  };
  const RowTrigger failing{"update", "pgque.subscription", end_of_batch(), raise("55P03")};
  Consumer consumer{dsn(), growing};
  consumer.on("t", handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 4; }));
  const std::lock_guard lock{mutex};
  auto shortest = 20ms;
  for (std::size_t i = 1; i < 4; ++i, shortest *= 2) EXPECT_GE(attempts[i] - attempts[i - 1], shortest);
}

TEST_F(ConsumerFinishTest, AStopLetsItGoOnWithinTheDrainTimeout) {
  publish_numbers(count);
  std::optional<RowTrigger> failing{std::in_place, "update", "pgque.subscription", end_of_batch(), raise("55P03")};
  Consumer consumer{dsn(), quick()};
  consumer.on("t", handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 1; }));
  consumer.stop();
  const auto before = log.count(LogEvent::failed);
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= before + 2; }));
  failing.reset();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(calls(), count);
  EXPECT_EQ(queue().retries(), 1);
}

TEST_F(ConsumerFinishTest, AfterTheDrainTimeoutTheBatchIsLeft) {
  publish_numbers(count);
  const RowTrigger failing{"update", "pgque.subscription", end_of_batch(), raise("55P03")};
  auto hasty = quick();
  hasty.drain_timeout = 200ms;
  Consumer consumer{dsn(), hasty};
  consumer.on("t", handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 1; }));
  consumer.stop();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_EQ(running.error(), nullptr);
  EXPECT_EQ(consumer.stats().batches, 0U);
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(calls(), count);
  EXPECT_THAT(client().receive(queue(), consumer_name()), SizeIs(count));
}

// Until the batch is finished, a worker goes on with its heartbeats.
TEST_F(ConsumerFinishTest, AWorkerStaysAliveMeanwhile) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish_numbers(count);
  std::optional<RowTrigger> failing{std::in_place, "update", "pgque.subscription", end_of_batch(), raise("55P03")};
  auto cooperative = worker("w1");
  cooperative.reconnect = {1ms, 10ms};
  cooperative.dead_interval = 300ms;  // so its heartbeats are 100 ms apart
  Consumer consumer{dsn(), cooperative};
  consumer.on("t", handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 1; }));
  for (int beat = 0; beat < 2; ++beat) {
    const auto active = sql().value(of_worker("sub_active::text", "w1"));
    ASSERT_TRUE(wait_until([&] { return sql().value(of_worker("sub_active::text", "w1")) != active; }));
  }
  failing.reset();
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(calls(), count);
}

TEST_F(ConsumerFinishTest, OverANewConnectionAWorkerAcknowledgesItsBatchWithoutHandlingItAgain) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish_numbers(count);
  auto cooperative = worker("w1");
  cooperative.reconnect = {1ms, 10ms};
  Consumer consumer{watched_dsn(), cooperative};
  consumer.on("t", [&, handle = handler()](const Message& message) {
    if (message.payload == "0") Sql{}("select pg_terminate_backend(pid)" + watched() + "and query not like '%touch%'");
    handle(message);
  });
  Running running{consumer};
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(calls(), count);
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(consumer.stats().reconnects, 1U);
  EXPECT_EQ(consumer.stats().lost, 0U);
}

TEST_F(ConsumerFinishTest, ABatchThatAnotherWorkerTookMeanwhileIsLeftToIt) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish_numbers(count);
  auto cooperative = worker("w1");
  cooperative.reconnect = {1ms, 10ms};
  std::vector<Message> stolen;
  Consumer consumer{watched_dsn(), cooperative};
  consumer.on("t", [&, handle = handler()](const Message& message) {
    if (message.payload == "0") {
      Sql{}("select pg_terminate_backend(pid)" + watched() + "and query not like '%touch%'");
      stolen = Client{dsn(), client_options()}.receive_coop(queue(), group_name(), "thief", {std::nullopt, 1ms});
    }
    handle(message);
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }));
  EXPECT_EQ(consumer.stats().batches, 0U);
  EXPECT_EQ(calls(), count);
  ASSERT_THAT(stolen, SizeIs(count));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_TRUE(client().ack(stolen[0].batch_id));
}

// Another process has the same batch, and finishes it.
TEST_F(ConsumerFinishTest, ABatchThatWasFinishedElsewhereMeanwhileIsNotFinishedAgain) {
  publish_numbers(count);
  const auto batch = client().receive(queue(), consumer_name()).at(0).batch_id;
  Consumer consumer{watched_dsn(), quick()};
  consumer.on("t", [&, handle = handler()](const Message& message) {
    if (message.payload == std::to_string(count - 1)) {
      Sql{}("select pg_terminate_backend(pid)" + watched());
      Client{dsn(), client_options()}.ack(batch);
    }
    handle(message);
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().reconnects == 1; }));
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_EQ(calls(), count);
  EXPECT_EQ(consumer.stats().stale_acks, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_THAT(client().receive(queue(), consumer_name()), IsEmpty());
}

}  // namespace
}  // namespace pgque::test
