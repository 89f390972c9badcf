// Handlers that meet other transactions: deadlocks and serialization failures use up no retry.

#include <atomic>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class ConsumerConflictTest : public ConsumerTest {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    sql()("create table " + table_ + " (value text primary key, times int default 0)");
  }
  void TearDown() override {
    if (!IsSkipped()) Sql{}("drop table if exists " + table_);
    ConsumerTest::TearDown();
  }
  const std::string& table() const { return table_; }
  std::string insert(const std::string& value) const { return "insert into " + table_ + " values ('" + value + "')"; }
  std::string count_up(const std::string& value) const {
    return "update " + table_ + " set times = times + 1 where value = '" + value + "'";
  }
  std::vector<std::string> rows() {
    std::vector<std::string> rows;
    for (const auto& row : sql()("select value from " + table_ + " order by value")) rows.emplace_back(row[0].c_str());
    return rows;
  }
  static void fail(pqxx::transaction_base& transaction, const std::string& sqlstate) {
    transaction.exec("do $$ begin raise exception using errcode = '" + sqlstate + "', message = 'conflict'; end $$");
  }
  ConsumerOptions quick() {
    auto with = options(TransactionMode::per_batch);
    with.reconnect = {1ms, 10ms};
    return with;
  }

 private:
  const std::string table_ = unique_name("pgque_test_conflict");
};

TEST_F(ConsumerConflictTest, AHandlerThatDeadlocksIsCalledAgainAtOnceAndItsWritesHappenOnce) {
  publish_numbers(3);
  int calls = 0;
  Consumer consumer{dsn(), quick()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (message.payload == "1" && ++calls <= 3) fail(context.transaction(), "40P01");
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 4);
  EXPECT_THAT(rows(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().failures, 0U);
  EXPECT_EQ(consumer.stats().messages, 3U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(log.count(LogEvent::batch_received), 1U);
  const auto lines = log.lines(LogEvent::failed);
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_EQ(lines[0].level, LogLevel::warning);
  EXPECT_THAT(lines[0].message, HasSubstr("deadlock"));
}

TEST_F(ConsumerConflictTest, AfterTheFourthDeadlockInARowTheBatchComesAgainWithoutARetry) {
  publish_numbers(2);
  int calls = 0;
  Consumer consumer{dsn(), quick()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (message.payload == "1" && ++calls <= 4) fail(context.transaction(), "40P01");
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 5);
  EXPECT_THAT(rows(), ElementsAre("0", "1"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().failures, 0U);
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(log.count(LogEvent::batch_received), 2U);
}

TEST_F(ConsumerConflictTest, ARealDeadlockIsOvercome) {
  publish("1");
  sql()(insert("a"));
  sql()(insert("b"));
  Sql other;
  other("set deadlock_timeout = '1h'");  // so the handler is the one that the server chooses
  const auto pid = other.value("select pg_backend_pid()").value();
  pqxx::work rival{other.connection()};
  rival.exec(count_up("b"));
  std::thread thread;
  int calls = 0;
  Consumer consumer{dsn(), quick()};
  consumer.on("t", [&](const Message&, Context& context) {
    context.transaction().exec("set local deadlock_timeout = '10ms'");
    context.transaction().exec(count_up("a"));
    if (++calls == 1) {
      thread = std::thread{[&] {
        rival.exec(count_up("a"));
        rival.commit();
      }};
      Sql watch;
      EXPECT_TRUE(wait_until([&] {
        return watch.number("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and pid = " + pid) ==
               1;
      }));
    }
    context.transaction().exec(count_up("b"));
  });
  finish_batches(consumer);
  if (thread.joinable()) thread.join();
  EXPECT_GE(calls, 2) << "more, if the handler is quicker than the rival again";
  EXPECT_EQ(sql().value("select string_agg(times::text, ',') from " + table()), "2,2");
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
}

TEST_F(ConsumerConflictTest, ASerializationFailureLeavesTheBatchAndUsesUpNoRetry) {
  publish_numbers(3);
  int calls = 0;
  Consumer consumer{dsn(), quick()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (message.payload == "1" && ++calls <= 2) fail(context.transaction(), "40001");
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 3);
  EXPECT_THAT(rows(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().failures, 0U);
  EXPECT_EQ(consumer.stats().abandoned, 2U);
  EXPECT_EQ(log.count(LogEvent::batch_received), 3U);
  EXPECT_EQ(log.lines(LogEvent::failed).at(0).sqlstate, "40001");
  EXPECT_EQ(consumer.stats().reconnects, 0U);
}

// The default isolation of a role applies to the library's transactions, too. Where they conflict, they are repeated.
TEST_F(ConsumerConflictTest, UnderEveryIsolationOfTheRoleEachMessagesWritesHappenOnce) {
  sql()("grant all on " + table() + " to public");
  const std::vector<std::string> names{consumer_name(), "x" + consumer_name()};
  client().subscribe(queue(), names[1]);
  std::size_t published = 0;
  for (const std::string level : {"repeatable read", "serializable"}) {
    const auto role = dsn_of_role_set({{"default_transaction_isolation", sql().quote(level)}});
    std::atomic<int> otherwise{0};
    std::vector<std::unique_ptr<Consumer>> consumers;
    for (const auto& name : names) {
      auto with = quick();
      with.name = name;
      consumers.push_back(std::make_unique<Consumer>(role, with));
      consumers.back()->on("t", [&, name](const Message& message, Context& context) {
        auto& transaction = context.transaction();
        if (transaction.exec("show transaction_isolation")[0][0].c_str() != level) ++otherwise;
        transaction.exec(insert(name + ' ' + message.payload.value()));
      });
    }
    {
      const Running first{*consumers[0]};
      const Running second{*consumers[1]};
      for (int i = 0; i < 15; ++i) publish(std::to_string(published++));
      EXPECT_TRUE(wait_until([&] { return rows().size() == 2 * published; })) << level;
    }
    EXPECT_EQ(otherwise, 0) << level;
  }
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(sql().number("select count(*) from pgque.dead_letter where dl_queue_id = " + queue_id()), 0);
}

// When the handler is called again, it makes that transaction anew.
TEST_F(ConsumerConflictTest, AConflictInAHandlersOwnTransactionRunsTheHandlerAgainThreeTimesAtMost) {
  for (const auto mode : {TransactionMode::split, TransactionMode::per_batch}) {
    for (const auto* const state : {"40P01", "40001"}) {
      for (const int conflicts : {3, 4}) {
        TestQueue own{sql(), "conflict"};
        client().subscribe(own, consumer_name());
        client().send(own, "1", "t");
        client().send(own, "2", "t");
        own.tick();
        auto with = options(mode);
        with.queue = own;
        int calls = 0;
        Consumer consumer{dsn(), with};
        consumer.on("t", [&](const Message& message) {
          if (message.payload != "1" || ++calls > conflicts) return;
          Sql mine;
          pqxx::work transaction{mine.connection()};
          fail(transaction, state);
        });
        finish_batches(consumer);
        EXPECT_EQ(calls, 4);
        EXPECT_EQ(consumer.stats().failures, conflicts == 3 ? 0U : 1U);
        EXPECT_EQ(own.retries(), conflicts == 3 ? 0 : 1);
        EXPECT_EQ(consumer.stats().abandoned, 0U);
      }
    }
  }
}

// stop_now() promises that no further handler begins.
TEST_F(ConsumerConflictTest, AfterStopNowNoHandlerIsCalledAgain) {
  publish("1");
  int calls = 0;
  Consumer consumer{dsn(), quick()};
  consumer.on("t", [&](const Message&, Context& context) {
    ++calls;
    consumer.stop_now();
    fail(context.transaction(), "40P01");
  });
  consumer.start();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().batches, 0U);
  EXPECT_THAT(client().receive(queue(), consumer_name()), SizeIs(1));
}

}  // namespace
}  // namespace pgque::test
