// A consumer behind a connection pooler in transaction mode: nothing of it may be left in a session. The pooler itself
// is not needed to see that, but these tests are run through one, too.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;

class ConsumerPooledTest : public ConsumerTest, public testing::WithParamInterface<TransactionMode> {
 protected:
  ConsumerOptions pooled_options() {
    auto out = options(GetParam());
    out.pooled = true;
    out.listen_dsn = {};
    return out;
  }
};

TEST_P(ConsumerPooledTest, PollsAloneAndSaysSo) {
  auto settings = pooled_options();
  settings.poll_interval = 50ms;
  Seen seen;
  Consumer consumer{dsn(), settings};
  consumer.on("*", seen.handler());
  const Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().state == ConsumerState::waiting; }));
  publish("1");
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(log.count(LogEvent::listen_unavailable), 1U);
}

TEST_P(ConsumerPooledTest, SaysThatBatchesAreReadAsAWholeWhereThereCanBeNoPages) {
  const bool split = GetParam() == TransactionMode::split;
  publish_numbers(3);
  auto settings = pooled_options();
  settings.until_drained = true;
  Seen seen;
  Consumer by_default{dsn(), settings};
  by_default.on("*", seen.handler());
  by_default.start();
  EXPECT_EQ(log.count(LogEvent::unbounded_batches), split ? 1U : 0U);
  settings.max_messages = std::nullopt;
  publish_numbers(3);
  Consumer intended{dsn(), settings};
  intended.on("*", seen.handler());
  intended.start();
  EXPECT_EQ(log.count(LogEvent::unbounded_batches), split ? 1U : 0U);
  EXPECT_EQ(seen.size(), 6U);
}

TEST_P(ConsumerPooledTest, IsWokenThroughAConnectionForListeningAlone) {
  auto settings = pooled_options();
  settings.listen_dsn = direct_dsn();
  Seen seen;
  Consumer consumer{dsn(), settings};
  consumer.on("*", seen.handler());
  const Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().state == ConsumerState::waiting; }));
  const auto begin = Clock::now();
  publish("1");
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_LT(Clock::now() - begin, 5s);  // the poll interval is 30 s
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(log.count(LogEvent::listen_unavailable), 0U);
}

TEST_P(ConsumerPooledTest, ReconnectsWhenTheListeningConnectionIsLost) {
  auto settings = pooled_options();
  const auto listener = unique_name("listener");
  settings.listen_dsn = dsn_with({{"application_name", listener}}, direct_dsn());
  Seen seen;
  Consumer consumer{dsn(), settings};
  consumer.on("*", seen.handler());
  const Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().state == ConsumerState::waiting; }));
  sql()("select pg_terminate_backend(pid) from pg_stat_activity where application_name = '" + listener + "'");
  ASSERT_TRUE(
      wait_until([&] { return consumer.stats().reconnects == 1 && consumer.stats().state == ConsumerState::waiting; }));
  publish("1");
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

// Each statement needs its own limit, because it may get any connection to the server.
TEST_P(ConsumerPooledTest, StatementTimeoutLimitsItsOwnStatements) {
  auto settings = pooled_options();
  settings.statement_timeout = 50ms;
  settings.reconnect = {1ms, 10ms};
  Seen seen;
  Consumer consumer{dsn(), settings};
  consumer.on("*", seen.handler());
  publish("1");
  Sql other;
  std::optional<pqxx::work> holding{std::in_place, other.connection()};
  holding->exec("select * from pgque.receive(" + sql().quote(queue().name()) + ", " + sql().quote(consumer_name()) +
                ")");
  const Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return log.count(LogEvent::failed) >= 1; }));
  holding.reset();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  const auto failed = log.lines(LogEvent::failed);
  ASSERT_FALSE(failed.empty());
  EXPECT_EQ(failed[0].sqlstate, "57014");
}

TEST_F(ConsumerTest, PooledItSetsAndPreparesNothingForItsSession) {
  auto settings = options();
  settings.pooled = true;
  settings.statement_timeout = 1234s;
  std::string prepared;
  std::string setting;
  std::string source;
  Consumer consumer{dsn(), settings};
  consumer.on("t", [&](const Message&, Context& context) {
    auto& transaction = context.transaction();
    const auto count = transaction.exec("select count(*) from pg_prepared_statements");
    prepared = count[0][0].c_str();
    const auto timeout = transaction.exec(
        "select setting, (select count(*) from pg_settings where name like 'tcp_keepalives%' and source = 'session') "
        "from pg_settings where name = 'statement_timeout'");
    setting = timeout[0][0].c_str();
    source = timeout[0][1].c_str();
    consumer.stop();
  });
  publish("1");
  consumer.start();
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(prepared, "0");
  EXPECT_EQ(setting, "1234000");  // of the transaction
  EXPECT_EQ(source, "0");         // nothing of the session
}

INSTANTIATE_TEST_SUITE_P(Modes, ConsumerPooledTest, testing::Values(TransactionMode::per_batch, TransactionMode::split),
                         [](const auto& parameter) {
                           return parameter.param == TransactionMode::per_batch ? "PerBatch" : "Split";
                         });

}  // namespace
}  // namespace pgque::test
