// The server session of a consumer is ended with pg_terminate_backend(), at each point of its loop.

#include "fault_fixture.hpp"

namespace pgque::test {
namespace {

class BackendTerminated : public FaultModes {
 protected:
  void SetUp() override {
    FaultModes::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    work.emplace(queue(), mode());
    consumer.emplace(watched_dsn(), options());
    work->handle_with(*consumer);
  }
  void TearDown() override {
    running.reset();
    consumer.reset();
    FaultModes::TearDown();
  }
  void start() { running.emplace(*consumer); }
  // In this mode the handlers' work is lost with the connection.
  bool per_batch() const { return mode() == TransactionMode::per_batch; }
  // One pause, one new connection.
  void expect_reconnected_once() {
    EXPECT_EQ(consumer->stats().reconnects, 1U);
    EXPECT_EQ(log.count(LogEvent::connection_lost), 1U);
    EXPECT_FALSE(running->ended());
  }

  std::optional<Work> work;
  std::optional<Consumer> consumer;
  std::optional<Running<Consumer>> running;
};

TEST_P(BackendTerminated, WhileIdleInListen) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  terminate_sessions();
  // The consumer notices by itself: it polls only every 30 s.
  ASSERT_TRUE(wait_until([&] { return consumer->stats().reconnects == 1; }));
  publish_numbers(count);
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  expect_reconnected_once();
  expect_works_on(*work, mode());
}

TEST_P(BackendTerminated, WhileIdleInListenWithAMessageSentMeanwhile) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  // No session listens to the notification of this tick.
  terminate_sessions();
  publish_numbers(count);
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  expect_reconnected_once();
}

TEST_P(BackendTerminated, InReceive) {
  {
    const SubscriptionLock lock{queue(), consumer_name()};
    publish_numbers(count);
    start();
    ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
    ASSERT_EQ(consumer->stats().state, ConsumerState::receiving);
    terminate_sessions();
    ASSERT_TRUE(wait_until([&] { return consumer->stats().reconnects == 1 && session_waits_for_lock(); }));
  }
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  expect_reconnected_once();
  expect_works_on(*work, mode());
}

TEST_P(BackendTerminated, InAHandler) {
  Gate gate;
  work->hook = [&](const Message& message, Context&) {
    if (*message.payload == "4") gate.pass();
  };
  publish_numbers(count);
  start();
  ASSERT_TRUE(gate.wait_arrived());
  terminate_sessions();
  gate.open();
  expect_nothing_lost(*work, mode());
  // Split does not need its connection before the ack, and sends it over the new one; per_batch stops at the message
  // that found it broken.
  for (const auto& [payload, times] : work->deliveries()) {
    EXPECT_EQ(times, per_batch() && std::stoi(payload) <= 4 ? 2 : 1) << "message " << payload;
  }
  EXPECT_EQ(consumer->stats().batches, 1U);
  EXPECT_EQ(consumer->stats().abandoned, per_batch() ? 1U : 0U);
  EXPECT_EQ(queue().retries(), 0) << "a lost connection is no failure of a message";
  expect_reconnected_once();
  expect_works_on(*work, mode());
}

TEST_P(BackendTerminated, InAHandlerThatDoesNotNeedTheConnection) {
  Gate gate;
  // No row is written, so nothing notices before the ack.
  consumer->on("t", [&](const Message& message, Context& context) { work->hook(message, context); });
  std::atomic<int> deliveries{0};
  work->hook = [&](const Message&, Context&) {
    ++deliveries;
    gate.pass();
  };
  publish("0");
  start();
  ASSERT_TRUE(gate.wait_arrived());
  terminate_sessions();
  gate.open();
  EXPECT_TRUE(wait_until([&] { return settled(*consumer); }));
  EXPECT_EQ(deliveries, per_batch() ? 2 : 1);
  expect_reconnected_once();
}

TEST_P(BackendTerminated, InNack) {
  std::optional<Barrier> barrier{std::in_place, sql(), Barrier::Where::nack};
  std::atomic<bool> failing{true};
  work->hook = [&](const Message& message, Context&) {
    if (failing && *message.payload == "3") throw std::runtime_error{"not now"};
  };
  publish_numbers(count);
  start();
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  terminate_sessions();
  barrier.reset();
  ASSERT_TRUE(wait_until([&] { return settled(*consumer); }));
  // Only the second nack counts.
  EXPECT_EQ(queue().retries(), 1);
  failing = false;
  queue().expire_retries();
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->deliveries_of("3"), per_batch() ? 3 : 2);
  EXPECT_EQ(work->deliveries_of("2"), per_batch() ? 2 : 1);
  EXPECT_EQ(log.count(LogEvent::nack_failed), 0U) << "the nack was not refused, the connection was lost";
  expect_reconnected_once();
}

// The ack is held back on its way, after the nack has been answered.
TEST_P(BackendTerminated, BetweenNackAndAck) {
  TcpProxy proxy{server().port()};
  consumer.emplace(watched_dsn(proxy), options());
  work->handle_with(*consumer);
  std::atomic<bool> failing{true};
  work->hook = [&](const Message& message, Context&) {
    if (failing && *message.payload == "3") throw std::runtime_error{"not now"};
  };
  proxy.hold_requests_from("pgque_ack");
  publish_numbers(count);
  start();
  ASSERT_TRUE(proxy.wait_held());
  EXPECT_EQ(consumer->stats().failures, 1U);
  EXPECT_EQ(queue().retries(), 0) << "visible before the ack";
  terminate_sessions();
  proxy.release();
  ASSERT_TRUE(wait_until([&] { return settled(*consumer); }));
  EXPECT_EQ(queue().retries(), 1);
  failing = false;
  queue().expire_retries();
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->deliveries_of("3"), per_batch() ? 3 : 2);
  EXPECT_EQ(work->deliveries_of("2"), per_batch() ? 2 : 1);
  expect_reconnected_once();
  running.reset();
}

TEST_P(BackendTerminated, InAck) {
  std::optional<Barrier> barrier{std::in_place, sql(), Barrier::Where::ack};
  publish_numbers(count);
  start();
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  EXPECT_EQ(work->total(), count);
  terminate_sessions();
  barrier.reset();
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), per_batch() ? 2 * count : count);
  EXPECT_EQ(log.count(LogEvent::batch_acked), 1U);
  expect_reconnected_once();
  expect_works_on(*work, mode());
}

// As another transaction holds it, not a trigger: in split mode the consumer itself holds no lock between its
// receive and its ack.
TEST_F(FaultTest, BackendTerminatedInAnAckThatWaitsForTheSubscription) {
  Work work{queue(), TransactionMode::split};
  Consumer consumer{watched_dsn(), options(TransactionMode::split)};
  work.handle_with(consumer);
  Gate gate;
  work.hook = [&](const Message&, Context&) { gate.pass(); };
  publish_numbers(count);
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  {
    const SubscriptionLock lock{queue(), consumer_name()};
    gate.open();
    ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
    terminate_sessions();
  }
  expect_nothing_lost(work, TransactionMode::split);
  EXPECT_EQ(work.total(), count);
  EXPECT_EQ(consumer.stats().reconnects, 1U);
}

TEST_P(BackendTerminated, OverAndOverAgain) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  constexpr int rounds = 10;
  for (int round = 0; round < rounds; ++round) {
    publish(std::to_string(round));
    sql()("select pg_terminate_backend(pid)" + watched());
  }
  expect_nothing_lost(*work, mode(), rounds);
  EXPECT_LE(log.count(LogEvent::connection_lost), static_cast<std::size_t>(rounds));
  // Each additional delivery needs a lost connection.
  EXPECT_LE(work->total(), rounds * (1 + static_cast<int>(log.count(LogEvent::connection_lost))));
  expect_works_on(*work, mode());
}

INSTANTIATE_TEST_SUITE_P(Modes, BackendTerminated, both_modes, mode_name);

// The heartbeat has a separate connection; its loss must neither cost the batch nor end the heartbeats.
TEST_F(FaultTest, BackendTerminatedInTheHeartbeat) {
  const std::string heartbeats = "query like '%touch_subconsumer%'";
  client().subscribe_subconsumer(queue(), group_name(), "a");
  auto settings = worker("a");
  settings.dead_interval = 300ms;
  Work work{queue(), TransactionMode::split};
  Consumer consumer{watched_dsn(), settings};
  work.handle_with(consumer);
  Gate gate;
  work.hook = [&](const Message&, Context&) { gate.pass(); };
  publish_numbers(count);
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());

  const auto beating = [&] { return sql().number("select count(*)" + watched() + "and " + heartbeats); };
  {
    const SubscriptionLock lock{queue(), group_name() + ".a"};
    ASSERT_TRUE(wait_until([&] { return beating() == 1 && session_waits_for_lock(); }));
    terminate_sessions(1, heartbeats);
  }
  // A worker that takes over batches after dead_interval looks at the time of the last heartbeat.
  const auto ended = sql().value("select clock_timestamp()").value();
  ASSERT_TRUE(wait_until([&] {
    return sql().value(of_worker("sub_active > timestamptz '" + ended + "'", "a")) == "t";
  })) << "the heart stood still";
  gate.open();
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_EQ(work.total(), count);
  EXPECT_EQ(consumer.stats().lost, 0U);
  EXPECT_EQ(consumer.stats().reconnects, 0U) << "the loop's connection has nothing to do with it";
  EXPECT_EQ(log.count(LogEvent::connection_lost), 1U);
}

TEST_F(FaultTest, BackendTerminatedOfTheTicker) {
  queue().config("ticker_max_lag", "20 milliseconds");
  TickerOptions settings;
  settings.tick_period = 20ms;
  settings.reconnect = {50ms, 200ms};
  settings.log = log.sink();
  Ticker ticker{watched_dsn(), settings};
  const Running ticking{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().leader; }));
  terminate_sessions(1, "pid in (select pid from pg_locks where locktype = 'advisory')");  // the one that ticks
  Work work{queue(), TransactionMode::per_batch};
  Consumer consumer{dsn(), options(TransactionMode::per_batch)};
  work.handle_with(consumer);
  const Running running{consumer};
  client().send(queue(), "0");
  client().send(queue(), "1");
  EXPECT_TRUE(wait_until([&] { return work.seen() == 2; }));
  EXPECT_EQ(ticker.stats().reconnects, 1U);
  EXPECT_TRUE(ticker.stats().leader);
}

}  // namespace
}  // namespace pgque::test
