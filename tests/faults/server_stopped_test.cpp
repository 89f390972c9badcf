// The whole server goes away and comes back.

#include <tuple>

#include "fault_fixture.hpp"

namespace pgque::test {
namespace {

using Stop = PrivateServer::Stop;

class ServerStopped : public FaultTest, public testing::WithParamInterface<std::tuple<Stop, TransactionMode>> {
 protected:
  Stop how() const { return std::get<0>(GetParam()); }
  TransactionMode mode() const { return std::get<1>(GetParam()); }

  void expect_attempts_within(Clock::duration time) {
    EXPECT_GE(log.count(LogEvent::connection_lost), 1U);
    EXPECT_LE(log.count(LogEvent::connection_lost), static_cast<std::size_t>(attempts_within(time)));
  }
};

TEST_P(ServerStopped, WhileIdleInListenThenRestarted) {
  Work work{queue(), mode()};
  Consumer consumer{watched_dsn(), options(mode())};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto begin = Clock::now();
  server().stop(how());
  // Several attempts find no server.
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 4; }));
  EXPECT_FALSE(running.ended());
  server().start();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().reconnects == 1; }));
  expect_attempts_within(Clock::now() - begin);
  reconnect();
  publish_numbers(count);
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), count);
  expect_works_on(work, mode());
}

TEST_P(ServerStopped, InAHandlerThenRestarted) {
  Work work{queue(), mode()};
  Consumer consumer{watched_dsn(), options(mode())};
  work.handle_with(consumer);
  Gate gate;
  work.hook = [&](const Message& message, Context&) {
    if (*message.payload == "4") gate.pass();
  };
  publish_numbers(count);
  const Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  const auto begin = Clock::now();
  server().stop(how());
  gate.open();
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 2; }));
  server().start();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().reconnects == 1; }));
  expect_attempts_within(Clock::now() - begin);
  reconnect();
  expect_nothing_lost(work, mode());
  for (const auto& [payload, times] : work.deliveries()) EXPECT_LE(times, 2) << "message " << payload;
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(queue().retries(), 0);
  expect_works_on(work, mode());
}

TEST_P(ServerStopped, InAckThenRestarted) {
  Work work{queue(), mode()};
  Consumer consumer{watched_dsn(), options(mode())};
  work.handle_with(consumer);
  std::optional<Barrier> barrier{std::in_place, sql(), Barrier::Where::ack};
  publish_numbers(count);
  const Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  server().stop(how());
  server().start();
  reconnect();
  barrier.reset();
  expect_nothing_lost(work, mode());
  EXPECT_EQ(log.count(LogEvent::batch_acked), 1U);
  expect_works_on(work, mode());
}

TEST_P(ServerStopped, AndTheConsumerToo) {
  Work work{queue(), mode()};
  auto settings = options(mode());
  settings.reconnect = {20s, 30s};
  Consumer consumer{watched_dsn(), settings};
  work.handle_with(consumer);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  server().stop(how());
  ASSERT_TRUE(wait_state(consumer, ConsumerState::backing_off));
  EXPECT_LT(running.stop_and_join(), 10s);
  EXPECT_FALSE(running.error());
}

std::string stop_name(const testing::TestParamInfo<ServerStopped::ParamType>& info) {
  return testing::PrintToString(std::get<0>(info.param)) + '_' + testing::PrintToString(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Modes, ServerStopped,
                         testing::Combine(testing::Values(Stop::fast, Stop::immediate), both_modes), stop_name);

// A first connection that fails is reported to the caller.
TEST_F(FaultTest, ServerStoppedBeforeTheConsumerStarts) {
  Consumer consumer{dsn(), options(TransactionMode::per_batch)};
  consumer.on("unused", ignore);
  server().stop(Stop::fast);
  EXPECT_THROW(consumer.start(), ConnectionError);
  server().start();
  reconnect();
  Work work{queue(), TransactionMode::per_batch};
  work.handle_with(consumer);
  const Running running{consumer};
  publish_numbers(count);
  expect_nothing_lost(work, TransactionMode::per_batch);
}

// Two workers of a group and a ticker at once, as in a real outage.
TEST_F(FaultTest, ServerCrashedUnderAGroupAndATicker) {
  client().subscribe_subconsumer(queue(), group_name(), "a");
  queue().config("ticker_max_lag", "20 milliseconds");
  TickerOptions settings;
  settings.tick_period = 20ms;
  settings.reconnect = {50ms, 200ms};
  settings.log = log.sink();
  Ticker ticker{dsn(), settings};
  const Running ticking{ticker};
  Work work{queue(), TransactionMode::split};
  auto a_options = worker("a");
  auto b_options = worker("b");
  a_options.dead_interval = b_options.dead_interval = 2s;
  Consumer a{dsn(), a_options};
  Consumer b{dsn(), b_options};
  work.handle_with(a);
  work.handle_with(b);
  const Running running_a{a};
  const Running running_b{b};
  ASSERT_TRUE(wait_state(a, ConsumerState::waiting));
  ASSERT_TRUE(wait_state(b, ConsumerState::waiting));
  for (int i = 0; i < 200; ++i) {
    client().send(queue(), std::to_string(i));
    if (i == 100) {
      server().restart(Stop::immediate);
      reconnect();
    }
  }
  EXPECT_TRUE(wait_until([&] { return work.seen() == 200; }));
  EXPECT_TRUE(wait_until([&] {
    return sql().number("select count(*) from pgque.get_consumer_info(" + sql().quote(queue()) + ") where " +
                        "consumer_name like '%.%' and current_batch is not null") == 0;
  }));
  EXPECT_FALSE(running_a.ended());
  EXPECT_FALSE(running_b.ended());
  EXPECT_FALSE(ticking.ended());
}

}  // namespace
}  // namespace pgque::test
