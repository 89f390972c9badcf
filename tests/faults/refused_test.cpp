// The server is reachable, but refuses connections or statements.

#include <algorithm>

#include "fault_fixture.hpp"

namespace pgque::test {
namespace {

using Refused = FaultModes;

// The server refuses each nack, as with a full disk or a broken trigger.
TEST_P(Refused, NackRefusedByTheServer) {
  sql()(
      "create function public.faults_refuse() returns trigger language plpgsql as "
      "$$ begin raise exception 'no room for retries' using errcode = '53100'; end $$");
  sql()(
      "create trigger faults_refuse before insert on pgque.retry_queue for each row "
      "execute function public.faults_refuse()");
  Work work{queue(), mode()};
  auto settings = options();
  settings.reconnect = {100ms, 400ms};
  Consumer consumer{dsn(), settings};
  work.handle_with(consumer);
  std::atomic<bool> failing{true};
  work.hook = [&](const Message& message, Context&) {
    if (failing && *message.payload == "3") throw std::runtime_error{"not now"};
  };
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto begin = Clock::now();
  publish_numbers(count);
  // In split mode a full disk is a reason to repeat the nacks, and not the handlers.
  const auto refused = mode() == TransactionMode::per_batch ? LogEvent::nack_failed : LogEvent::failed;
  ASSERT_TRUE(wait_until([&] { return log.count(refused) >= 5; }));
  const auto took = Clock::now() - begin;
  // Pauses of at least 50, 100, 200, 200 ms lie between five attempts.
  EXPECT_GE(took, 550ms);
  EXPECT_EQ(log.lines(refused).front().sqlstate, "53100");
  EXPECT_NE(log.lines(refused).front().message.find("no room for retries"), std::string::npos);
  EXPECT_EQ(log.count(LogEvent::batch_acked), 0U) << "an ack would lose the message";
  EXPECT_EQ(consumer.stats().reconnects, 0U);
  for (const auto& payload : numbers(count)) EXPECT_EQ(rows(payload), 0);

  sql()("drop trigger faults_refuse on pgque.retry_queue");
  sql()("drop function public.faults_refuse()");
  ASSERT_TRUE(wait_until([&] { return settled(consumer); }));
  EXPECT_EQ(queue().retries(), 1);
  failing = false;
  queue().expire_retries();
  expect_nothing_lost(work, mode());
  expect_works_on(work, mode());
}

TEST_P(Refused, OutOfConnectionsAtReconnect) {
  // The last slots are for superusers such as the test.
  const auto role_dsn = dsn_of_role_with({"pgque_reader"});
  Work work{queue(), mode()};
  auto settings = options();
  settings.reconnect = {200ms, 400ms};
  Consumer consumer{role_dsn + " application_name=pgque_out_of_connections", settings};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));

  std::vector<std::unique_ptr<Sql>> crowd;
  const auto fill = [&] {
    try {
      for (;;) crowd.push_back(std::make_unique<Sql>(role_dsn));
    } catch (const std::exception&) {
      // Full.
    }
  };
  // The consumer may be quicker than the crowd to take the slot that it has lost.
  ASSERT_TRUE(wait_until([&] {
    fill();
    sql()("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgque_out_of_connections'");
    const auto lost = log.lines(LogEvent::connection_lost);
    return std::count_if(lost.begin(), lost.end(), [](const LogCapture::Line& line) {
             return line.message.find("remaining connection slots") != std::string::npos;
           }) >= 4;
  }));
  EXPECT_FALSE(running.ended()) << "there may be room later";
  publish_numbers(count);
  EXPECT_EQ(work.total(), 0);
  crowd.clear();
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), count);
  EXPECT_GE(consumer.stats().reconnects, 1U);
  expect_works_on(work, mode());
}

// A consumer at work may deadlock with it, and then one of the two has to try again.
void drop(Sql& sql, const std::string& queue) {
  for (bool dropped = false; !dropped;) {
    try {
      sql("select pgque.drop_queue(" + sql.quote(queue) + ", true)");
      dropped = true;
    } catch (const pqxx::deadlock_detected&) {
    }
  }
}

TEST_P(Refused, QueueDropped) {
  Consumer consumer{dsn(), options()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  queue().tick();
  drop(sql(), queue());
  sql()("select pg_notify('pgque_' || " + sql().quote(queue()) + ", '1')");
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THROW(std::rethrow_exception(running.error()), ConsumerNotFound);
}

TEST_P(Refused, QueueDroppedAndMadeAgain) {
  Work work{queue(), mode()};
  auto settings = options();
  std::atomic<int> asked{0};
  settings.on_error = [&](const Error& error) {
    EXPECT_TRUE(dynamic_cast<const ConsumerNotFound*>(&error)) << error.what();
    ++asked;
    return ErrorAction::retry;
  };
  Consumer consumer{dsn(), settings};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto begin = Clock::now();
  drop(sql(), queue());
  sql()("select pg_notify('pgque_' || " + sql().quote(queue()) + ", '1')");
  ASSERT_TRUE(wait_until([&] { return asked >= 4; }));
  EXPECT_LE(asked, attempts_within(Clock::now() - begin));
  sql()("select pgque.create_queue(" + sql().quote(queue()) + ")");
  client().subscribe(queue(), consumer_name());
  publish_numbers(count);
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), count);
  EXPECT_EQ(consumer.stats().reconnects, 0U);
}

TEST_P(Refused, QueueDroppedWhileABatchIsHandled) {
  Work work{queue(), mode()};
  Consumer consumer{dsn(), options()};
  work.handle_with(consumer);
  Gate gate;
  work.hook = [&](const Message&, Context&) { gate.pass(); };
  publish_numbers(count);
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  if (mode() == TransactionMode::split) {
    // The batch goes with the queue.
    drop(sql(), queue());
    gate.open();
  } else {
    // The batch's transaction keeps the queue, until it ends or the two deadlock, and one of them has to try again.
    std::thread dropper{[&] {
      Sql own;
      drop(own, queue());
    }};
    EXPECT_TRUE(wait_until(
        [&] { return sql().number("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == 1; }));
    gate.open();
    dropper.join();
  }
  sql()("select pg_notify('pgque_' || " + sql().quote(queue()) + ", '1')");
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THROW(std::rethrow_exception(running.error()), ConsumerNotFound);
  EXPECT_EQ(work.seen(), static_cast<std::size_t>(count));
  if (mode() == TransactionMode::split) {
    EXPECT_EQ(consumer.stats().batches, 0U);
    EXPECT_EQ(consumer.stats().stale_acks, 1U);
  }
}

TEST_P(Refused, ConsumerUnsubscribed) {
  Consumer consumer{dsn(), options()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_TRUE(client().unsubscribe(queue(), consumer_name()));
  queue().tick();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THROW(std::rethrow_exception(running.error()), ConsumerNotFound);
}

TEST_P(Refused, ConsumerUnsubscribedAndSubscribedAgain) {
  Work work{queue(), mode()};
  auto settings = options();
  std::atomic<int> asked{0};
  settings.on_error = [&](const Error&) {
    ++asked;
    return ErrorAction::retry;
  };
  Consumer consumer{dsn(), settings};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto begin = Clock::now();
  client().unsubscribe(queue(), consumer_name());
  queue().tick();
  ASSERT_TRUE(wait_until([&] { return asked >= 4; }));
  EXPECT_LE(asked, attempts_within(Clock::now() - begin));
  client().subscribe(queue(), consumer_name());
  publish_numbers(count);
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), count);
}

class Revoked : public Refused {
 protected:
  void SetUp() override {
    Refused::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    role_dsn = dsn_of_role_with({"pgque_reader"});
    role = Sql{role_dsn}.value("select current_user").value();
  }
  std::string role_dsn;
  std::string role;
};

TEST_P(Revoked, GrantRevoked) {
  Consumer consumer{role_dsn, options()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  sql()("revoke pgque_reader from " + role);
  queue().tick();
  ASSERT_TRUE(running.wait_ended());
  try {
    std::rethrow_exception(running.error());
  } catch (const Error& error) {
    EXPECT_EQ(error.sqlstate(), "42501");
    EXPECT_NE(std::string{error.what()}.find("pgque_reader"), std::string::npos) << error.what();
  }
}

TEST_P(Revoked, GrantRevokedWhileABatchIsHandledAndGrantedAgain) {
  Work work{queue(), mode()};
  auto settings = options();
  std::atomic<int> asked{0};
  settings.on_error = [&](const Error& error) {
    EXPECT_EQ(error.sqlstate(), "42501");
    ++asked;
    return ErrorAction::retry;
  };
  Consumer consumer{role_dsn, settings};
  work.handle_with(consumer);
  Gate gate;
  work.hook = [&](const Message&, Context&) { gate.pass(); };
  publish_numbers(count);
  const Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  sql()("revoke pgque_reader from " + role);
  const auto begin = Clock::now();
  gate.open();
  ASSERT_TRUE(wait_until([&] { return asked >= 4; }));
  EXPECT_LE(asked, attempts_within(Clock::now() - begin));
  EXPECT_EQ(consumer.stats().batches, 0U);
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(work.total(), count);
  sql()("grant pgque_reader to " + role);
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), 2 * count);
  EXPECT_EQ(consumer.stats().reconnects, 0U);
}

INSTANTIATE_TEST_SUITE_P(Modes, Revoked, both_modes, mode_name);
INSTANTIATE_TEST_SUITE_P(Modes, Refused, both_modes, mode_name);

class ImpatientServer : public FaultTest {
 protected:
  // For handlers, which run on another thread than the test.
  bool wait_session_ended(std::chrono::milliseconds patience = 20s) const {
    Sql own;
    return wait_until([&] { return own.number("select count(*)" + watched()) == 0; }, patience);
  }
};

// The server ends the session of a handler that takes too long; a quicker one gets through.
TEST_F(ImpatientServer, IdleInTransactionTimeoutShorterThanTheHandler) {
  Work work{queue(), TransactionMode::per_batch};
  auto settings = options(TransactionMode::per_batch);
  settings.idle_in_transaction_timeout = 1s;
  Consumer consumer{watched_dsn(), settings};
  work.handle_with(consumer);
  constexpr int slow_deliveries = 4;
  std::vector<Clock::time_point> begun;
  work.hook = [&](const Message& message, Context&) {
    if (*message.payload != "0") return;
    begun.push_back(Clock::now());
    // Waits until the server has ended the session.
    if (begun.size() <= slow_deliveries) {
      EXPECT_TRUE(wait_session_ended());
    }
  };
  publish_numbers(count);
  const Running running{consumer};
  expect_nothing_lost(work, TransactionMode::per_batch);
  // A busy machine may need more than the timeout between two statements as well.
  EXPECT_GE(work.deliveries_of("0"), slow_deliveries + 1);
  EXPECT_GE(consumer.stats().reconnects, static_cast<std::uint64_t>(slow_deliveries));
  EXPECT_EQ(queue().retries(), 0);
  // The timeout and pauses of at least 25, 50, 100, 100 ms lie between the deliveries.
  EXPECT_GE(begun.back() - begun.front(), slow_deliveries * 1s + 275ms);
  expect_works_on(work, TransactionMode::per_batch);
}

// The same when the handler never calls for the transaction.
TEST_F(ImpatientServer, IdleInTransactionTimeoutShorterThanAHandlerThatWritesNothing) {
  auto settings = options(TransactionMode::per_batch);
  settings.idle_in_transaction_timeout = 1s;
  Consumer consumer{watched_dsn(), settings};
  std::atomic<int> deliveries{0};
  consumer.on("*", [&](const Message&) {
    if (++deliveries <= 2) {
      EXPECT_TRUE(wait_session_ended());
    }
  });
  publish("0");
  const Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return settled(consumer); }));
  EXPECT_GE(deliveries, 3);
  EXPECT_GE(consumer.stats().reconnects, 2U);
}

// A server's limit for idle transactions does not apply to a consumer.
TEST_F(ImpatientServer, IdleInTransactionTimeoutOfTheServerDoesNotEndAHandler) {
  sql()("alter role current_user set idle_in_transaction_session_timeout = '50ms'");
  Work work{queue(), TransactionMode::per_batch};
  Consumer consumer{watched_dsn(), options(TransactionMode::per_batch)};
  work.handle_with(consumer);
  work.hook = [&](const Message& message, Context&) {
    if (*message.payload == "0") {
      EXPECT_FALSE(wait_session_ended(300ms));
    }
  };
  publish_numbers(count);
  {
    const Running running{consumer};
    expect_nothing_lost(work, TransactionMode::per_batch);
  }
  EXPECT_EQ(work.total(), count);
  EXPECT_EQ(consumer.stats().reconnects, 0U);
  sql()("alter role current_user reset idle_in_transaction_session_timeout");
}

// A cursor that outlives its transaction and cannot be closed must not block the next batch, so its session ends.
TEST_F(FaultTest, ClosingOfACursorRefused) {
  TcpProxy proxy{server().port()};
  Work work{queue(), TransactionMode::split};
  auto paged = options(TransactionMode::split);
  paged.max_messages = 3;
  Consumer consumer{watched_dsn(proxy), paged};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  proxy.replace_in_requests("close pgque_batch", "close pgque_other");
  publish_numbers(count);
  EXPECT_TRUE(wait_until([&] { return consumer.stats().reconnects != 0; }));
  EXPECT_EQ(consumer.stats().batches, 1U);
  publish("\"next\"");
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 2; }));
  EXPECT_EQ(work.deliveries().size(), static_cast<std::size_t>(count + 1));
  EXPECT_EQ(work.total(), count + 1);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  // An empty batch has a cursor too, so the consumer reconnects until the cursor can be closed.
  proxy.replace_in_requests("", "");
  EXPECT_TRUE(wait_until([&] { return settled(consumer); }));
  EXPECT_FALSE(running.ended());
}

// Workers register themselves, so a group continues.
TEST_F(FaultTest, CooperativeWorkerUnsubscribed) {
  client().subscribe_subconsumer(queue(), group_name(), "a");
  Work work{queue(), TransactionMode::split};
  Consumer consumer{dsn(), worker("a")};
  work.handle_with(consumer);
  Gate gate;
  work.hook = [&](const Message&, Context&) { gate.pass(); };
  const Running running{consumer};
  publish_numbers(count);
  ASSERT_TRUE(gate.wait_arrived());
  // As a sibling, so that the group stays a group; then its batch is put up for retry.
  client().subscribe_subconsumer(queue(), group_name(), "b");
  EXPECT_TRUE(client().unsubscribe_subconsumer(queue(), group_name(), "a", BatchHandling::retry));
  gate.open();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }));
  EXPECT_EQ(consumer.stats().batches, 0U);
  queue().expire_retries();
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  for (const auto& payload : numbers(count)) EXPECT_EQ(work.deliveries_of(payload), 2);
}

// Another worker takes the batch over after the nacks and before the ack. The nacks are rolled back with the ack,
// because otherwise a failed message would be both retried and handled by the other worker.
TEST_F(FaultTest, CooperativeBatchTakenOverBetweenNackAndAck) {
  client().subscribe_subconsumer(queue(), group_name(), "a");
  TcpProxy proxy{server().port()};
  Work work{queue(), TransactionMode::split};
  Consumer consumer{watched_dsn(proxy), worker("a")};
  work.handle_with(consumer);
  work.hook = [](const Message& message, Context&) {
    if (*message.payload == "3") throw std::runtime_error{"not now"};
  };
  proxy.hold_requests_from("pgque_ack");
  publish_numbers(count);
  const Running running{consumer};
  ASSERT_TRUE(proxy.wait_held());
  const auto stolen = client().receive_coop(queue(), group_name(), "thief", {std::nullopt, 1ms});
  ASSERT_EQ(stolen.size(), static_cast<std::size_t>(count));
  proxy.release();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }));
  EXPECT_EQ(consumer.stats().failures, 1U);
  EXPECT_EQ(consumer.stats().retries, 0U);
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_TRUE(client().ack(stolen[0].batch_id));
}

// The same for a batch that another process of the consumer's name finishes.
TEST_F(FaultTest, BatchFinishedElsewhereBetweenNackAndAck) {
  TcpProxy proxy{server().port()};
  Work work{queue(), TransactionMode::split};
  Consumer consumer{watched_dsn(proxy), options(TransactionMode::split)};
  work.handle_with(consumer);
  std::atomic<BatchId> batch{};
  work.hook = [&](const Message& message, Context& context) {
    batch = context.batch();
    if (*message.payload == "3") throw std::runtime_error{"not now"};
  };
  proxy.hold_requests_from("pgque_ack");
  publish_numbers(count);
  const Running running{consumer};
  ASSERT_TRUE(proxy.wait_held());
  ASSERT_TRUE(client().ack(batch));
  proxy.release();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().stale_acks == 1; }));
  EXPECT_EQ(queue().retries(), 0);
}

}  // namespace
}  // namespace pgque::test
