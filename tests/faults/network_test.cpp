// The connection between consumer and server is cut, with or without a notice, or delayed.

#include "fault_fixture.hpp"

namespace pgque::test {
namespace {

// How soon each end notices that the other has vanished: after two or three seconds. Connecting takes longer than that
// on a busy machine.
const std::string quick_client =
    " keepalives_idle=1 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=2000"
    " connect_timeout=5";
const std::string quick_server =
    " options='-c tcp_keepalives_idle=1 -c tcp_keepalives_interval=1"
    " -c tcp_keepalives_count=2 -c tcp_user_timeout=2000'";

class Network : public FaultModes {
 protected:
  void SetUp() override {
    FaultModes::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    proxy.emplace(server().port());
    work.emplace(queue(), mode());
  }
  void TearDown() override {
    // The proxy is destroyed first and ends every connection that hangs, so that a failing test fails instead of
    // hanging.
    proxy.reset();
    running.reset();
    consumer.reset();
    FaultModes::TearDown();
  }
  void start(const std::string& more_settings, const ConsumerOptions& options) {
    consumer.emplace(watched_dsn(*proxy) + more_settings, options);
    work->handle_with(*consumer);
    running.emplace(*consumer);
  }
  void start(const std::string& more_settings = quick_client + quick_server) { start(more_settings, options()); }

  std::optional<TcpProxy> proxy;
  std::optional<Work> work;
  std::optional<Consumer> consumer;
  std::optional<Running<Consumer>> running;
};

TEST_P(Network, ConnectionResetWhileIdleInListen) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->cut();
  ASSERT_TRUE(wait_until([&] { return consumer->stats().reconnects == 1; }));
  publish_numbers(count);
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 1U);
}

TEST_P(Network, ConnectionResetInAHandler) {
  Gate gate;
  work->hook = [&](const Message& message, Context&) {
    if (*message.payload == "4") gate.pass();
  };
  publish_numbers(count);
  start();
  ASSERT_TRUE(gate.wait_arrived());
  proxy->cut();
  gate.open();
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->deliveries_of("3"), mode() == TransactionMode::per_batch ? 2 : 1);
  EXPECT_EQ(consumer->stats().batches, 1U);
  EXPECT_EQ(queue().retries(), 0);
  expect_works_on(*work, mode());
}

// The ack arrives, but its answer does not. The batch is finished, and is not delivered again. In split mode the
// consumer finds that out.
TEST_P(Network, ConnectionResetBeforeTheAnswerToTheAck) {
  publish("\"first\"");
  start();
  // The statements have been prepared, so the next request that names the ack executes it.
  ASSERT_TRUE(wait_until([&] { return consumer->stats().batches == 1; }));
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  Gate gate;
  work->hook = [&](const Message&, Context&) { gate.pass(); };
  publish("\"second\"");
  ASSERT_TRUE(gate.wait_arrived());
  proxy->hold_answers_after(mode() == TransactionMode::per_batch ? "commit" : "pgque_ack");
  gate.open();
  ASSERT_TRUE(proxy->wait_held());
  ASSERT_TRUE(wait_until([&] { return drained(); })) << "the server has not got the request";
  proxy->cut();
  ASSERT_TRUE(wait_until([&] { return consumer->stats().reconnects == 1; }));
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  EXPECT_EQ(work->deliveries_of("\"second\""), 1);
  if (mode() == TransactionMode::per_batch) {
    EXPECT_EQ(rows("\"second\""), 1);
  }
  EXPECT_EQ(consumer->stats().batches, mode() == TransactionMode::per_batch ? 1U : 2U);
  EXPECT_EQ(log.count(LogEvent::batch_received), 2U);
  EXPECT_EQ(consumer->stats().stale_acks, 0U);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 1U);
  expect_works_on(*work, mode());
}

// The commit arrives, and so does what was deferred to it; the answer does not. Neither the handler nor what it
// deferred runs again.
TEST_P(Network, ConnectionResetBeforeTheAnswerToTheCommitOfDeferredWrites) {
  Gate gate;
  std::atomic<int> calls{0};
  consumer.emplace(watched_dsn(*proxy) + quick_client + quick_server, options());
  consumer->on("*", [&](const Message& message, Context& context) {
    context.on_ack([&, payload = *message.payload](pqxx::transaction_base& transaction) {
      ++calls;
      transaction.exec("insert into public.faults_done values (" + transaction.quote(queue().name()) + ", " +
                       transaction.quote(payload) + ")");
      gate.pass();
    });
  });
  running.emplace(*consumer);
  publish("\"once\"");
  ASSERT_TRUE(gate.wait_arrived());
  proxy->hold_answers_after("commit");
  gate.open();
  ASSERT_TRUE(proxy->wait_held());
  ASSERT_TRUE(wait_until([&] { return drained(); })) << "the server has not got the request";
  proxy->cut();
  ASSERT_TRUE(wait_until([&] { return consumer->stats().reconnects == 1; }));
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(rows("\"once\""), 1);
  EXPECT_EQ(log.count(LogEvent::batch_received), 1U);
  EXPECT_EQ(consumer->stats().deferred, 0U);
  EXPECT_EQ(consumer->stats().stale_acks, 0U);
}

// The commit does not arrive: the handler's writes are made again over a new connection. In split mode the handler is
// not called again for that.
TEST_P(Network, ConnectionResetBeforeTheCommitOfDeferredWrites) {
  std::atomic<int> handled{0};
  std::atomic<int> calls{0};
  consumer.emplace(watched_dsn(*proxy) + quick_client + quick_server, options());
  consumer->on("*", [&](const Message& message, Context& context) {
    ++handled;
    context.on_ack([&, payload = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec("insert into public.faults_done values (" + transaction.quote(queue().name()) + ", " +
                       transaction.quote(payload) + ")");
      if (++calls == 1) proxy->cut();
    });
  });
  running.emplace(*consumer);
  publish("\"once\"");
  ASSERT_TRUE(wait_until([&] { return consumer->stats().batches == 1; }));
  EXPECT_EQ(handled, mode() == TransactionMode::per_batch ? 2 : 1);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(rows("\"once\""), 1);
  EXPECT_EQ(consumer->stats().failures, 0U);
  EXPECT_EQ(queue().retries(), 0);
}

// There is no FIN, no RST and no acknowledgement of any packet: only keepalives notice the loss.
TEST_P(Network, ConnectionVanishedSilentlyWhileIdleInListen) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->vanish();
  publish_numbers(count);
  // The consumer cannot connect again either; each attempt takes connect_timeout.
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 2; }));
  EXPECT_EQ(work->total(), 0);
  proxy->reappear();
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  EXPECT_EQ(consumer->stats().reconnects, 1U);
  expect_works_on(*work, mode());
}

TEST_P(Network, ConnectionVanishedSilentlyInAHandler) {
  Gate gate;
  work->hook = [&](const Message& message, Context&) {
    if (*message.payload == "4") gate.pass();
  };
  publish_numbers(count);
  start();
  ASSERT_TRUE(gate.wait_arrived());
  proxy->vanish();
  gate.open();
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 1; }));
  proxy->reappear();
  // In per_batch the server's session still has the batch, until the server notices as well.
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->deliveries_of("3"), mode() == TransactionMode::per_batch ? 2 : 1);
  expect_works_on(*work, mode());
}

TEST_P(Network, ConnectionVanishedSilentlyInReceive) {
  {
    const SubscriptionLock lock{queue(), consumer_name()};
    publish_numbers(count);
    start();
    ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
    proxy->vanish();
    ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 1; }));
    proxy->reappear();
  }
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  expect_works_on(*work, mode());
}

// What a vanished consumer leaves in the server is an open transaction with the lock on its subscription. Unless the
// server checks its clients, it keeps the transaction for the operating system's two hours, and the consumer, which has
// reconnected long before, waits as long.
TEST_F(FaultTest, TheServerIsToldToLookForAConsumerThatVanished) {
  std::mutex mutex;
  std::map<std::string, std::string> settings;
  Consumer consumer{dsn(), options(TransactionMode::per_batch)};
  consumer.on("*", [&](const Message&, Context& context) {
    const std::lock_guard lock{mutex};
    for (const auto& row :
         context.transaction().exec("select name, setting from pg_settings where name like 'tcp_%'")) {
      settings[row[0].c_str()] = row[1].c_str();
    }
  });
  const Running running{consumer};
  publish("0");
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  // The server checks the client as the client checks the server: after 30 s, three times, 10 s apart.
  EXPECT_EQ(settings["tcp_keepalives_idle"], "30");
  EXPECT_EQ(settings["tcp_keepalives_interval"], "10");
  EXPECT_EQ(settings["tcp_keepalives_count"], "3");
  EXPECT_EQ(settings["tcp_user_timeout"], "60000");
}

// A vanished ticker leaves its lock. No other ticker becomes active until the server notices.
TEST_F(FaultTest, TheServerIsToldToLookForATickerThatVanished) {
  sql()("create table public.faults_ticker as select name, setting from pg_settings where false");
  sql()(
      "create function public.faults_look() returns trigger language plpgsql as $$ begin "
      "insert into public.faults_ticker select name, setting from pg_settings where name like 'tcp_%'; return new; "
      "end $$");
  sql()("create trigger faults_look before insert on pgque.tick for each row execute function public.faults_look()");
  {
    TickerOptions options;
    options.log = log.sink();
    Ticker ticker{dsn(), options};
    const Running running{ticker};
    client().force_next_tick(queue());
    EXPECT_TRUE(wait_until([&] { return ticker.stats().ticks > 0; }));
  }
  const auto setting = [&](const std::string& name) {
    return sql().value("select string_agg(distinct setting, ' ') from public.faults_ticker where name = '" + name +
                       "'");
  };
  EXPECT_EQ(setting("tcp_keepalives_idle"), "30");
  EXPECT_EQ(setting("tcp_keepalives_interval"), "10");
  EXPECT_EQ(setting("tcp_keepalives_count"), "3");
  EXPECT_EQ(setting("tcp_user_timeout"), "60000");
  sql()("drop trigger faults_look on pgque.tick");
  sql()("drop function public.faults_look");
  sql()("drop table public.faults_ticker");
}

// Neither end's operating system notices, and for a time the consumer does not either. Then the traffic continues.
TEST_P(Network, FrozenWhileIdleInListenThenThawed) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->freeze();
  publish_numbers(count);
  EXPECT_EQ(work->total(), 0);
  proxy->thaw();
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 0U);
}

TEST_P(Network, FrozenWhileIdleInListenThenReset) {
  auto settings = options();
  settings.poll_interval = 100ms;
  start(quick_client, settings);
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->freeze();
  publish_numbers(count);
  // The consumer has sent a request and gets no answer.
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::receiving));
  EXPECT_EQ(work->total(), 0);
  proxy->cut();
  proxy->thaw();
  expect_nothing_lost(*work, mode());
  EXPECT_EQ(work->total(), count);
  EXPECT_EQ(consumer->stats().reconnects, 1U);
}

TEST_P(Network, FrozenInAHandlerThenReset) {
  Gate gate;
  work->hook = [&](const Message&, Context&) { gate.pass(); };
  publish_numbers(count);
  start();
  ASSERT_TRUE(gate.wait_arrived());
  proxy->freeze();
  gate.open();
  if (mode() == TransactionMode::split) {
    ASSERT_TRUE(wait_until([&] { return work->total() == count; }));
  }
  proxy->cut();
  proxy->thaw();
  expect_nothing_lost(*work, mode());
  for (const auto& [payload, times] : work->deliveries()) EXPECT_LE(times, 2) << "message " << payload;
  expect_works_on(*work, mode());
}

TEST_P(Network, FrozenWhileConnectingGivesUpAfterConnectTimeout) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->freeze();
  proxy->cut();
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 2; }));
  proxy->cut();
  proxy->thaw();
  publish_numbers(count);
  expect_nothing_lost(*work, mode());
}

// libpq cannot be interrupted while it connects, but it takes no longer than connect_timeout.
TEST_P(Network, StopWhileConnectingWaitsForConnectTimeoutAtMost) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->freeze();
  proxy->cut();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::connecting));
  consumer->stop();
  EXPECT_TRUE(running->wait_ended(10s)) << "start() does not return";
  EXPECT_FALSE(running->error());
}

// The connection is made, but connect_timeout does not limit the statements that configure the session.
TEST_P(Network, StopWhileTheFirstStatementsGetNoAnswer) {
  for (const char* statement : {"idle_session_timeout", "listen"}) {
    proxy->hold_answers_after(statement);
    start();
    ASSERT_TRUE(proxy->wait_held()) << statement;
    ASSERT_EQ(consumer->stats().state, ConsumerState::connecting);
    consumer->stop();
    EXPECT_TRUE(running->wait_ended(10s)) << "start() does not return: " << statement;
    EXPECT_EQ(log.count(LogEvent::listen_unavailable), 0U) << statement;
    proxy->cut();
    running->stop_and_join();
    EXPECT_FALSE(running->error()) << statement;
  }
}

// stop() while the connection gives no answers any more.
TEST_P(Network, StopWhileFrozenAndIdleInListen) {
  start();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->freeze();
  consumer->stop();
  EXPECT_TRUE(running->wait_ended(10s)) << "start() does not return";
}

TEST_P(Network, StopWhileFrozenInReceive) {
  auto settings = options();
  settings.poll_interval = 100ms;
  start(quick_client, settings);
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  proxy->freeze();
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::receiving));
  consumer->stop();
  EXPECT_TRUE(running->wait_ended(10s)) << "start() does not return";
}

TEST_P(Network, StopWhileVanishedInReceive) {
  const SubscriptionLock lock{queue(), consumer_name()};
  // With the library's own keepalives, which find out only after a minute.
  start("");
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  proxy->vanish();
  consumer->stop();
  EXPECT_TRUE(running->wait_ended(10s)) << "start() does not return";
}

// The handlers do not use the connection. The batch's transaction cannot even be rolled back.
TEST_P(Network, StopNowWhileFrozenInAHandler) {
  Gate gate;
  consumer.emplace(watched_dsn(*proxy), options());
  consumer->on("*", [&](const Message&) { gate.pass(); });
  publish_numbers(count);
  running.emplace(*consumer);
  ASSERT_TRUE(gate.wait_arrived());
  proxy->freeze();
  consumer->stop_now();
  gate.open();
  EXPECT_TRUE(running->wait_ended(10s)) << "start() does not return";
  EXPECT_FALSE(running->error());
  EXPECT_EQ(gate.arrived(), 1);
}

TEST_P(Network, StopWhileFrozenInAckWaitsForDrainTimeoutAtMost) {
  auto settings = options();
  settings.drain_timeout = 200ms;
  Gate gate;
  consumer.emplace(watched_dsn(*proxy), settings);
  consumer->on("*", [&](const Message&) { gate.pass(); });
  publish("0");
  running.emplace(*consumer);
  ASSERT_TRUE(gate.wait_arrived());
  proxy->freeze();
  gate.open();
  ASSERT_TRUE(wait_until([&] { return consumer->stats().messages == 1; }));
  consumer->stop();
  EXPECT_TRUE(running->wait_ended(10s)) << "start() does not return";
  EXPECT_FALSE(running->error());
  EXPECT_EQ(consumer->stats().batches, 0U);
}

INSTANTIATE_TEST_SUITE_P(Modes, Network, both_modes, mode_name);

// The server does not answer while the library sets, releases or rolls back the savepoint of a handler.
class FrozenSavepoint : public FaultTest {
 protected:
  void expect_stop_ends(Gate& gate, const std::function<void(const Message&, Context&)>& handler) {
    std::optional<TcpProxy> proxy{server().port()};
    Consumer consumer{watched_dsn(*proxy), options(TransactionMode::per_batch)};
    consumer.on("*", handler);
    publish("1");
    Running running{consumer};
    ASSERT_TRUE(gate.wait_arrived());
    proxy->freeze();
    consumer.stop();
    consumer.stop_now();
    gate.open();
    EXPECT_TRUE(running.wait_ended(10s)) << "start() does not return";
    proxy.reset();
    EXPECT_FALSE(running.error());
    EXPECT_EQ(consumer.stats().batches, 0U);
  }
};

TEST_F(FrozenSavepoint, StopNowAsItIsSet) {
  Gate gate;
  expect_stop_ends(gate, [&](const Message&, Context& context) {
    gate.pass();
    context.transaction();
  });
}

TEST_F(FrozenSavepoint, StopNowAsItIsKept) {
  Gate gate;
  expect_stop_ends(gate, [&](const Message&, Context& context) {
    context.transaction();
    gate.pass();
  });
}

TEST_F(FrozenSavepoint, StopNowAsItIsUndone) {
  Gate gate;
  expect_stop_ends(gate, [&](const Message&, Context& context) {
    context.transaction();
    gate.pass();
    throw std::runtime_error{"refused by the handler"};
  });
}

// Only the heartbeat's connection gets no answers any more. Only the heartbeat waits for one.
TEST_F(FaultTest, StopWhileTheHeartbeatGetsNoAnswer) {
  std::optional<TcpProxy> proxy{server().port()};
  auto settings = worker("a");
  settings.dead_interval = 300ms;
  client().subscribe_subconsumer(queue(), group_name(), "a");
  Work work{queue(), TransactionMode::split};
  Consumer consumer{watched_dsn(*proxy), settings};
  work.handle_with(consumer);
  Gate gate;
  work.hook = [&](const Message&, Context&) { gate.pass(); };
  publish_numbers(count);
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  proxy->hold_answers_after("touch_subconsumer");
  ASSERT_TRUE(proxy->wait_held());
  gate.open();
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; })) << "the loop waits for the heartbeat";
  EXPECT_EQ(work.total(), count);
  consumer.stop();
  EXPECT_TRUE(running.wait_ended(10s)) << "start() does not return";
  proxy.reset();
}

}  // namespace
}  // namespace pgque::test
