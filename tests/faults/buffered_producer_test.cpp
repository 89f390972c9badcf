// What a buffered producer reports about its events is what happened to them, even when server or network fail.

#include <pgque/buffered_producer.hpp>

#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "fault_fixture.hpp"
#include "producer_ledger.hpp"

namespace pgque::test {
namespace {

using Stop = PrivateServer::Stop;

class BufferedProducerFaults : public FaultTest {
 protected:
  // Sends only what is full or flushed; short pauses after errors.
  BufferedProducerOptions options() {
    BufferedProducerOptions options;
    options.linger = 1h;
    options.reconnect = {20ms, 100ms};
    options.log = log.sink();
    return options;
  }
  // Every third event has one.
  static std::optional<std::string> key_of(int number) {
    return number % 3 == 0 ? std::optional<std::string>{"key"} : std::nullopt;
  }
  // Everything that has been committed since the last time.
  std::vector<Message> stored() {
    queue().tick();
    auto messages = client().receive(queue(), consumer_name());
    if (!messages.empty()) client().ack(messages[0].batch_id);
    return messages;
  }
  std::vector<std::string> stored_payloads() {
    std::vector<std::string> out;
    for (const auto& message : stored()) out.push_back(message.payload.value());
    return out;
  }
  static std::optional<Error> error_of(std::future<EventId>& future) {
    if (future.wait_for(30s) != std::future_status::ready) {
      ADD_FAILURE() << "a future does not become ready";
      return {};
    }
    try {
      future.get();
    } catch (const Error& error) {
      return error;
    }
    return {};
  }
};

class BufferedProducerStopped : public BufferedProducerFaults, public testing::WithParamInterface<Stop> {};
INSTANTIATE_TEST_SUITE_P(How, BufferedProducerStopped, testing::Values(Stop::fast, Stop::immediate),
                         [](const auto& parameter) { return testing::PrintToString(parameter.param); });

// Threads go on sending while the server goes away and comes back, twice.
TEST_P(BufferedProducerStopped, AndStartedWhileManyThreadsSend) {
  constexpr int threads = 4;
  auto settings = options();
  settings.linger = 1ms;
  settings.batch_messages = 50;
  settings.buffer_messages = 2000;
  ProducerLedger ledger;
  BufferedProducer producer{dsn(), settings};
  std::atomic<bool> done{false};
  std::vector<std::thread> sending;
  for (int thread = 0; thread < threads; ++thread) {
    sending.emplace_back([&, thread] {
      for (int i = 0; !done; ++i) {
        ledger.send_one(producer, queue(), thread, i, i % 2 == 0 ? "even" : "odd", key_of(i));
      }
    });
  }
  std::uint64_t reconnects = 0;
  for (int i = 0; i < 2; ++i) {
    const auto sent = producer.stats().sent;
    EXPECT_TRUE(wait_until([&] { return producer.stats().sent >= sent + 500; }));
    server().stop(GetParam());
    EXPECT_TRUE(wait_until([&] { return producer.stats().state == ProducerState::backing_off; }));
    server().start();
    EXPECT_TRUE(wait_until([&] { return producer.stats().reconnects > reconnects; }));
    reconnects = producer.stats().reconnects;
  }
  const auto sent = producer.stats().sent;
  EXPECT_TRUE(wait_until([&] { return producer.stats().sent >= sent + 500; }));
  done = true;
  for (auto& thread : sending) thread.join();
  EXPECT_TRUE(producer.flush(60s));
  reconnect();
  ledger.expect_agrees_with(stored());
  const auto stats = producer.stats();
  EXPECT_EQ(ledger.count(Outcome::Kind::sent), stats.sent);
  EXPECT_EQ(ledger.count(Outcome::Kind::unknown), stats.unknown);
  EXPECT_EQ(ledger.count(Outcome::Kind::refused), 0U);  // everything else was kept
  EXPECT_LE(stats.unknown, 2U * 50);                    // a batch for each time
}

TEST_P(BufferedProducerStopped, WhatIsSentMeanwhileIsKeptInItsOrder) {
  BufferedProducer producer{dsn(), options()};
  ProducerLedger ledger;
  ledger.send_one(producer, queue(), 0, 0);
  ASSERT_TRUE(producer.flush(20s));
  server().stop(GetParam());
  for (int i = 1; i < 2500; ++i) ledger.send_one(producer, queue(), 0, i, "t", key_of(i));
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 3; }));
  EXPECT_EQ(producer.stats().buffered, 2499U);
  server().start();
  ASSERT_TRUE(producer.flush(20s));
  reconnect();
  ledger.expect_agrees_with(stored());
  EXPECT_EQ(ledger.count(Outcome::Kind::sent), 2500U);
  EXPECT_EQ(producer.stats().reconnects, 1U);
}

TEST_F(BufferedProducerFaults, WhatTheServerDoesNotComeBackForFailsInTime) {
  auto settings = options();
  settings.delivery_timeout = 2s;
  BufferedProducer producer{dsn(), settings};
  server().stop(Stop::fast);
  std::vector<std::future<EventId>> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(producer.send(queue(), std::to_string(i)));
  for (auto& id : ids) {
    const auto error = error_of(id);
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->retryable());
    EXPECT_FALSE(error->outcome_unknown());
    EXPECT_NE(std::string{error->what()}.find("not sent within delivery_timeout"), std::string::npos) << error->what();
  }
  EXPECT_EQ(producer.stats().failed, 3U);
  EXPECT_GE(log.count(LogEvent::events_dropped), 1U);
  server().start();
  ASSERT_TRUE(wait_until([&] { return producer.stats().state == ProducerState::waiting; }));
  auto later = producer.send(queue(), "\"later\"");
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_FALSE(error_of(later));
  reconnect();
  EXPECT_EQ(stored_payloads(), std::vector<std::string>{"\"later\""});
}

TEST_F(BufferedProducerFaults, DestructionWithTheServerDownFailsEveryFutureInTime) {
  auto settings = options();
  settings.drain_timeout = 200ms;
  std::vector<std::future<EventId>> ids;
  Clock::time_point begin;
  {
    BufferedProducer producer{dsn(), settings};
    server().stop(Stop::fast);
    for (int i = 0; i < 2500; ++i) ids.push_back(producer.send(queue(), std::to_string(i)));
    begin = Clock::now();
  }
  EXPECT_GE(Clock::now() - begin, 200ms);
  EXPECT_LT(Clock::now() - begin, 5s);
  for (auto& id : ids) {
    ASSERT_EQ(id.wait_for(0s), std::future_status::ready);
    const auto error = error_of(id);
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->retryable());
    EXPECT_FALSE(error->outcome_unknown());
  }
  int dropped = 0;
  for (const auto& line : log.lines(LogEvent::events_dropped)) dropped += std::stoi(line.message);
  EXPECT_EQ(dropped, 2500);
  server().start();
  reconnect();
  EXPECT_TRUE(stored().empty());
}

TEST_F(BufferedProducerFaults, ClosingWaitsForTheServerWithinItsTime) {
  BufferedProducer producer{dsn(), options()};
  server().stop(Stop::fast);
  auto id = producer.send(queue(), "1");
  auto closed = std::async(std::launch::async, [&] { return producer.close(); });
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connection_lost) >= 2; }));
  server().start();
  EXPECT_TRUE(closed.get());
  EXPECT_FALSE(error_of(id));
  reconnect();
  EXPECT_EQ(stored_payloads(), std::vector<std::string>{"1"});
}

// Sessions are ended again and again under load.
TEST_F(BufferedProducerFaults, SessionsKilledOverAndOverAgain) {
  constexpr int threads = 4;
  auto settings = options();
  settings.linger = 1ms;
  settings.batch_messages = 20;
  settings.buffer_messages = 500;
  ProducerLedger ledger;
  BufferedProducer producer{watched_dsn(), settings};
  std::atomic<bool> done{false};
  std::vector<std::thread> sending;
  for (int thread = 0; thread < threads; ++thread) {
    sending.emplace_back([&, thread] {
      for (int i = 0; !done; ++i) ledger.send_one(producer, queue(), thread, i);
    });
  }
  for (int i = 0; i < 20; ++i) {
    const auto sent = producer.stats().sent;
    EXPECT_TRUE(wait_until([&] { return producer.stats().sent >= sent + 100; }));
    sql()("select pg_terminate_backend(pid)" + watched());
  }
  done = true;
  for (auto& thread : sending) thread.join();
  EXPECT_TRUE(producer.flush(60s));
  ledger.expect_agrees_with(stored());
  EXPECT_EQ(ledger.count(Outcome::Kind::refused), 0U);
  EXPECT_GE(producer.stats().reconnects, 5U);
}

class BufferedProducerNetwork : public BufferedProducerFaults {
 protected:
  void SetUp() override {
    BufferedProducerFaults::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    proxy.emplace(server().port());
  }
  void TearDown() override {
    // The proxy is destroyed first and ends every connection that hangs, so that a failing test fails instead of
    // hanging.
    proxy.reset();
    producer.reset();
    BufferedProducerFaults::TearDown();
  }
  // The statements are prepared now, so that the next request that names them executes them.
  void start(const BufferedProducerOptions& settings) {
    producer.emplace(watched_dsn(*proxy) + " connect_timeout=5", settings);
    producer->send(queue(), "\"first\"");
    ASSERT_TRUE(producer->flush(20s));
    ASSERT_EQ(stored_payloads(), std::vector<std::string>{"\"first\""});
  }
  // If it hangs, the proxy ends its connection.
  void destroy() {
    auto destroyed = std::async(std::launch::async, [&] { producer.reset(); });
    const bool in_time = destroyed.wait_for(10s) == std::future_status::ready;
    EXPECT_TRUE(in_time) << "the destructor does not return";
    if (!in_time) proxy.reset();
  }
  // And none of the events may have been stored.
  void expect_every_future_failed() {
    for (auto& id : ids) {
      ASSERT_EQ(id.wait_for(0s), std::future_status::ready);
      const auto error = error_of(id);
      ASSERT_TRUE(error);
      EXPECT_FALSE(error->outcome_unknown());
    }
  }
  // Three batches of two: the first is the one that something happens to.
  void send_six() {
    for (int i = 0; i < 6; ++i) ids.push_back(producer->send(queue(), std::to_string(i)));
  }
  void expect_unknown_alone(std::size_t first, std::size_t second) {
    ASSERT_TRUE(producer->flush(20s));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto error = error_of(ids[i]);
      if (i != first && i != second) {
        EXPECT_FALSE(error) << i << ": " << error->what();
        continue;
      }
      ASSERT_TRUE(error) << i;
      EXPECT_TRUE(error->outcome_unknown()) << error->what();
      EXPECT_FALSE(error->retryable());
    }
    const auto stats = producer->stats();
    EXPECT_EQ(stats.unknown, 2U);
    EXPECT_EQ(stats.failed, 2U);
    EXPECT_EQ(stats.reconnects, 1U);
    EXPECT_EQ(log.count(LogEvent::batch_in_doubt), 1U);
  }

  std::optional<TcpProxy> proxy;
  std::optional<BufferedProducer> producer;
  std::vector<std::future<EventId>> ids;
};

// The commit takes place, but the producer does not get the answer.
TEST_F(BufferedProducerNetwork, ConnectionResetBeforeTheAnswerToTheCommitIsAnUnknownOutcomeOfThatBatchAlone) {
  auto settings = options();
  settings.batch_messages = 2;
  start(settings);
  proxy->hold_answers_after("commit");
  send_six();
  ASSERT_TRUE(proxy->wait_held());
  ASSERT_TRUE(wait_until([&] { return session_state() == "idle"; })) << "the server has not got the commit";
  proxy->cut();
  expect_unknown_alone(0, 1);
  EXPECT_EQ(stored_payloads(), (std::vector<std::string>{"0", "1", "2", "3", "4", "5"}));
}

// The commit does not take place, and the producer cannot know that either.
TEST_F(BufferedProducerNetwork, ConnectionResetBeforeTheCommitArrivesIsAnUnknownOutcomeOfThatBatchAlone) {
  auto settings = options();
  settings.batch_messages = 2;
  start(settings);
  proxy->hold_requests_from("commit");
  send_six();
  ASSERT_TRUE(proxy->wait_held());
  proxy->cut();
  expect_unknown_alone(0, 1);
  EXPECT_EQ(stored_payloads(), (std::vector<std::string>{"2", "3", "4", "5"}));
}

// Before the commit the outcome is certain: everything is kept, sent again, and stored once.
TEST_F(BufferedProducerNetwork, ConnectionResetBeforeTheAnswerToTheSendLosesAndDoublesNothing) {
  auto settings = options();
  settings.batch_messages = 2;
  start(settings);
  proxy->hold_answers_after("pgque_send_batch");
  send_six();
  ASSERT_TRUE(proxy->wait_held());
  ASSERT_TRUE(wait_until([&] { return session_state() == "idle in transaction"; }));
  proxy->cut();
  ASSERT_TRUE(producer->flush(20s));
  for (auto& id : ids) EXPECT_FALSE(error_of(id));
  EXPECT_EQ(producer->stats().reconnects, 1U);
  EXPECT_EQ(producer->stats().unknown, 0U);
  ASSERT_TRUE(wait_until([&] { return sessions() == 1; }));
  EXPECT_EQ(stored_payloads(), (std::vector<std::string>{"0", "1", "2", "3", "4", "5"}));
}

// The server neither answers nor closes the connection. The batch that waits for an answer is given up, and so is the
// connection.
TEST_F(BufferedProducerNetwork, FrozenConnectionIsGivenUpInTime) {
  auto settings = options();
  settings.delivery_timeout = 3s;
  start(settings);
  proxy->freeze();
  auto lost = producer->send(queue(), "\"lost\"");
  EXPECT_FALSE(producer->flush(0ms));
  const auto error = error_of(lost);
  ASSERT_TRUE(error);
  EXPECT_FALSE(error->outcome_unknown()) << error->what();
  EXPECT_TRUE(error->retryable());
  proxy->cut();
  proxy->thaw();
  ASSERT_TRUE(wait_until([&] { return producer->stats().state == ProducerState::waiting; }));
  auto later = producer->send(queue(), "\"later\"");
  ASSERT_TRUE(producer->flush(20s));
  EXPECT_FALSE(error_of(later));
  EXPECT_EQ(stored_payloads(), std::vector<std::string>{"\"later\""});
}

TEST_F(BufferedProducerNetwork, DestructionWhileFrozenFailsEveryFutureInTime) {
  auto settings = options();
  settings.drain_timeout = 200ms;
  settings.batch_messages = 2;
  start(settings);
  proxy->freeze();
  send_six();
  ASSERT_TRUE(wait_until([&] { return producer->stats().state == ProducerState::sending; }));
  destroy();
  expect_every_future_failed();
}

// A new connection is made, and then the server falls silent.
TEST_F(BufferedProducerNetwork, ANewConnectionThatIsSilentFromTheBeginningIsGivenUpInTime) {
  auto settings = options();
  settings.connect_timeout = 3s;  // for the first statement; a busy machine needs a part of it
  start(settings);
  proxy->hold_answers_after("idle_session_timeout");
  proxy->cut();
  ids.push_back(producer->send(queue(), "1"));
  EXPECT_FALSE(producer->flush(0ms));
  ASSERT_TRUE(proxy->wait_held());
  EXPECT_TRUE(producer->flush(20s));
  EXPECT_FALSE(error_of(ids[0]));
  EXPECT_EQ(producer->stats().reconnects, 1U);
  EXPECT_EQ(stored_payloads(), std::vector<std::string>{"1"});
}

TEST_F(BufferedProducerNetwork, DestructionWhileANewConnectionIsSilentFailsEveryFutureInTime) {
  auto settings = options();
  settings.drain_timeout = 200ms;
  start(settings);
  proxy->hold_answers_after("idle_session_timeout");
  proxy->cut();
  send_six();
  EXPECT_FALSE(producer->flush(0ms));
  ASSERT_TRUE(proxy->wait_held());
  destroy();
  expect_every_future_failed();
}

TEST_F(BufferedProducerNetwork, AFirstConnectionThatIsSilentFromTheBeginningIsAnError) {
  auto settings = options();
  settings.connect_timeout = 1s;
  proxy->hold_answers_after("idle_session_timeout");
  auto made = std::async(std::launch::async, [&] { BufferedProducer{watched_dsn(*proxy), settings}; });
  const bool in_time = made.wait_for(10s) == std::future_status::ready;
  EXPECT_TRUE(in_time) << "the constructor does not return";
  if (!in_time) proxy.reset();
  EXPECT_THROW(made.get(), ConnectionError);
}

TEST_F(BufferedProducerNetwork, DestructionWhileTheCommitIsFrozenSaysThatItsOutcomeIsUnknown) {
  auto settings = options();
  settings.drain_timeout = 200ms;
  settings.batch_messages = 2;
  start(settings);
  proxy->hold_answers_after("commit");
  send_six();
  ASSERT_TRUE(proxy->wait_held());
  ASSERT_TRUE(wait_until([&] { return session_state() == "idle"; }));
  destroy();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(ids[i].wait_for(0s), std::future_status::ready);
    const auto error = error_of(ids[i]);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->outcome_unknown(), i < 2) << i << ": " << error->what();
  }
  EXPECT_EQ(stored_payloads(), (std::vector<std::string>{"0", "1"}));
}

}  // namespace
}  // namespace pgque::test
