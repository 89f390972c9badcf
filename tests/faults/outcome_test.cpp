// What is known of a call whose connection was lost: that it had no effect, unless the statement, or the commit, may
// have reached the server.

#include <atomic>
#include <future>
#include <optional>
#include <string>

#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/buffered_producer.hpp>
#include <pgque/pqxx.hpp>

#include "fault_fixture.hpp"
#include "hang_up.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

class OutcomeTest : public FaultTest {
 protected:
  void SetUp() override {
    FaultTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    proxy_.emplace(server().port());
  }

  TcpProxy& proxy() { return *proxy_; }
  std::string proxied() { return server().dsn(proxy().port()); }

  // Cuts the connection when the proxy holds the answer to the request that contains the text, and when so many events
  // have been stored.
  template <class Run>
  ConnectionError lost_after(const std::string& text, const Run& run, std::size_t events = 0) {
    proxy().hold_answers_after(text);
    auto running = std::async(std::launch::async, [&] { return thrown<ConnectionError>(run); });
    EXPECT_TRUE(proxy().wait_held());
    EXPECT_TRUE(wait_until([&] { return stored() == events; }));
    proxy().cut();
    return running.get();
  }
  // How many events have been stored until now.
  std::size_t stored() {
    queue().tick();
    const auto messages = client().receive(queue(), consumer_name());
    if (!messages.empty()) client().ack(messages.front().batch_id);
    return stored_ += messages.size();
  }
  static void expect_certain(const ConnectionError& error) {
    EXPECT_FALSE(error.outcome_unknown()) << error.what();
    EXPECT_TRUE(error.retryable()) << error.what();
  }
  static void expect_unknown(const ConnectionError& error) {
    EXPECT_TRUE(error.outcome_unknown()) << error.what();
    EXPECT_FALSE(error.retryable()) << error.what();
  }

 private:
  std::optional<TcpProxy> proxy_;
  std::size_t stored_ = 0;
};

TEST_F(OutcomeTest, IsCertainWhenAnIdleSessionTimeoutHasEndedTheSession) {
  Client idle{server().dsn()};
  pqxx::nontransaction{native(idle)}.exec("set idle_session_timeout = 1");
  ASSERT_TRUE(wait_hung_up(native(idle).sock()));
  expect_certain(thrown<ConnectionError>([&] { idle.send(queue(), "1"); }));
  EXPECT_FALSE(idle.is_open());
}

TEST_F(OutcomeTest, IsCertainWhenTheServerHasBeenRestarted) {
  std::size_t sent = 0;
  for (const auto how : {PrivateServer::Stop::fast, PrivateServer::Stop::immediate}) {
    Client idle{server().dsn()};
    idle.send(queue(), "1");
    server().restart(how);
    ASSERT_TRUE(wait_hung_up(native(idle).sock()));
    expect_certain(thrown<ConnectionError>([&] { idle.send(queue(), "2"); }));
    reconnect();
    ++sent;
    EXPECT_EQ(stored(), sent);
  }
}

TEST_F(OutcomeTest, IsCertainWhenAnIdleAdminHasLostItsConnection) {
  Admin admin{proxied()};
  admin.queues();
  proxy().cut();
  expect_certain(thrown<ConnectionError>([&] { admin.drop_queue(queue()); }));
}

// The first call of a kind prepares its statement, and executes nothing yet.
TEST_F(OutcomeTest, IsCertainWhenTheConnectionIsLostWhileTheStatementIsPrepared) {
  Client lost{proxied()};
  expect_certain(lost_after("pgque.send", [&] { lost.send(queue(), "1"); }));
  EXPECT_FALSE(lost.is_open());
  EXPECT_EQ(stored(), 0U);
}

TEST_F(OutcomeTest, IsUnknownWhenTheConnectionIsLostWhileTheStatementIsExecuted) {
  Client lost{proxied()};
  lost.send(queue(), "\"first\"");
  expect_unknown(lost_after(
      "second", [&] { lost.send(queue(), "\"second\""); }, 2));
}

// What is not prepared is executed at once.
TEST_F(OutcomeTest, IsUnknownWhenTheConnectionIsLostInACallThatPreparesNothing) {
  ClientOptions unprepared;
  unprepared.pooled = true;
  Client lost{proxied(), unprepared};
  expect_unknown(lost_after(
      "pgque.send", [&] { lost.send(queue(), "1"); }, 1));
}

TEST_F(OutcomeTest, IsUnknownWhenTheConnectionIsLostDuringTheCommit) {
  Client lost{proxied()};
  auto transaction = lost.begin();
  transaction.send(queue(), "1");
  const auto error = lost_after(
      "commit", [&] { transaction.commit(); }, 1);
  expect_unknown(error);
  EXPECT_EQ(error.operation(), "commit");
}

TEST_F(OutcomeTest, IsCertainWhenTheConnectionIsLostAtTheBegin) {
  Client lost{proxied()};
  expect_certain(lost_after("begin", [&] {
    auto transaction = lost.begin();
    transaction.send(queue(), "1");
  }));
}

// In the caller's transaction that is none, each statement is committed at once. A batch is sent after a check that the
// transaction is open, which executes nothing.
TEST_F(OutcomeTest, IsUnknownOnlyAfterTheCheckOfACallersNontransaction) {
  Sql own{proxied()};
  pqxx::nontransaction autocommit{own.connection()};
  Transaction transaction{autocommit};
  expect_unknown(lost_after(
      "pgque.send_batch", [&] { transaction.send_batch(queue(), "t", {"1"}); }, 1));
}

TEST_F(OutcomeTest, IsCertainWhenTheSettingsOfASessionAreLost) {
  BufferedProducerOptions options;
  options.log = log.sink();
  expect_certain(lost_after("idle_session_timeout", [&] { BufferedProducer{proxied(), options}; }));
}

// The constraints of a handler are checked before the next one begins: nothing is committed there.
TEST_F(OutcomeTest, IsCertainWhenTheConnectionIsLostDuringSetConstraints) {
  sql()("create table public.faults_deferred (id int unique deferrable initially deferred)");
  auto settings = options(TransactionMode::per_batch);
  Consumer consumer{watched_dsn(proxy()), settings};
  std::promise<ConnectionError> lost;
  std::atomic<bool> failed{false};
  consumer.on("*", [&](const Message& message, Context& context) {
    try {
      context.transaction().exec("insert into public.faults_deferred values (" + *message.payload + ")");
    } catch (const ConnectionError& error) {
      if (!failed.exchange(true)) lost.set_value(error);
      throw;
    }
  });
  proxy().hold_answers_after("set constraints all immediate");
  publish_numbers(2);
  {
    const Running running{consumer};
    EXPECT_TRUE(proxy().wait_held());
    proxy().cut();
    auto error = lost.get_future();
    EXPECT_EQ(error.wait_for(20s), std::future_status::ready);
    if (failed) expect_certain(error.get());
  }
  sql()("drop table public.faults_deferred");
}

}  // namespace
}  // namespace pgque::test
