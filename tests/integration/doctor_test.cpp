// Situations in which messages do not arrive, each in a separate database, and the findings about them.

#include <pgque/doctor.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/ticker.hpp>

#include "database.hpp"
#include "support.hpp"

namespace pgque::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class DoctorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = missing_database(); !why.empty()) return skip_outside_ci(why);
    maintenance_.emplace(dsn_with({{"dbname", "postgres"}}));
    const auto source = Sql{}.value("select quote_ident(current_database())").value();
    (*maintenance_)("create database " + name_ + " template " + source);
    created_ = true;
    sql_.emplace(here());
    Admin admin{here()};
    for (const auto& queue : admin.queues()) admin.drop_queue(queue.queue, true);
  }
  void TearDown() override {
    sql_.reset();
    if (created_) (*maintenance_)("drop database " + name_ + " with (force)");
    for (const auto& role : roles_) (*maintenance_)("drop role " + role);
    if (!empty_.empty()) (*maintenance_)("drop database " + empty_);
  }

  std::string here() const { return dsn_with({{"dbname", name_}}); }
  std::string here_read_only() const {
    return dsn_with({{"dbname", name_}, {"options", "-c default_transaction_read_only=on"}});
  }
  // A database without PgQue.
  std::string elsewhere() {
    empty_ = unique_name("pgque_test_empty");
    (*maintenance_)("create database " + empty_ + " template template0");
    return dsn_with({{"dbname", empty_}});
  }
  std::string as_role_with(const std::vector<std::string>& granted) {
    const auto role = unique_name("pgque_test_role");
    (*maintenance_)("create role " + role + " login password 'secret'");
    roles_.push_back(role);
    for (const auto& name : granted) (*maintenance_)("grant " + name + " to " + role);
    return dsn_with({{"dbname", name_}, {"user", role}, {"password", "secret"}});
  }
  Sql& sql() { return *sql_; }

  // A queue with a subscribed consumer, ticked often.
  void create_queue(const std::string& name = "orders") {
    QueueSettings settings;
    settings.ticker_max_lag = 100ms;
    Admin{here()}.create_queue(name, settings);
    Client{here()}.subscribe(name, "worker");
  }
  // As a Ticker that is active, and has been.
  class WithTicker {
   public:
    explicit WithTicker(const std::string& dsn) : ticker_{dsn, options()}, running_{ticker_} {
      EXPECT_TRUE(wait_until([&] { return ticker_.stats().leader && ticker_.stats().maintenance > 0; }));
    }
    void wait_ticks(std::uint64_t count) {
      EXPECT_TRUE(wait_until([&] { return ticker_.stats().ticks >= count; }));
    }

   private:
    static TickerOptions options() {
      TickerOptions options;
      options.tick_period = 10ms;
      options.log = [](const LogRecord&) {};
      return options;
    }
    Ticker ticker_;
    Running<Ticker> running_;
  };

  static std::vector<std::string> codes(const std::vector<Finding>& findings) {
    std::vector<std::string> codes;
    for (const auto& finding : findings) codes.push_back(finding.code);
    return codes;
  }
  std::vector<std::string> codes() { return codes(diagnose(here())); }

  // An open batch of the consumer, an hour old.
  BatchId stick() {
    Client client{here()};
    client.send("orders", "1");
    client.force_next_tick("orders");
    client.ticker("orders");
    std::vector<Message> messages;
    EXPECT_TRUE(wait_until([&] { return !(messages = client.receive("orders", "worker")).empty(); }));
    sql()("update pgque.subscription set sub_active = now() - interval '1 hour' where sub_batch is not null");
    return messages.at(0).batch_id;
  }

 private:
  const std::string name_ = unique_name("pgque_doctor");
  bool created_ = false;
  std::string empty_;
  std::vector<std::string> roles_;
  std::optional<Sql> maintenance_;
  std::optional<Sql> sql_;
};

TEST_F(DoctorTest, FindsNothingWhereAllIsWell) {
  create_queue();
  WithTicker ticker{here()};
  ticker.wait_ticks(1);
  const auto findings = diagnose(here());
  EXPECT_THAT(codes(findings), IsEmpty()) << (findings.empty() ? "" : findings[0].fact);
}

TEST_F(DoctorTest, FindsAnEmptyDatabase) {
  const auto findings = diagnose(elsewhere());
  ASSERT_THAT(codes(findings), ElementsAre("not_installed"));
  EXPECT_EQ(findings[0].severity, Severity::error);
  EXPECT_THAT(findings[0].fact, HasSubstr("has no schema pgque"));
}

TEST_F(DoctorTest, FindsThatNobodyTicks) {
  EXPECT_THAT(codes(), ElementsAre("no_ticker", "no_queues"));
  create_queue();
  EXPECT_THAT(codes(), ElementsAre("no_ticker"));
  Client{here()}.send("orders", "1");
  EXPECT_THAT(codes(), ElementsAre("no_ticker"));
  // Ticks of long ago prove nothing.
  Client client{here()};
  client.ticker("orders");
  EXPECT_THAT(codes(), ElementsAre("unknown_scheduler"));
  sql()("update pgque.tick set tick_time = tick_time - interval '10 minutes'");
  EXPECT_THAT(codes(), ElementsAre("no_ticker"));
}

TEST_F(DoctorTest, FindsASchedulerThatHasStopped) {
  create_queue();
  Client{here()}.ticker("orders");
  sql()("update pgque.tick set tick_time = tick_time - interval '10 minutes'");
  sql()("update pgque.config set scheduler = 'pg_cron'");
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("queue_not_ticked"));
  EXPECT_THAT(findings[0].fact, HasSubstr("was made 10 min ago"));
  EXPECT_THAT(findings[0].remedy, HasSubstr("pg_cron"));
}

TEST_F(DoctorTest, FindsARestoreIntoAYoungerCluster) {
  create_queue();
  WithTicker ticker{here()};
  ticker.wait_ticks(2);
  sql()("update pgque.tick set tick_snapshot = '9000000000:9000000000:'");
  EXPECT_THAT(codes(diagnose(here())), ElementsAre("younger_cluster"));
  EXPECT_THAT(diagnose(here())[0].remedy, HasSubstr("pg_resetwal -e 3 "));
  sql()("update pgque.tick set tick_snapshot = pg_current_snapshot()");
  EXPECT_THAT(codes(diagnose(here())), IsEmpty());
}

TEST_F(DoctorTest, FindsAPausedQueue) {
  create_queue();
  QueueSettings paused;
  paused.paused = true;
  Admin{here()}.configure_queue("orders", paused);
  const WithTicker ticker{here()};
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("queue_paused"));
  EXPECT_EQ(findings[0].severity, Severity::warning);
  EXPECT_EQ(findings[0].queue, "orders");
  // The statement of the remedy fixes it.
  sql()(findings[0].remedy);
  EXPECT_THAT(codes(), Not(Contains("queue_paused")));
}

TEST_F(DoctorTest, FindsABatchThatIsOpenForAnHour) {
  create_queue();
  WithTicker ticker{here()};
  const auto batch = stick();
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("stuck_batch"));
  EXPECT_EQ(findings[0].severity, Severity::error);
  EXPECT_EQ(findings[0].consumer, "worker");
  EXPECT_THAT(findings[0].fact, HasSubstr("has kept batch " + to_string(batch) + " open for 1 h"));
  EXPECT_THAT(findings[0].consequence, HasSubstr("will not be rotated when it is time"));
  EXPECT_THAT(findings[0].remedy, HasSubstr("pgque.unsubscribe('orders', 'worker')"));
  Client{here()}.ack(batch);
  EXPECT_THAT(codes(), IsEmpty());
}

TEST_F(DoctorTest, FindsASilentWorker) {
  create_queue();
  Client client{here()};
  client.unsubscribe("orders", "worker");
  client.subscribe_subconsumer("orders", "group", "w1");
  WithTicker ticker{here()};
  client.send("orders", "1");
  std::vector<Message> held;
  EXPECT_TRUE(wait_until([&] { return !(held = client.receive_coop("orders", "group", "w1")).empty(); }));
  EXPECT_THAT(codes(), IsEmpty());
  const auto age = [&](const std::string& silence) {
    sql()("update pgque.subscription set sub_active = now() - interval '" + silence + "' where sub_batch is not null");
  };
  age("2 minutes");
  auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("stale_subconsumer"));
  EXPECT_EQ(findings[0].severity, Severity::warning);
  age("1 hour");
  findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("stale_subconsumer"));
  EXPECT_EQ(findings[0].severity, Severity::error);
  EXPECT_EQ(findings[0].queue, "orders");
  EXPECT_EQ(findings[0].consumer, "group.w1");
  EXPECT_THAT(findings[0].fact, HasSubstr("holds batch " + to_string(held.at(0).batch_id) +
                                          " and has sent no heartbeat"
                                          " for 1 h"));
  EXPECT_THAT(findings[0].consequence, HasSubstr("nobody is given the messages of that batch"));
  EXPECT_THAT(findings[0].remedy, HasSubstr("pgque.unsubscribe_subconsumer('orders', 'group', 'w1', 1)"));
  // As the remedy says, a worker with a dead_interval takes the batch over.
  EXPECT_EQ(client.receive_coop("orders", "group", "w2", {std::nullopt, 1min}).size(), 1U);
  EXPECT_THAT(codes(), IsEmpty());
}

TEST_F(DoctorTest, FindsAConsumerThatDoesNotRun) {
  create_queue();
  Client client{here()};
  client.ticker("orders");  // the consumer starts at the first tick, which was an hour ago
  sql()("update pgque.tick set tick_time = tick_time - interval '1 hour' where tick_id = 1");
  WithTicker ticker{here()};
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("consumer_behind"));
  EXPECT_THAT(findings[0].fact, HasSubstr("is 1 h"));
}

TEST_F(DoctorTest, FindsARoleWithoutGrants) {
  create_queue();
  WithTicker ticker{here()};
  ticker.wait_ticks(1);
  const auto nobody = as_role_with({});
  const auto findings = diagnose(nobody);
  ASSERT_THAT(codes(findings), ElementsAre("no_grants"));
  EXPECT_EQ(findings[0].severity, Severity::error);
  sql()(findings[0].remedy);
  EXPECT_THAT(codes(diagnose(nobody)), IsEmpty());
  EXPECT_THAT(codes(diagnose(as_role_with({"pgque_writer"}))), ElementsAre("limited_view"));
  EXPECT_THAT(codes(diagnose(as_role_with({"pgque_reader"}))), IsEmpty());
}

TEST_F(DoctorTest, FindsThatNotEvenTheSchemaMayBeUsed) {
  create_queue();
  sql()("revoke usage on schema pgque from public");
  EXPECT_THAT(codes(diagnose(as_role_with({}))), ElementsAre("no_grants"));
}

TEST_F(DoctorTest, FindsRetriesThatDoNotComeBack) {
  create_queue();
  Client client{here()};
  client.ticker("orders");
  client.send_batch("orders", "t", std::vector<Payload>(11, Payload{"1"}));
  client.force_next_tick("orders");
  client.ticker("orders");
  std::vector<Message> messages;
  EXPECT_TRUE(wait_until([&] { return !(messages = client.receive("orders", "worker")).empty(); }));
  for (const auto& message : messages) client.nack(message, {0s, std::nullopt});
  client.ack(messages.at(0).batch_id);
  sql()("update pgque.config set scheduler = 'pg_cron'");
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("retries_waiting"));
  EXPECT_THAT(findings[0].fact, HasSubstr("11 retries of queue 'orders' are due"));
  EXPECT_THAT(findings[0].consequence, HasSubstr("moves ten"));
  Admin{here()}.bring_retries_back();
  EXPECT_THAT(codes(), IsEmpty());
}

TEST_F(DoctorTest, FindsDeadLetters) {
  create_queue();
  QueueSettings settings;
  settings.max_retries = 0;
  Admin admin{here()};
  admin.configure_queue("orders", settings);
  WithTicker ticker{here()};
  Client client{here()};
  client.send("orders", "1");
  std::vector<Message> messages;
  EXPECT_TRUE(wait_until([&] { return !(messages = client.receive("orders", "worker")).empty(); }));
  client.nack(messages.at(0));
  client.ack(messages.at(0).batch_id);
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("dead_letters_growing"));
  EXPECT_THAT(findings[0].fact, HasSubstr("1 dead letter, 1 of them from the last 1 h"));
  sql()("update pgque.dead_letter set dl_time = dl_time - interval '2 hours'");
  EXPECT_THAT(codes(), ElementsAre("dead_letters"));
}

TEST_F(DoctorTest, TellsOfTheDefaultLagAndOfQueuesWithoutConsumers) {
  Admin{here()}.create_queue("orders");
  WithTicker ticker{here()};
  ticker.wait_ticks(1);
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("slow_ticks", "no_consumers"));
  EXPECT_EQ(findings[0].severity, Severity::notice);
  EXPECT_THAT(findings[0].consequence, HasSubstr("up to 3 s"));
  sql()(findings[0].remedy);
  EXPECT_THAT(codes(), ElementsAre("no_consumers"));
}

TEST_F(DoctorTest, FindsAReadOnlySession) {
  create_queue();
  WithTicker ticker{here()};
  ticker.wait_ticks(1);
  const auto findings = diagnose(here_read_only());
  ASSERT_THAT(codes(findings), ElementsAre("read_only_server"));
}

TEST_F(DoctorTest, FindsWhatWasOlderThanThis) {
  create_queue();
  WithTicker ticker{here()};
  ticker.wait_ticks(1);
  sql()("drop function pgque.receive_coop(text, text, text, integer, interval)");
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("too_old"));
  EXPECT_THAT(findings[0].fact, HasSubstr("receive_coop"));
}

TEST_F(DoctorTest, ThrowsWhereThereIsNoDatabase) {
  EXPECT_THROW(diagnose(dsn_with({{"dbname", unique_name("nowhere")}})), ConnectionError);
}

}  // namespace
}  // namespace pgque::test
