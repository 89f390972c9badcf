// What stats() tells.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using ConsumerStatsTest = ConsumerTest;

TEST_F(ConsumerStatsTest, AreZeroAtFirst) {
  const Consumer consumer{dsn(), options()};
  const auto stats = consumer.stats();
  EXPECT_EQ(stats.batches + stats.messages + stats.failures + stats.unknown + stats.retries + stats.abandoned +
                stats.stale_acks + stats.takeovers + stats.stuck + stats.reconnects,
            0U);
  EXPECT_EQ(stats.state, ConsumerState::idle);
  EXPECT_EQ(stats.last_error, "");
}

TEST_F(ConsumerStatsTest, CountBatchesAndWhatBecameOfTheirMessages) {
  for (const char* type : {"good", "good", "good", "bad", "bad", "unknown"}) client().send(queue(), "1", type);
  queue().tick();
  client().send(queue(), "1", "good");
  queue().tick();
  Consumer consumer{dsn(), options()};
  consumer.on("good", [](const Message&) {});
  consumer.on("bad", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer, 2);
  const auto stats = consumer.stats();
  EXPECT_EQ(stats.batches, 2U);
  EXPECT_EQ(stats.messages, 4U);
  EXPECT_EQ(stats.failures, 2U);
  EXPECT_EQ(stats.unknown, 1U);
  EXPECT_EQ(stats.retries, 3U);
  EXPECT_EQ(stats.abandoned, 0U);
  EXPECT_EQ(stats.stale_acks, 0U);
  EXPECT_EQ(stats.takeovers, 0U);
  EXPECT_EQ(stats.reconnects, 0U);
  EXPECT_EQ(stats.dead_letters, 0U);
  EXPECT_EQ(stats.last_error, "handler error: no");
}

TEST_F(ConsumerStatsTest, CountRedeliveriesAbandonedBatchesAndReconnects) {
  publish_numbers(2);
  bool once = true;
  Consumer consumer{watched_dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "1" && std::exchange(once, false)) Sql{}("select pg_terminate_backend(pid)" + watched());
  });
  finish_batches(consumer);
  const auto stats = consumer.stats();
  EXPECT_EQ(stats.batches, 1U);
  EXPECT_EQ(stats.messages, 4U);
  EXPECT_EQ(stats.abandoned, 1U);
  EXPECT_EQ(stats.reconnects, 1U);
  EXPECT_NE(stats.last_error, "");
}

TEST_F(ConsumerStatsTest, CountMessagesHandledBeforeTheSessionWasLostInAHandlersTransaction) {
  publish_numbers(3);
  bool once = true;
  Consumer consumer{watched_dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec("select 1");
    if (message.payload == "1" && std::exchange(once, false)) Sql{}("select pg_terminate_backend(pid)" + watched());
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_GE(consumer.stats().messages, 4U);  // "0" and, the second time, all three
}

TEST_F(ConsumerStatsTest, ShowTheState) {
  Gate gate;
  Sql other;
  std::optional<pqxx::work> holding{std::in_place, other.connection()};
  holding->exec("select * from pgque.receive(" + sql().quote(queue().name()) + ", " + sql().quote(consumer_name()) +
                ")");
  auto retrying = options();
  retrying.on_error = [](const Error&) { return ErrorAction::retry; };
  retrying.reconnect = {10s, 10s};
  Consumer consumer{watched_dsn(), retrying};
  consumer.on("t", [&](const Message&) { gate.pass(); });
  Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  EXPECT_EQ(consumer.stats().state, ConsumerState::receiving);
  holding.reset();
  EXPECT_TRUE(wait_state(consumer, ConsumerState::waiting));
  publish("1");
  EXPECT_TRUE(gate.wait_arrived());
  EXPECT_EQ(consumer.stats().state, ConsumerState::handling);
  gate.open();
  EXPECT_TRUE(wait_state(consumer, ConsumerState::waiting));
  client().unsubscribe(queue(), consumer_name());
  queue().tick();
  EXPECT_TRUE(wait_state(consumer, ConsumerState::backing_off));
  running.stop_and_join();
  EXPECT_EQ(consumer.stats().state, ConsumerState::idle);
}

}  // namespace
}  // namespace pgque::test
