// What there is to see only through PgBouncer in transaction mode. That everything else works through it, too, is seen
// by running the other tests through it: scripts/with-pgbouncer.

#include <atomic>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/doctor.hpp>
#include <pgque/pqxx.hpp>

#include "consumer_fixture.hpp"
#include "hang_up.hpp"
#include "messages.hpp"
#include "thrown.hpp"
#include "ticker_fixture.hpp"

namespace pgque::test {
namespace {

class PgbouncerTest : public ConsumerTest {
 protected:
  void SetUp() override {
    if (!pooled()) FAIL() << "PGQUE_TEST_POOLED_DSN is not set; scripts/with-pgbouncer COMMAND sets it";
    ConsumerTest::SetUp();
  }
  static std::string backend_of(pqxx::transaction_base& transaction) {
    return transaction.exec("select pg_backend_pid()")[0][0].as<std::string>();
  }
  std::string backend_of_next_transaction() {
    pqxx::nontransaction tx{native(client())};
    return backend_of(tx);
  }
  bool kill(const std::string& pid) {
    return sql().value("select pg_catalog.pg_terminate_backend(" + pid + ", 20000)") == "t";
  }
};

// Without this, none of the other tests that are run through it would show anything.
TEST_F(PgbouncerTest, EveryTransactionIsInAnotherSession) {
  std::set<std::string> backends;
  ASSERT_TRUE(wait_until([&] { return backends.insert(backend_of_next_transaction()), backends.size() > 1; }));
  const auto last = backend_of_next_transaction();
  EXPECT_NE(backend_of_next_transaction(), last);
}

TEST_F(PgbouncerTest, AForgottenPooledIsNamedByItsErrorAndNothingOfTheTransactionHappened) {
  Client forgetful{dsn()};
  std::optional<Error> error;
  int committed = 0;
  ASSERT_TRUE(wait_until([&] {
    try {
      auto tx = forgetful.begin();
      tx.send(queue(), "1");
      tx.commit();
      ++committed;
    } catch (const Error& caught) {
      error.emplace(caught);
    }
    return error.has_value();
  }));
  EXPECT_THAT(error->what(), testing::HasSubstr("set `pooled`"));
  EXPECT_FALSE(error->outcome_unknown());
  queue().tick();
  EXPECT_EQ(static_cast<int>(client().receive(queue(), consumer_name()).size()), committed);
}

TEST_F(PgbouncerTest, ASessionLostInATransactionIsALostConnectionAndNothingOfItHappened) {
  auto tx = client().begin();
  tx.send(queue(), "1");
  const auto pid = sql().value(
      "select pid from pg_stat_activity where state = 'idle in transaction' and datname = current_database()");
  ASSERT_TRUE(pid);
  ASSERT_TRUE(kill(*pid));
  const auto error = thrown<ConnectionError>([&] { tx.send(queue(), "2"); });
  EXPECT_TRUE(error.retryable());
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_FALSE(client().is_open());
  reconnect();
  queue().tick();
  EXPECT_TRUE(client().receive(queue(), consumer_name()).empty());
}

TEST_F(PgbouncerTest, ASessionLostBeforeTheCommitIsALostConnectionOfCertainOutcome) {
  auto tx = client().begin();
  tx.send(queue(), "1");
  const auto pid = sql().value(
      "select pid from pg_stat_activity where state = 'idle in transaction' and datname = current_database()");
  ASSERT_TRUE(pid);
  ASSERT_TRUE(kill(*pid));
  ASSERT_TRUE(wait_hung_up(native(client()).sock()));
  const auto error = thrown<ConnectionError>([&] { tx.commit(); });
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_EQ(error.operation(), "commit");
  reconnect();
}

TEST_F(PgbouncerTest, ASessionLostBetweenTransactionsIsNotMissed) {
  std::vector<EventId> sent;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(kill(backend_of_next_transaction()));
    try {
      sent.push_back(client().send(queue(), std::to_string(i)));
    } catch (const ConnectionError& error) {  // if PgBouncer had not noticed yet
      EXPECT_TRUE(error.outcome_unknown());
      reconnect();
    }
  }
  sent.push_back(client().send(queue(), "10"));
  queue().tick();
  const auto messages = client().receive(queue(), consumer_name());
  EXPECT_THAT(ids_of(messages), testing::IsSupersetOf(sent));
  const auto payloads = payloads_of(messages);
  EXPECT_THAT(std::set(payloads.begin(), payloads.end()), testing::SizeIs(payloads.size())) << "one arrived twice";
}

// Without `pooled` the lock of the active ticker would stay with PgBouncer.
class PgbouncerTickerTest : public TickerTest {
 protected:
  void SetUp() override {
    if (!pooled()) FAIL() << "PGQUE_TEST_POOLED_DSN is not set; scripts/with-pgbouncer COMMAND sets it";
    TickerTest::SetUp();
  }
  void expect_refusal(const std::string& through) {
    Ticker ticker{through, fast()};
    const auto error = thrown<Error>([&] { ticker.start(); });
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("transaction mode"), testing::HasSubstr("pooled")));
    EXPECT_FALSE(error.retryable());
    EXPECT_EQ(ticker.stats().last_error, error.what());
    EXPECT_EQ(sql().number("select count(*) from pg_locks where locktype = 'advisory'"), 0);
  }
};

TEST_F(PgbouncerTickerTest, IsRefusedInTransactionMode) {
  expect_refusal(dsn());
}

// With little traffic a client gets the same session again and again.
TEST_F(PgbouncerTickerTest, IsRefusedInTransactionModeWhereThereIsOnlyOneSession) {
  expect_refusal(dsn_with({{"dbname", "pgque_one_session"}}));
}

// Of two that take turns, two clients that ask in turn get the same one each time.
TEST_F(PgbouncerTickerTest, IsRefusedInTransactionModeWhereTwoSessionsTakeTurns) {
  const auto two = dsn_with({{"dbname", "pgque_two_sessions"}});
  {
    Sql one{two};
    Sql other{two};
    pqxx::work needs_one{one.connection()};
    pqxx::work needs_another{other.connection()};
    needs_one.exec("select 1");
    needs_another.exec("select 1");
  }
  expect_refusal(two);
}

// What the refusal prevents, and what others may do: the client has gone, and its lock stays.
TEST_F(PgbouncerTickerTest, TheDoctorFindsALockThatIsLeftWithThePooler) {
  sql()("update pgque.tick set tick_time = now() - interval '1 hour' where tick_queue = " +
        setting(queue(), "queue_id"));
  const auto lock = "(" + std::to_string(0x70677175) + ", " + std::to_string(0x7469636B) + ')';
  {
    Sql gone{dsn_with({{"dbname", "pgque_one_session"}, {"application_name", "pgque ticker"}})};
    ASSERT_EQ(gone.value("select pg_try_advisory_lock" + lock), "t");
  }
  const auto found = [&] {
    DiagnoseOptions impatient;
    impatient.silent_ticker = 1s;
    for (auto& finding : diagnose(direct_dsn(), impatient)) {
      if (finding.code == "stranded_ticker_lock") return std::optional{std::move(finding)};
    }
    return std::optional<Finding>{};
  };
  std::optional<Finding> finding;
  ASSERT_TRUE(wait_until([&] { return (finding = found()).has_value(); }, 60s));
  EXPECT_THAT(finding->fact, testing::HasSubstr("'pgque ticker'"));
  const auto begin = finding->remedy.find("select pg_catalog.pg_terminate_backend(");
  ASSERT_NE(begin, std::string::npos);
  sql()(finding->remedy.substr(begin, finding->remedy.find(';') - begin));
  EXPECT_TRUE(
      wait_until([&] { return sql().number("select count(*) from pg_locks where locktype = 'advisory'") == 0; }));
  EXPECT_FALSE(found());
}

TEST_F(PgbouncerTickerTest, TheDoctorKnowsATickerBehindThePooler) {
  auto options = fast();
  options.pooled = true;
  Ticker ticker{dsn(), options};
  const Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().ticks > 1; }));
  // At the moment of a tick it holds the lock of the active ticker, like one with a direct connection.
  std::set<std::string> codes;
  ASSERT_TRUE(wait_until([&] {
    for (const auto& finding : diagnose(direct_dsn())) codes.insert(finding.code);
    return codes.count("pooled_ticker") == 1;
  }));
  EXPECT_THAT(codes, testing::Not(testing::Contains("unknown_scheduler")));
  EXPECT_THAT(codes, testing::Not(testing::Contains("no_ticker")));
}

TEST_F(PgbouncerTickerTest, AsksWhatToDoAboutARefusal) {
  auto retrying = fast();
  std::atomic<int> asked{0};
  retrying.reconnect = {1ms, 10ms};
  retrying.on_error = [&](const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("transaction mode"));
    return ++asked < 3 ? ErrorAction::retry : ErrorAction::stop;
  };
  Ticker ticker{dsn(), retrying};
  EXPECT_THROW(ticker.start(), Error);
  EXPECT_EQ(asked, 3);
}

TEST_F(PgbouncerTickerTest, WorksInSessionMode) {
  Ticker ticker{dsn_with({{"dbname", "pgque_session_mode"}}), fast()};
  Running running{ticker};
  EXPECT_TRUE(is_ticked(queue()));
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance == 1; }));
  EXPECT_EQ(ticker.stats().last_error, "");
}

}  // namespace
}  // namespace pgque::test
