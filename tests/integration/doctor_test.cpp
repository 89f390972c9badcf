// Situations in which messages do not arrive, each in a separate database, and the findings about them.

#include <pgque/doctor.hpp>

#include <stdexcept>

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

  const std::string& name() const { return name_; }
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
  bool come_to(const std::vector<std::string>& expected) {
    return wait_until([&] { return codes() == expected; }, 60s);
  }

  // The table with the events of a queue.
  std::string events_of(const std::string& queue) {
    return sql().value("select queue_data_pfx from pgque.queue where queue_name = '" + queue + '\'').value_or("");
  }
  // Whether PgQue has the function.
  bool has(const std::string& function) {
    return sql().value("select to_regprocedure('" + function + "')").has_value();
  }
  // An event that was sent and waits, after a tick of 50 min ago, with an idle period of an hour.
  void let_an_event_wait() {
    QueueSettings idle;
    idle.ticker_idle_period = 1h;
    Admin{here()}.configure_queue("orders", idle);
    Client client{here()};
    client.ticker("orders");
    sql()("update pgque.tick set tick_time = tick_time - interval '50 minutes'");
    // PgQue's ticker does not see the first number of a queue.
    client.send_batch("orders", "t", {Payload{"1"}, Payload{"2"}});
  }
  // A message of the queue that waits for its retry, which is due.
  void nack_one(const std::string& queue) {
    Client client{here()};
    client.send(queue, "1");
    client.force_next_tick(queue);
    client.ticker(queue);
    std::vector<Message> messages;
    ASSERT_TRUE(wait_until([&] { return !(messages = client.receive(queue, "worker")).empty(); }));
    client.nack(messages.at(0), {0s, std::nullopt});
    client.ack(messages.at(0).batch_id);
  }
  // The statement in the text that begins with these words.
  static std::string statement(const std::string& text, const std::string& beginning) {
    const auto begin = text.find(beginning);
    if (begin == std::string::npos) throw std::runtime_error{"no " + beginning + " in: " + text};
    return text.substr(begin, text.find(';', begin) - begin);
  }

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

// Nothing but time passes: the event grows older than ticker_max_lag, and no tick comes.
TEST_F(DoctorTest, FindsThatNobodyTicksWhateverTheIdlePeriod) {
  create_queue();
  let_an_event_wait();
  std::vector<Finding> findings;
  ASSERT_TRUE(wait_until(
      [&] {
        findings = diagnose(here());
        return codes(findings) == std::vector<std::string>{"no_ticker"};
      },
      60s));
  EXPECT_THAT(findings[0].fact, HasSubstr("; events of queue 'orders' have waited for "));
  EXPECT_THAT(codes(diagnose(as_role_with({"pgque_reader"}))), ElementsAre("no_ticker"));
  EXPECT_THAT(codes(diagnose(as_role_with({"pgque_writer"}))), ElementsAre("no_ticker", "limited_view"));
  EXPECT_THAT(codes(diagnose(as_role_with({}))), ElementsAre("no_grants", "no_ticker"));
  // As the remedy says. The consumer has not seen the time of before pass.
  const WithTicker ticker{here()};
  EXPECT_TRUE(come_to({"consumer_behind"}));
}

TEST_F(DoctorTest, FindsTheQueueWhoseEventsWaitWhileOthersAreTicked) {
  create_queue();
  let_an_event_wait();
  create_queue("audit");
  Client client{here()};
  std::vector<Finding> findings;
  ASSERT_TRUE(wait_until(
      [&] {
        client.force_next_tick("audit");
        client.ticker("audit");
        findings = diagnose(here());
        return codes(findings) == std::vector<std::string>{"queue_not_ticked", "unknown_scheduler"};
      },
      60s));
  EXPECT_EQ(findings[0].queue, "orders");
  EXPECT_THAT(findings[0].fact, HasSubstr("; events have waited for "));
}

// PgQue grants the events to everybody, which some administrators take back.
TEST_F(DoctorTest, SeesByTheSequenceThatNobodyTicksIfItMayNotReadTheEvents) {
  create_queue();
  let_an_event_wait();
  const auto nobody = as_role_with({});
  sql()("revoke select on " + events_of("orders") + " from public");
  auto findings = diagnose(nobody);
  ASSERT_THAT(codes(findings), ElementsAre("no_grants", "no_ticker"));
  EXPECT_THAT(findings[1].fact, HasSubstr("have waited for 50 min"));
  // Without that, only the idle period tells.
  sql()("revoke select on sequence " + sql().value("select queue_event_seq from pgque.queue").value() + " from public");
  EXPECT_THAT(codes(diagnose(nobody)), ElementsAre("no_grants", "unknown_scheduler"));
}

// Such as by an administrator's LOCK TABLE. Without a limit, the doctor would wait for as long as that lasts.
TEST_F(DoctorTest, SeesByTheSequenceThatNobodyTicksWhileTheEventsAreLocked) {
  create_queue();
  let_an_event_wait();
  Sql locking{here()};
  locking("begin");
  locking("lock table " + events_of("orders") + " in access exclusive mode");
  const auto limited = dsn_with({{"dbname", name()}, {"options", "-c statement_timeout=60s"}});
  const auto findings = diagnose(limited);
  ASSERT_THAT(codes(findings), ElementsAre("no_ticker"));
  EXPECT_THAT(findings[0].fact, HasSubstr("have waited for 50 min"));
  locking("rollback");
}

// A slow Ticker is not gone.
TEST_F(DoctorTest, NamesALongTickPeriodBeforeItAdvisesToEndTheSession) {
  create_queue();
  TickerOptions rare;
  rare.tick_period = 1h;
  rare.log = [](const LogRecord&) {};
  Ticker ticker{here(), rare};
  const Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().leader && ticker.stats().ticks > 0; }));
  sql()("update pgque.tick set tick_time = tick_time - interval '10 minutes'");
  auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("queue_not_ticked"));
  for (const auto& dsn : {here(), as_role_with({"pgque_reader"})}) {
    findings = diagnose(dsn);
    ASSERT_THAT(codes(findings), ElementsAre("queue_not_ticked"));
    EXPECT_LT(findings[0].remedy.find("tick_period"), findings[0].remedy.find("pg_terminate_backend"));
  }
}

// An old event may have been committed a moment ago. Here it is ticked as soon as the doctor looks at it.
TEST_F(DoctorTest, WaitsForTheTickThatAWorkingSchedulerMakes) {
  create_queue();
  let_an_event_wait();
  const auto events = events_of("orders");
  sql()("update " + events + " set ev_time = now() - interval '40 minutes'");
  sql()(
      "create function public.tick() returns bigint language sql volatile as "
      "$$ select pgque.ticker('orders') $$");
  sql()("create view public.ticked as select e.* from (select public.tick() offset 0) t, " + events + " e");
  sql()("update pgque.queue set queue_data_pfx = 'public.ticked'");
  EXPECT_THAT(codes(), ElementsAre("consumer_behind", "unknown_scheduler"));
  EXPECT_EQ(sql().number("select count(*) from pgque.tick where tick_time > now() - interval '10 minutes'"), 1);
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

TEST_F(DoctorTest, FindsAClockThatWentBack) {
  create_queue();
  const WithTicker ticker{here()};
  // As if there had been a later time.
  ASSERT_TRUE(wait_until([&] {
    sql()("update pgque.tick set tick_time = now() + interval '54 minutes 1 second'");
    return codes() == std::vector<std::string>{"clock_went_back"};
  }));
  const auto findings = diagnose(here());
  EXPECT_EQ(findings.at(0).severity, Severity::error);
  EXPECT_EQ(findings[0].queue, "orders");
  EXPECT_THAT(findings[0].fact, HasSubstr(" min in the future"));
  sql()(statement(findings[0].remedy, "select pgque.force_next_tick("));
  EXPECT_TRUE(come_to({}));
  sql()("update pgque.queue set queue_switch_time = now() + interval '1 hour'");
  ASSERT_THAT(codes(), ElementsAre("clock_went_back"));
  sql()(diagnose(here())[0].remedy);
  EXPECT_THAT(codes(), IsEmpty());
}

// A session that a pooler keeps, or that of a process that hangs, looks the same.
TEST_F(DoctorTest, FindsALockThatAPoolerHasKept) {
  create_queue();
  Client{here()}.ticker("orders");
  sql()("update pgque.tick set tick_time = tick_time - interval '10 minutes'");
  Sql gone{dsn_with({{"application_name", "pgque ticker"}}, here())};
  ASSERT_EQ(
      gone.value("select pg_try_advisory_lock(" + std::to_string(0x70677175) + ", " + std::to_string(0x7469636B) + ')'),
      "t");
  EXPECT_THAT(codes(), ElementsAre("queue_not_ticked"));  // it may be a Ticker that ticks once a minute
  DiagnoseOptions impatient;
  impatient.silent_ticker = 1s;
  std::vector<Finding> findings;
  ASSERT_TRUE(wait_until(
      [&] {
        findings = diagnose(here(), impatient);
        return codes(findings) == std::vector<std::string>{"stranded_ticker_lock"};
      },
      60s));
  const auto finding = findings.at(0);
  EXPECT_EQ(finding.severity, Severity::error);
  EXPECT_THAT(finding.fact,
              HasSubstr("('pgque ticker') holds the lock of the active ticker, but has executed nothing"));
  // Who may not see what the session does is told where to look.
  const auto seen_by_others = diagnose(as_role_with({"pgque_reader"}));
  ASSERT_THAT(codes(seen_by_others), ElementsAre("queue_not_ticked"));
  const auto remedy = statement(finding.remedy, "select pg_catalog.pg_terminate_backend(");
  EXPECT_THAT(seen_by_others[0].remedy, HasSubstr(remedy));
  sql()(remedy);
  EXPECT_TRUE(come_to({"no_ticker"}));
}

TEST_F(DoctorTest, FindsTheQueueThatBlocksAllRetries) {
  create_queue();
  create_queue("refusing");
  nack_one("orders");
  nack_one("refusing");
  sql()("update pgque.queue set queue_disable_insert = true where queue_name = 'refusing'");
  const WithTicker ticker{here()};
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("retries_blocked", "inserts_disabled"));
  EXPECT_EQ(findings[0].severity, Severity::error);
  EXPECT_EQ(findings[0].queue, "refusing");
  EXPECT_THROW(sql()("select pgque.maint_retry_events()"), pqxx::sql_error);
  EXPECT_EQ(sql().number("select count(*) from pgque.retry_queue"), 2);
  // Either statement of the remedy solves it.
  sql()(statement(findings[0].remedy, "delete from pgque.retry_queue"));
  EXPECT_TRUE(wait_until([&] { return sql().number("select count(*) from pgque.retry_queue") == 0; }));
  EXPECT_TRUE(come_to({"inserts_disabled"}));
  sql()(statement(findings[0].remedy, "update pgque.queue"));
  EXPECT_TRUE(come_to({}));
}

TEST_F(DoctorTest, FindsARotationPeriodThatFailsTheMaintenanceOfAllQueues) {
  create_queue();
  create_queue("audit");
  const WithTicker ticker{here()};
  sql()("select pgque.set_queue_config('orders', 'rotation_period', '300000 years')");
  EXPECT_THROW(sql()("select pgque.maint()"), pqxx::sql_error);
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("odd_rotation_period"));
  EXPECT_EQ(findings[0].severity, Severity::warning);
  EXPECT_EQ(findings[0].queue, "orders");
  sql()(findings[0].remedy);
  EXPECT_EQ(sql().number("select pgque.maint()"), 0);
  EXPECT_THAT(codes(), IsEmpty());
}

// Of each value, only what is made of it is odd.
TEST_F(DoctorTest, OddValuesFailNothingElse) {
  create_queue();
  create_queue("audit");
  Client client{here()};
  for (const auto* const queue : {"audit", "orders"}) client.ticker(queue);
  Admin admin{here()};
  constexpr auto longest = std::chrono::hours{24} * 36'525'000;
  const auto expect_queues = [&](const QueueInfo& odd) {
    EXPECT_EQ(odd.queue, "orders");
    const auto normal = admin.queues().at(0);
    EXPECT_EQ(normal.queue, "audit");
    EXPECT_EQ(normal.rotation_period, 2h);
    EXPECT_TRUE(normal.ticker_lag && *normal.ticker_lag < 1h);
  };
  for (const auto* const column : {"queue_rotation_period", "queue_ticker_idle_period", "queue_ticker_max_lag"}) {
    sql()("update pgque.queue set " + std::string{column} + " = '300000 years' where queue_name = 'orders'");
  }
  auto odd = admin.queues().at(1);
  expect_queues(odd);
  EXPECT_EQ(odd.rotation_period, longest);
  EXPECT_EQ(odd.ticker_idle_period, longest);
  EXPECT_EQ(odd.ticker_max_lag, longest);
  EXPECT_EQ(odd.note, "");
  sql()("update pgque.queue set queue_rotation_period = '-300000 years' where queue_name = 'orders'");
  EXPECT_EQ(admin.queue("orders").rotation_period, -longest);

  sql()("update pgque.queue set queue_switch_time = 'infinity' where queue_name = 'orders'");
  odd = admin.queues().at(1);
  expect_queues(odd);
  EXPECT_EQ(odd.rotated_at, Timestamp{longest});

  // At these, PgQue's own functions fail.
  sql()(
      "update pgque.tick set tick_time = '-infinity' where tick_queue = (select queue_id from pgque.queue where "
      "queue_name = 'orders')");
  sql()(
      "update pgque.subscription set sub_active = 'infinity' where sub_queue = (select queue_id from pgque.queue "
      "where queue_name = 'orders')");
  odd = admin.queues().at(1);
  expect_queues(odd);
  EXPECT_EQ(odd.ticker_lag, longest);
  const bool subtracts_infinity = sql().number("select current_setting('server_version_num')::int") >= 170000;
  if (!subtracts_infinity) {
    EXPECT_THAT(odd.note, HasSubstr("get_queue_info() failed"));
  }
  auto consumers = admin.consumers();
  ASSERT_EQ(consumers.size(), 2U);
  EXPECT_EQ(consumers[0].queue, "audit");
  EXPECT_LT(consumers[0].last_seen, 1h);
  EXPECT_EQ(consumers[1].queue, "orders");
  EXPECT_EQ(consumers[1].last_seen, -longest);
  EXPECT_EQ(consumers[1].lag, longest);
  EXPECT_EQ(consumers[1].last_tick, TickId{1});
  EXPECT_EQ(consumers[1].pending_events, 0);
  EXPECT_THAT(codes(), Contains("odd_rotation_period").Times(0));  // it is negative
  sql()("update pgque.queue set queue_rotation_period = '300000 years' where queue_name = 'orders'");
  EXPECT_THAT(codes(), Contains("odd_rotation_period"));
}

TEST_F(DoctorTest, FindsNamesThatAreReservedForSlots) {
  create_queue();
  Client{here()}.unsubscribe("orders", "worker");
  const WithTicker ticker{here()};
  sql()("select pgque.register_consumer('orders', 'a#b')");
  const bool reserved = has("pgque.claim_slot(text, text, integer, text, interval)") &&
                        !has("pgque.subscribe_partitioned(text, text, integer)");
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("reserved_name"));
  EXPECT_EQ(findings[0].severity, reserved ? Severity::error : Severity::notice);
  EXPECT_EQ(findings[0].consumer, "a#b");
  if (reserved) {
    EXPECT_THROW(Client{here()}.receive("orders", "a#b"), Error);
  }
  sql()(statement(findings[0].remedy, "select pgque.register_consumer_at("));
  sql()(statement(findings[0].remedy, "select pgque.unsubscribe("));
  EXPECT_THAT(codes(), IsEmpty());
  EXPECT_EQ(Admin{here()}.consumers().at(0).consumer, "a-b");
}

// On a PgQue without slots, with something that looks like them.
TEST_F(DoctorTest, GivesTheAdviceForASlotToAnIdleSlot) {
  create_queue();
  Client client{here()};
  client.unsubscribe("orders", "worker");
  const bool real = has("pgque.subscribe_slot(text, text, integer, integer)");
  if (real) {
    sql()("select pgque.subscribe_slot('orders', 'c', 0, 2), pgque.subscribe_slot('orders', 'c', 1, 2)");
  } else {
    sql()(
        "create function pgque.claim_slot(text, text, integer, text, interval) returns bigint language sql as $$ "
        "select null::bigint $$");
    for (const auto* const slot : {"c#0/2", "c#1/2"}) client.subscribe("orders", slot);
  }
  client.ticker("orders");
  sql()("update pgque.tick set tick_time = tick_time - interval '1 hour' where tick_id = 1");
  const WithTicker ticker{here()};
  const auto findings = diagnose(here());
  ASSERT_THAT(codes(findings), ElementsAre("consumer_behind", "consumer_behind"));
  EXPECT_EQ(findings[0].consumer, "c#0/2");
  EXPECT_THAT(findings[0].remedy, HasSubstr("let a worker claim slot 0 of 'c'"));
  EXPECT_THAT(findings[1].remedy, HasSubstr("select pgque.unsubscribe_slot('orders', 'c', 1);"));
  // What it said before leaves PgQue without one of the two.
  client.unsubscribe("orders", "c#0/2");
  auto missing = diagnose(here());
  ASSERT_THAT(codes(missing), ElementsAre("slot_unsubscribed", "consumer_behind"));
  EXPECT_THAT(missing[0].fact, HasSubstr("'c' on queue 'orders', these are not subscribed: 0"));
  if (!real) return;
  sql()(statement(missing[0].remedy, "select pgque.subscribe_slot("));
  EXPECT_THAT(codes(), ElementsAre("consumer_behind"));
  for (const auto& finding : findings) sql()(statement(finding.remedy, "select pgque.unsubscribe_slot("));
  EXPECT_THAT(codes(), ElementsAre("no_consumers"));
  EXPECT_EQ(sql().number("select count(*) from pgque.partition_slot_status"), 0);
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
  sql()("update pgque.dead_letter set dl_time = 'infinity'");
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
