// What only another session can mend: errors that come again as long as the session lasts, and passwords that expire.

#include <gmock/gmock.h>
#include <pgque/buffered_producer.hpp>
#include <pgque/pqxx.hpp>

#include "fault_fixture.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

using testing::HasSubstr;

constexpr const char* ack =
    "update on pgque.subscription for each row when (old.sub_batch is not null and new.sub_batch is null)";
constexpr const char* nack = "insert on pgque.retry_queue for each row";
constexpr const char* tick = "insert on pgque.tick for each row";

// Makes a statement fail in the sessions that exist now, as with a plan that an upgrade has made invalid. Other
// sessions are not affected.
class OldSessions {
 public:
  explicit OldSessions(Sql& sql, const std::string& statement = ack, const std::string& sqlstate = "0A000",
                       const std::string& message = "'cached plan must not change result type'")
      : sql_{sql} {
    sql_("create table public.faults_old as select pid from pg_stat_activity");
    sql_(
        "create function public.faults_old() returns trigger language plpgsql as $$ begin "
        "if exists (select from public.faults_old where pid = pg_backend_pid()) then "
        "raise exception '%', " +
        message + " using errcode = '" + sqlstate + "'; end if; return new; end $$");
    sql_("grant select on public.faults_old to public");
    sql_("create trigger faults_old before " + statement + " execute function public.faults_old()");
  }
  OldSessions(const OldSessions&) = delete;
  OldSessions& operator=(const OldSessions&) = delete;
  ~OldSessions() {
    try {
      sql_("drop function public.faults_old() cascade");
      sql_("drop table public.faults_old");
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  }

 private:
  Sql& sql_;
};

using SameErrorAgain = FaultModes;

TEST_P(SameErrorAgain, ThreeTimesMakesAConsumerConnectAgain) {
  Work work{queue(), mode()};
  Consumer consumer{dsn(), options()};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const OldSessions broken{sql()};
  publish_numbers(count);
  expect_nothing_lost(work, mode());
  EXPECT_EQ(consumer.stats().reconnects, 1U);
  const auto failed = log.lines(LogEvent::failed);
  ASSERT_EQ(failed.size(), 4U);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(failed[static_cast<std::size_t>(i)].sqlstate, "0A000");
  EXPECT_THAT(failed.back().message, HasSubstr("connects again"));
  expect_works_on(work, mode());
}

INSTANTIATE_TEST_SUITE_P(Modes, SameErrorAgain, both_modes, mode_name);

class SameErrorAtANack : public FaultTest {
 protected:
  // All messages fail, with this reason.
  void run(const std::string& reason, const std::function<void(Consumer&)>& check) {
    Consumer consumer{dsn(), options(TransactionMode::split)};
    consumer.on("t", [&](const Message&) { throw std::runtime_error{reason}; });
    const Running running{consumer};
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    check(consumer);
    EXPECT_EQ(consumer.stats().reconnects, 1U);
    EXPECT_EQ(queue().retries(), count);
  }
};

// A reason that may have to be stored otherwise is stored within a savepoint, which works each time.
TEST_F(SameErrorAtANack, ThreeTimesMakesAConsumerConnectAgain) {
  for (const auto* const reason : {"no", "caf\xC3\xA9"}) {
    run(reason, [&](Consumer& consumer) {
      const OldSessions broken{sql(), nack, "42804", "'structure of query does not match function result type'"};
      publish_numbers(count);
      ASSERT_TRUE(wait_batches(consumer, 1));
      EXPECT_EQ(consumer.stats().abandoned, 3U);
    });
    sql()("delete from pgque.retry_queue");
  }
}

// The messages of these errors differ, because they have the name of a statement, which is prepared anew each time.
TEST_F(SameErrorAtANack, AboutAPreparedStatementThreeTimesMakesAConsumerConnectAgain) {
  for (const auto* const state : {"26000", "42P05"}) {
    run("no", [&](Consumer& consumer) {
      const OldSessions broken{sql(), nack, state, "'prepared statement ' || clock_timestamp()"};
      publish_numbers(count);
      ASSERT_TRUE(wait_batches(consumer, 1));
      EXPECT_EQ(consumer.stats().failures, std::uint64_t{count}) << "the handlers are not repeated";
    });
    sql()("delete from pgque.retry_queue");
  }
}

// For one queue: the others need no tick, so calling the ticker for them works.
TEST_F(FaultTest, TheSameErrorThreeTimesMakesATickerConnectAgain) {
  queue().config("ticker_max_lag", "1 millisecond");
  const TestQueue idle{sql()};
  TickerOptions settings;
  settings.tick_period = settings.standby_period = 5ms;
  settings.reconnect = {1ms, 10ms};
  settings.log = log.sink();
  Ticker ticker{dsn(), settings};
  const Running running{ticker};
  ASSERT_TRUE(wait_until([&] { return ticker.stats().leader; }));
  const OldSessions broken{sql(), tick};
  client().send(queue(), "1", "t");
  ASSERT_TRUE(wait_until([&] { return ticker.stats().reconnects != 0; }));
  EXPECT_TRUE(wait_until([&] { return !client().receive(queue(), consumer_name()).empty(); }));
  EXPECT_EQ(ticker.stats().reconnects, 1U);
}

class WornOutClient : public FaultTest {
 protected:
  // A batch to acknowledge, received in another session.
  BatchId batch() {
    publish("1");
    return client().receive(queue(), consumer_name()).at(0).batch_id;
  }
  static void expect_refused(Client& victim, BatchId batch, int times) {
    for (int i = 0; i < times; ++i) {
      EXPECT_EQ(thrown<Error>([&] { victim.ack(batch); }).sqlstate(), "0A000");
    }
  }
};

TEST_F(WornOutClient, ConnectsAgainAfterTheSameErrorThreeTimes) {
  const auto open = batch();
  Client victim{dsn()};
  const OldSessions broken{sql()};
  expect_refused(victim, open, 3);
  EXPECT_TRUE(victim.is_open());
  EXPECT_TRUE(victim.ack(open));
}

TEST_F(WornOutClient, ConnectsAgainAtTheNextTransaction) {
  const auto open = batch();
  Client victim{dsn()};
  const OldSessions broken{sql()};
  for (int i = 0; i < 3; ++i) {
    auto transaction = victim.begin();
    EXPECT_EQ(thrown<Error>([&] { transaction.ack(open); }).sqlstate(), "0A000");
  }
  auto transaction = victim.begin();
  EXPECT_TRUE(transaction.ack(open));
  transaction.commit();
}

TEST_F(WornOutClient, KeepsTheSessionWhileTheSameCallSucceedsInBetween) {
  const auto open = batch();
  Client victim{dsn()};
  const OldSessions broken{sql()};
  expect_refused(victim, open, 2);
  EXPECT_FALSE(victim.ack(BatchId{1'000'000'000}));  // no such batch: the trigger is not reached
  expect_refused(victim, open, 3);
  EXPECT_TRUE(victim.ack(open));
}

// Other calls that work say nothing about the one that does not.
TEST_F(WornOutClient, ConnectsAgainAlthoughOtherCallsSucceedInBetween) {
  const auto open = batch();
  Client victim{dsn()};
  const OldSessions broken{sql()};
  for (int i = 0; i < 3; ++i) {
    expect_refused(victim, open, 1);
    victim.send(queue(), "1", "t");
  }
  EXPECT_TRUE(victim.ack(open));
}

// The program may have kept the reference.
TEST_F(WornOutClient, KeepsAConnectionThatTheProgramHasSeen) {
  const auto open = batch();
  Client victim{dsn()};
  auto& connection = native(victim);
  const OldSessions broken{sql()};
  expect_refused(victim, open, 5);
  EXPECT_EQ(&native(victim), &connection);
}

TEST_F(WornOutClient, KeepsABorrowedConnection) {
  const auto open = batch();
  pqxx::connection connection{dsn()};
  auto victim = borrow(connection);
  const OldSessions broken{sql()};
  expect_refused(victim, open, 5);
}

// An error that the arguments cause comes again in every session.
TEST_F(WornOutClient, KeepsTheSessionWhenTheArgumentsAreWrong) {
  Client victim{dsn_with({{"application_name", "pgque_wrong_arguments"}})};
  const auto pid = [&] {
    return sql().value("select pid from pg_stat_activity where application_name = 'pgque_wrong_arguments'");
  };
  const auto before = pid();
  ASSERT_NE(before, std::nullopt);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(thrown<Error>([&] { victim.send(queue(), "{", "t"); }).sqlstate(), "22P02");
  }
  victim.send(queue(), "1", "t");
  EXPECT_EQ(pid(), before);
}

// A role whose password changes, and sessions of it that end.
class PasswordChanged : public FaultTest {
 protected:
  void SetUp() override {
    FaultTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const auto role_dsn = dsn_of_role_with({"pgque_admin"});
    role_ = role_of(role_dsn);
    without_password_ = role_dsn + " password=";
    change_password();
  }
  void change_password() {
    password_ = unique_name("secret");
    sql()("alter role " + role_ + " password '" + password_ + "'");
  }
  std::string current() const { return without_password_ + password_; }
  Dsn function() {
    return [this] {
      ++asked_;
      const std::lock_guard lock{mutex_};
      return current();
    };
  }
  void change_password_and_end_sessions() {
    {
      const std::lock_guard lock{mutex_};
      change_password();
    }
    EXPECT_GT(
        sql().number("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '" + role_ + "'"),
        0);
  }
  int asked() const { return asked_; }

 private:
  std::string role_;
  std::string without_password_;
  std::string password_;
  std::mutex mutex_;
  std::atomic<int> asked_{0};
};

TEST_F(PasswordChanged, AConsumerWithAFunctionGoesOn) {
  Work work{queue(), TransactionMode::per_batch};
  Consumer consumer{function(), options(TransactionMode::per_batch)};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_EQ(asked(), 1);
  change_password_and_end_sessions();
  publish_numbers(count);
  expect_nothing_lost(work, TransactionMode::per_batch);
  EXPECT_EQ(consumer.stats().reconnects, 1U);
  EXPECT_EQ(asked(), 2);
}

TEST_F(PasswordChanged, AConsumerWithAFixedDsnAsksOnErrorAndStops) {
  auto settings = options(TransactionMode::per_batch);
  std::atomic<int> errors{0};
  settings.on_error = [&](const Error& error) {
    EXPECT_EQ(error.sqlstate(), "28P01");
    return ++errors < 3 ? ErrorAction::retry : ErrorAction::stop;
  };
  Consumer consumer{current(), settings};
  consumer.on("*", [](const Message&) {});
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  change_password_and_end_sessions();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_EQ(errors, 3);
  EXPECT_THROW(std::rethrow_exception(running.error()), ConnectionError);
}

TEST_F(PasswordChanged, AListenDsnMayBeAFunctionAsWell) {
  auto settings = options(TransactionMode::split);
  settings.listen_dsn = function();
  Work work{queue(), TransactionMode::split};
  Consumer consumer{function(), settings};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_EQ(asked(), 2);
  change_password_and_end_sessions();
  publish_numbers(count);
  expect_nothing_lost(work, TransactionMode::split);
  EXPECT_EQ(asked(), 4);
}

TEST_F(PasswordChanged, ATickerWithAFunctionGoesOnAndOneWithAFixedDsnStops) {
  TickerOptions settings;
  settings.tick_period = 5ms;
  settings.standby_period = 5ms;
  settings.reconnect = {50ms, 100ms};
  settings.log = log.sink();
  Ticker with_function{function(), settings};
  Ticker fixed{current(), settings};
  const Running run_with_function{with_function};
  Running run_fixed{fixed};
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::connected) == 2; }));
  change_password_and_end_sessions();
  ASSERT_TRUE(run_fixed.wait_ended());
  EXPECT_THROW(std::rethrow_exception(run_fixed.error()), ConnectionError);
  EXPECT_TRUE(wait_until([&] { return with_function.stats().reconnects == 1 && with_function.stats().leader; }));
}

TEST_F(PasswordChanged, ABufferedProducerWithAFunctionGoesOn) {
  BufferedProducerOptions settings;
  settings.reconnect = {50ms, 100ms};
  settings.log = log.sink();
  BufferedProducer producer{function(), settings};
  producer.send(queue(), "1", "t").get();
  change_password_and_end_sessions();
  producer.send(queue(), "2", "t").get();
  EXPECT_EQ(producer.stats().reconnects, 1U);
  EXPECT_EQ(asked(), 2);
}

TEST_F(PasswordChanged, AClientAsksItsFunctionOnce) {
  Client made{function()};
  made.send(queue(), "1", "t");
  EXPECT_EQ(asked(), 1);
}

}  // namespace
}  // namespace pgque::test
