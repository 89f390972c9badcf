// Handlers that hang, and what a consumer says and does about them.

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::SizeIs;

class ConsumerStuckTest : public ConsumerTest {
 protected:
  void subscribe(const std::string& worker_name) { client().subscribe_subconsumer(queue(), group_name(), worker_name); }
  // Takes over what the worker holds, at once unless a heartbeat has come just now, and finishes it, so that the worker
  // cannot take it back.
  std::vector<Message> steal() {
    Client thief{dsn(), client_options()};
    std::vector<Message> stolen;
    EXPECT_TRUE(wait_until([&] {
      stolen = thief.receive_coop(queue(), group_name(), "thief", {std::nullopt, 1ms});
      return !stolen.empty();
    }));
    EXPECT_TRUE(thief.ack(stolen.at(0).batch_id));
    return stolen;
  }
  // A worker whose heartbeats are 100 ms apart.
  ConsumerOptions lively() {
    auto out = worker("w1");
    out.dead_interval = 300ms;
    return out;
  }
};

class HungHandlerTest : public ConsumerStuckTest, public testing::WithParamInterface<const char*> {
 protected:
  ConsumerOptions mode() {
    const std::string name = GetParam();
    if (name == "PerBatch") return options(TransactionMode::per_batch);
    if (name == "Split") return options(TransactionMode::split);
    if (name == "Concurrent") {
      auto out = options();
      out.concurrency = 2;
      return out;
    }
    subscribe("w1");
    return worker("w1");
  }
};

// The second handler, which hangs after the first one, or beside it, is logged as well.
TEST_P(HungHandlerTest, IsLoggedOnceAndCounted) {
  auto with = mode();
  const auto ids = publish_numbers(2);
  with.handler_timeout = 20ms;
  Gate gates[2];
  Seen seen;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    gates[message.payload == "0" ? 0 : 1].pass();
  });
  Running running{consumer};
  ASSERT_TRUE(gates[0].wait_arrived());
  ASSERT_TRUE(wait_until([&] { return consumer.stats().stuck >= 1; })) << "while it hangs";
  gates[0].open();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().stuck == 2; }));
  gates[1].open();
  EXPECT_TRUE(wait_batches(consumer, 1));
  running.stop_and_join();
  const auto lines = log.lines(LogEvent::handler_stuck);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_EQ(consumer.stats().stuck, 2U);
  std::set<EventId> named;
  for (const auto& line : lines) {
    named.insert(line.msg_id.value());
    EXPECT_EQ(line.level, LogLevel::warning);
    EXPECT_EQ(line.batch_id, seen.messages()[0].batch_id);
    EXPECT_EQ(line.attempt, 1);
    EXPECT_THAT(line.message, HasSubstr("longer than handler_timeout, 20 ms"));
    EXPECT_EQ(line.message.find("another worker") != std::string::npos, !with.subconsumer.empty());
  }
  EXPECT_THAT(named, ElementsAreArray(std::set<EventId>(ids.begin(), ids.end())));
  EXPECT_EQ(consumer.stats().messages, 2U);
  EXPECT_EQ(consumer.stats().failures, 0U);
  EXPECT_EQ(consumer.stats().lost, 0U);
}

INSTANTIATE_TEST_SUITE_P(Modes, HungHandlerTest, testing::Values("PerBatch", "Split", "Concurrent", "Cooperative"),
                         [](const auto& instance) { return instance.param; });

TEST_F(ConsumerStuckTest, OnlyTheHandlerThatHangsIsNamed) {
  publish("0");
  const auto hanging = publish("1");
  auto with = options();
  with.handler_timeout = 3s;
  std::optional<std::size_t> logged;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "0") return;
    EXPECT_TRUE(wait_until([&] { return log.count(LogEvent::handler_stuck) != 0; }));
    logged = log.count(LogEvent::handler_stuck);
  });
  finish_batches(consumer, 2);
  EXPECT_EQ(logged, 1U);
  ASSERT_THAT(log.lines(LogEvent::handler_stuck), SizeIs(1));
  EXPECT_EQ(log.lines(LogEvent::handler_stuck)[0].msg_id, hanging);
}

TEST_F(ConsumerStuckTest, TheBatchOfAHungHandlerGoesToASibling) {
  subscribe("w1");
  subscribe("w2");
  const auto ids = publish_numbers(3);
  auto hanging = lively();
  hanging.handler_timeout = 50ms;
  Seen seen;
  Gate gate;
  std::atomic<bool> told{false};
  Consumer loser{dsn(), hanging};
  loser.on("t", [&](const Message& message, Context& context) {
    seen(message);
    told = wait_until([&] { return context.stop_requested(); });
    gate.pass();
    throw std::runtime_error{"it is another worker's by now"};
  });
  Running losing{loser};
  ASSERT_TRUE(wait_until([&] { return seen.size() == 1; }));

  LogCapture siblings_log;
  auto heir = worker("w2");
  heir.dead_interval = 1s;
  heir.poll_interval = 10ms;  // nothing is notified when a worker hangs
  heir.log = siblings_log.sink();
  Seen inherited;
  Consumer sibling{dsn(), heir};
  sibling.on("t", inherited.handler());
  Running running{sibling};
  ASSERT_TRUE(wait_batches(sibling, 1));
  EXPECT_THAT(inherited.ids(), ElementsAreArray(ids));
  ASSERT_TRUE(gate.wait_arrived());
  EXPECT_TRUE(told) << "the handler is told while it runs";
  EXPECT_EQ(loser.stats().lost, 1U);
  EXPECT_TRUE(wait_until([&] { return loser.stats().stuck == 1; }));
  EXPECT_EQ(seen.size(), 1U);

  gate.open();
  EXPECT_TRUE(wait_state(loser, ConsumerState::waiting));
  losing.stop_and_join();
  running.stop_and_join();
  EXPECT_THAT(seen.ids(), ElementsAre(ids[0])) << "no other handler of the batch runs";
  const auto lost = log.lines(LogEvent::batch_lost);
  ASSERT_THAT(lost, SizeIs(1));
  EXPECT_EQ(lost[0].level, LogLevel::warning);
  EXPECT_EQ(lost[0].batch_id, seen.messages()[0].batch_id);
  const auto stats = loser.stats();
  EXPECT_EQ(stats.lost, 1U);
  EXPECT_EQ(stats.stuck, 1U);
  EXPECT_EQ(stats.batches + stats.abandoned + stats.stale_acks + stats.retries, 0U);
  EXPECT_EQ(sibling.stats().batches, 1U);
  EXPECT_EQ(siblings_log.count(LogEvent::batch_lost), 0U);
  EXPECT_EQ(queue().retries(), 0);
}

// While a handler is stuck the heartbeat asks whether the batch is still the worker's, and touches nothing. It touches
// the worker's row again when the handler has returned.
TEST_F(ConsumerStuckTest, AHandlerThatReturnsInTimeKeepsItsBatchAndHeartbeatsGoOn) {
  subscribe("w1");
  publish_numbers(20);
  auto hanging = lively();
  hanging.handler_timeout = 1s;
  Sql other;
  const auto sign_of_life = [&] { return other.value(of_worker("sub_active::text", "w1")); };
  const auto asked = [&] {
    return other.value("select query_start::text" + watched() +
                       "and query like 'select pg_catalog.count(*) from pgque.subscription join pgque.queue on %'");
  };
  std::optional<std::string> last;
  bool goes_on = false;
  Consumer consumer{watched_dsn(), hanging};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "0") {
      ASSERT_TRUE(wait_until([&] { return consumer.stats().stuck == 1 && asked(); }));
      last = sign_of_life();
      for (int beat = 0; beat < 3; ++beat) {
        const auto before = asked();
        ASSERT_TRUE(wait_until([&] { return asked() != before; }));
      }
      EXPECT_EQ(sign_of_life(), last);
    } else if (!goes_on) {
      // Much shorter than the limit; there are many of them.
      goes_on = wait_until([&] { return sign_of_life() != last; }, 500ms);
    }
  });
  Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }, 60s));
  EXPECT_TRUE(goes_on);
  EXPECT_EQ(consumer.stats().messages, 20U);
  EXPECT_EQ(consumer.stats().lost, 0U);
  EXPECT_EQ(log.count(LogEvent::batch_lost), 0U);
}

class LostBatchTest : public ConsumerStuckTest {
 protected:
  static constexpr int count = 1000;

  // The first handler takes the batch away from its worker. All handlers are short, and fail.
  void lose_midway(const ConsumerOptions& options) {
    subscribe("w1");
    publish_numbers(count);
    std::atomic<bool> first{true};
    std::atomic<bool> taken{false};
    std::atomic<int> begun_too_late{0};
    std::vector<Message> stolen;
    Seen seen;
    Consumer consumer{dsn(), options};
    consumer.on("t", [&](const Message& message, Context& context) {
      if (context.stop_requested()) ++begun_too_late;
      seen(message);
      if (message.payload == "\"next\"") return;
      if (first.exchange(false)) {
        stolen = steal();
        taken = true;
      }
      wait_until([&] { return context.stop_requested(); }, 20ms);
      throw std::runtime_error{"no"};
    });
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return taken && consumer.stats().lost == 1; }));
    EXPECT_THAT(stolen, SizeIs(count));

    // The loser goes on with other batches, at once.
    const auto next = publish("\"next\"");
    EXPECT_TRUE(wait_batches(consumer, 1));
    running.stop_and_join();
    EXPECT_EQ(seen.ids().back(), next);
    EXPECT_LT(seen.size(), static_cast<std::size_t>(count)) << "a heartbeat finds out";
    // One handler of each thread may begin while the loss is being told.
    EXPECT_LT(begun_too_late, options.concurrency + 1);
    const auto lost = log.lines(LogEvent::batch_lost);
    ASSERT_THAT(lost, SizeIs(1));
    EXPECT_EQ(lost[0].batch_id, seen.messages()[0].batch_id);
    const auto stats = consumer.stats();
    EXPECT_EQ(stats.lost, 1U);
    EXPECT_EQ(stats.batches, 1U);
    EXPECT_EQ(stats.messages, 1U);
    EXPECT_EQ(stats.failures, seen.size() - 1);
    EXPECT_EQ(stats.abandoned + stats.stale_acks + stats.retries + stats.postponed + stats.stuck, 0U);
    EXPECT_EQ(queue().retries(), 0);
  }
};

TEST_F(LostBatchTest, IsNoticedByAHeartbeatWhileHandlersAreShort) {
  lose_midway(lively());
}

TEST_F(LostBatchTest, IsNoticedByAHeartbeatWhileConcurrentHandlersAreShort) {
  auto concurrent = lively();
  concurrent.concurrency = 2;
  lose_midway(concurrent);
}

TEST_F(LostBatchTest, IsNoticedByAHeartbeatBetweenPages) {
  auto paged = lively();
  paged.max_messages = 2;
  lose_midway(paged);
}

// What a handler throws then does not matter any more, not even NotNow.
TEST_F(LostBatchTest, IsNotPostponed) {
  subscribe("w1");
  publish("1");
  bool stolen = false;
  Consumer consumer{dsn(), lively()};
  consumer.on("t", [&](const Message&, Context& context) {
    if (std::exchange(stolen, true)) return;
    steal();
    EXPECT_TRUE(wait_until([&] { return context.stop_requested(); }));
    throw NotNow{1h};
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }));
  publish("\"next\"");
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(consumer.stats().postponed, 0U);
  EXPECT_EQ(log.count(LogEvent::batch_lost), 1U);
}

TEST_F(LostBatchTest, IsNotAbandonedByAStop) {
  subscribe("w1");
  publish_numbers(2);
  Seen seen;
  Consumer consumer{dsn(), lively()};
  consumer.on("t", [&](const Message& message, Context& context) {
    seen(message);
    steal();
    EXPECT_TRUE(wait_until([&] { return context.stop_requested(); }));
    EXPECT_EQ(log.count(LogEvent::batch_lost), 1U);
    consumer.stop_now();
  });
  consumer.start();
  EXPECT_EQ(seen.size(), 1U);
  EXPECT_EQ(consumer.stats().lost, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(log.count(LogEvent::batch_lost), 1U);
  EXPECT_EQ(log.count(LogEvent::batch_abandoned), 0U);
}

class SlowBatchTest : public ConsumerStuckTest {};

TEST_F(SlowBatchTest, IsLoggedOncePerBatchWhileAHandlerHangs) {
  publish("1");
  publish("2");
  auto with = options(TransactionMode::per_batch);
  with.slow_batch_after = 50ms;
  std::vector<BatchId> batches;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) {
    batches.push_back(context.batch());
    EXPECT_TRUE(wait_until([&] { return log.count(LogEvent::slow_batch) >= batches.size(); }));
  });
  finish_batches(consumer, 2);
  const auto lines = log.lines(LogEvent::slow_batch);
  ASSERT_THAT(lines, SizeIs(2));
  ASSERT_THAT(batches, SizeIs(2));
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(lines[i].level, LogLevel::warning);
    EXPECT_EQ(lines[i].batch_id, batches[i]);
    EXPECT_THAT(lines[i].message,
                AllOf(HasSubstr("for 50 ms"), HasSubstr("not pruned"), HasSubstr("rotated"), HasSubstr("split")));
  }
  EXPECT_EQ(log.count(LogEvent::handler_stuck), 0U);
}

// The watchdog has looked when it has reported a stuck handler.
TEST_F(SlowBatchTest, IsNotLoggedInSplitModeOrIfSwitchedOff) {
  for (const auto mode : {TransactionMode::split, TransactionMode::per_batch}) {
    publish("1");
    auto with = options(mode);
    with.handler_timeout = 20ms;
    with.slow_batch_after = mode == TransactionMode::split ? 1ms : 0ms;
    Consumer consumer{dsn(), with};
    consumer.on("t", [&](const Message&) { EXPECT_TRUE(wait_until([&] { return consumer.stats().stuck == 1; })); });
    finish_batches(consumer);
  }
  EXPECT_EQ(log.count(LogEvent::handler_stuck), 2U);
  EXPECT_EQ(log.count(LogEvent::slow_batch), 0U);
}

}  // namespace
}  // namespace pgque::test
