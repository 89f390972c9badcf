// Handlers and the batch's transaction: exactly-once writes in per_batch mode, none open in split mode.

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "writes_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ConsumerTransactionTest : public WritesTest {};

TEST_F(ConsumerTransactionTest, WritesCommitTogetherWithTheAck) {
  publish_numbers(2);
  Gate gate;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (message.payload == "1") gate.pass();
  });
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  EXPECT_THAT(rows(), IsEmpty());
  gate.open();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_THAT(rows(), ElementsAre("0", "1"));
}

TEST_F(ConsumerTransactionTest, WritesHappenExactlyOnceAlthoughTheSessionIsKilled) {
  publish_numbers(3);
  int calls = 0;
  Consumer consumer{watched_dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (++calls == 2) Sql{}("select pg_terminate_backend(pid)" + watched());
  });
  finish_batches(consumer);
  EXPECT_GT(calls, 3);
  EXPECT_THAT(rows(), ElementsAre("0", "1", "2"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(consumer.stats().reconnects, 1U);
}

TEST_F(ConsumerTransactionTest, TheWritesOfAHandlerThatThrowsVanishAndTheOthersStay) {
  publish_numbers(4);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (message.payload == "1") throw std::runtime_error{"no"};
    if (message.payload == "2") throw 42;
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("0", "3"));
  EXPECT_EQ(queue().retries(), 2);
}

TEST_F(ConsumerTransactionTest, AnSqlErrorFailsOnlyItsOwnMessage) {
  queue().config("max_retries", "0");
  publish_numbers(3);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (message.payload == "1") context.transaction().exec(insert("forbidden"));
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("0", "2"));
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 1U);
  EXPECT_THAT(*reasons[0], HasSubstr("violates check constraint"));
}

TEST_F(ConsumerTransactionTest, SwallowingAnSqlErrorFailsTheMessageAndDoesNotPoisonTheBatch) {
  publish_numbers(3);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(insert(*message.payload));
    if (message.payload != "1") return;
    try {
      context.transaction().exec(insert("forbidden"));
    } catch (const std::exception&) {
      // As if nothing had happened.
    }
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("0", "2"));
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(consumer.stats().messages, 2U);
  EXPECT_EQ(consumer.stats().failures, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
}

// By whichever way the statement is sent, and in a callback of on_ack() as well. libpqxx 8 does not tell the error.
TEST_F(ConsumerTransactionTest, TheReasonOfAMessageWhoseErrorWasSwallowedNamesTheError) {
  queue().config("max_retries", "0");
  publish_numbers(4);
  const auto swallow = [this](pqxx::transaction_base& transaction, const std::string& how) {
    try {
      if (how == "1" || how == "3") {
        transaction.exec(insert("forbidden"));
      } else {
        transaction.exec_params("insert into " + table() + " values ($1)", "forbidden");
      }
    } catch (const std::exception&) {
      // As if nothing had happened.
    }
  };
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (message.payload == "3") {
      context.on_ack([&](pqxx::transaction_base& transaction) { swallow(transaction, "3"); });
    } else if (message.payload != "0") {
      swallow(context.transaction(), *message.payload);
    }
  });
  finish_batches(consumer);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 3U);
  for (const auto& reason : reasons) {
    EXPECT_THAT(*reason, AllOf(HasSubstr("went on after a statement of its transaction had failed"),
                               HasSubstr(PQXX_VERSION_MAJOR < 8 ? "violates check constraint" : "subtransaction")));
  }
}

// With libpqxx 6, further statements do not reach the server.
TEST_F(ConsumerTransactionTest, AnErrorAfterAnErrorThatWasSwallowedNamesTheFirst) {
  queue().config("max_retries", "0");
  publish("1");
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&, Context& context) {
    try {
      context.transaction().exec(insert("forbidden"));
    } catch (const std::exception&) {
      // As if nothing had happened.
    }
    context.transaction().exec(insert("a"));
  });
  finish_batches(consumer);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 1U);
  EXPECT_THAT(*reasons[0], HasSubstr(PQXX_VERSION_MAJOR < 7 ? "violates check constraint" : "had failed"));
}

TEST_F(ConsumerTransactionTest, AHandlerThatGoesOnInAFailedTransactionIsToldSo) {
  queue().config("max_retries", "0");
  publish("1");
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&, Context& context) {
    auto& transaction = context.transaction();
    try {
      transaction.exec_params("insert into " + table() + " values ($1)", "forbidden");
    } catch (const std::exception&) {
      // As if nothing had happened.
    }
    transaction.exec_params("select $1::int", 1);
  });
  finish_batches(consumer);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 1U);
  EXPECT_THAT(*reasons[0], HasSubstr("a statement before this one had failed, and the handler went on"));
}

TEST_F(ConsumerTransactionTest, AHandlersTransactionIsTheSameAtEachCall) {
  publish("1");
  bool same = false;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&, Context& context) { same = &context.transaction() == &context.transaction(); });
  finish_batches(consumer);
  EXPECT_TRUE(same);
}

TEST_F(ConsumerTransactionTest, HandlersCanUseSubtransactionsOfTheirOwn) {
  publish("1");
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&, Context& context) {
    auto& transaction = context.transaction();
    transaction.exec(insert("before"));
    {
      pqxx::subtransaction inner{transaction};
      EXPECT_THROW(inner.exec(insert("forbidden")), pqxx::check_violation);
    }
    pqxx::subtransaction inner{transaction};
    inner.exec(insert("inner"));
    inner.commit();
  });
  finish_batches(consumer);
  EXPECT_THAT(rows(), ElementsAre("before", "inner"));
  EXPECT_EQ(consumer.stats().failures, 0U);
}

TEST_F(ConsumerTransactionTest, MessagesSentInItCommitWithTheAck) {
  publish_numbers(2);
  Seen follow_ups;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    Transaction{context.transaction()}.send(queue(), *message.payload, "follow-up");
    Transaction{context.transaction()}.send_batch(queue(), "follow-up", {text(*message.payload + "a")});
    if (message.payload == "0") throw std::runtime_error{"no"};
  });
  consumer.on("follow-up", follow_ups.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  queue().tick();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 2; }));
  EXPECT_THAT(follow_ups.payloads(), ElementsAre("1", "1a"));
}

// At least once: another connection knows nothing of the batch's transaction.
TEST_F(ConsumerTransactionTest, MessagesSentThroughAnotherClientAreSentAtOnce) {
  publish_numbers(2);
  Client other{dsn(), client_options()};
  std::vector<EventId> sent;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    sent.push_back(other.send(queue(), *message.payload, "follow-up"));
    if (message.payload == "0") throw std::runtime_error{"no"};
  });
  Seen follow_ups;
  consumer.on("follow-up", follow_ups.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  queue().tick();
  ASSERT_TRUE(wait_batches(consumer, 2));
  EXPECT_THAT(follow_ups.payloads(), ElementsAre("0", "1"));
  EXPECT_EQ(follow_ups.ids(), sent);
}

class NoTransactionTest : public ConsumerTransactionTest,
                          public testing::WithParamInterface<std::pair<const char*, void (*)(ConsumerOptions&)>> {};

TEST_P(NoTransactionTest, AskingForATransactionIsALogicError) {
  auto with = options();
  GetParam().second(with);
  Consumer consumer{dsn(), with};
  std::atomic<int> refused{0};
  consumer.on("t", [&](const Message&, Context& context) {
    try {
      context.transaction();
    } catch (const std::logic_error& error) {
      EXPECT_THAT(error.what(), HasSubstr("split"));
      ++refused;
    }
  });
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  publish("1");
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(consumer.stats().messages, 1U);
}

INSTANTIATE_TEST_SUITE_P(ConsumerTransactionTest, NoTransactionTest,
                         testing::Values(std::pair{"Split",
                                                   +[](ConsumerOptions& o) { o.transaction = TransactionMode::split; }},
                                         std::pair{"Concurrent", +[](ConsumerOptions& o) { o.concurrency = 2; }},
                                         std::pair{"Cooperative",
                                                   +[](ConsumerOptions& o) {
                                                     o.name += "_group";
                                                     o.subconsumer = "w1";
                                                   }}),
                         [](const auto& instance) { return instance.param.first; });

TEST_F(ConsumerTransactionTest, SplitModeHasNoTransactionOpenWhileHandlersRun) {
  for (const bool paged : {false, true}) {
    publish_numbers(3);
    auto split = options(TransactionMode::split);
    if (paged) split.max_messages = 1;
    std::vector<std::string> states;
    std::vector<std::string> snapshots;
    Consumer consumer{watched_dsn(), split};
    consumer.on("t", [&](const Message&) {
      Sql other;
      states.push_back(other.value("select state" + watched()).value_or("none"));
      snapshots.push_back(other.value("select coalesce(backend_xid, backend_xmin)" + watched()).value_or("none"));
    });
    finish_batches(consumer);
    EXPECT_THAT(states, ElementsAre("idle", "idle", "idle"));
    EXPECT_THAT(snapshots, ElementsAre("none", "none", "none"));
  }
}

TEST_F(ConsumerTransactionTest, PerBatchModeHasOneOpen) {
  publish("1");
  Consumer consumer{watched_dsn(), options()};
  std::string state;
  consumer.on("t", [&](const Message&) { state = Sql{}.value("select state" + watched()).value_or("none"); });
  finish_batches(consumer);
  EXPECT_EQ(state, "idle in transaction");
}

TEST_F(ConsumerTransactionTest, SessionsAreNamedAfterTheLibrary) {
  publish("1");
  std::int64_t named = 0;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&) {
    named = Sql{}.number(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = "
        "'pgque consumer'");
  });
  finish_batches(consumer);
  EXPECT_EQ(named, 1);
}

class IdleInTransactionTest : public ConsumerTransactionTest {
 protected:
  // A role's DSN whose sessions the server ends when they are idle in a transaction for 50 ms.
  std::string impatient_dsn() {
    auto role_dsn = dsn_of_role_with({"pgque_reader"});
    sql()("alter role " + role_of(role_dsn) + " set idle_in_transaction_session_timeout = '50ms'");
    return role_dsn;
  }
  // Waits, at the database's clock, for longer than that.
  static void be_slow(const std::string& time = "150 ms") {
    Sql other;
    const auto begin = *other.value("select clock_timestamp()");
    EXPECT_TRUE(wait_until([&] {
      return other.value("select clock_timestamp() > timestamptz '" + begin + "' + interval '" + time + "'") == "t";
    }));
  }
};

TEST_F(IdleInTransactionTest, SlowHandlersOutliveTheServersLimitInBothModes) {
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    publish("1");
    Seen seen;
    Consumer consumer{impatient_dsn(), options(mode)};
    consumer.on("t", [&](const Message& message) {
      seen(message);
      be_slow();
    });
    finish_batches(consumer);
    EXPECT_EQ(seen.size(), 1U);
    EXPECT_EQ(consumer.stats().abandoned, 0U);
    EXPECT_EQ(consumer.stats().reconnects, 0U);
  }
}

// Between its statements a consumer's session is idle: while handlers run in split mode, and while it waits.
TEST_F(IdleInTransactionTest, TheServersLimitForIdleSessionsEndsNoConsumer) {
  const auto impatient = dsn_of_role_with({"pgque_reader"});
  // A busy machine may need some time between connecting and the first statement.
  sql()("alter role " + role_of(impatient) + " set idle_session_timeout = '500ms'");
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  auto cooperative = worker("w1");
  cooperative.dead_interval = 300ms;  // so its heartbeats are 100 ms apart
  auto listening = options(TransactionMode::per_batch);
  listening.pooled = true;
  listening.listen_dsn = impatient;
  for (const auto& with :
       {options(TransactionMode::per_batch), options(TransactionMode::split), cooperative, listening}) {
    Seen seen;
    Consumer consumer{with.pooled ? dsn() : impatient, with};
    consumer.on("t", [&](const Message& message) {
      seen(message);
      be_slow("700 ms");
    });
    Running running{consumer};
    const auto sent = publish("1");
    EXPECT_TRUE(wait_until([&] { return seen.size() >= 1 && seen.ids().back() == sent; }));
    EXPECT_TRUE(wait_state(consumer, ConsumerState::waiting));
    be_slow("700 ms");
    EXPECT_EQ(consumer.stats().abandoned, 0U);
    EXPECT_EQ(consumer.stats().reconnects, 0U);
    EXPECT_EQ(log.count(LogEvent::connection_lost), 0U);
  }
}

TEST_F(IdleInTransactionTest, TheOptionEndsTheSessionOfASlowHandlerAndTheBatchComesAgain) {
  publish("1");
  auto limited = options();
  limited.idle_in_transaction_timeout = 500ms;
  Seen seen;
  Consumer consumer{watched_dsn(), limited};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (seen.size() == 1) {
      Sql other;
      EXPECT_TRUE(
          wait_until([&] { return other.number("select count(*)" + watched() + "and state like 'idle in%'") == 0; }));
    }
  });
  finish_batches(consumer);
  // A busy machine may need more than the limit between two statements as well.
  EXPECT_GE(seen.size(), 2U);
  EXPECT_EQ(consumer.stats().abandoned, seen.size() - 1);
  EXPECT_GE(consumer.stats().reconnects, consumer.stats().abandoned);
}

TEST_F(ConsumerTransactionTest, StatementTimeoutLimitsHandlersStatements) {
  queue().config("max_retries", "0");
  publish("1");
  auto limited = options();
  limited.statement_timeout = 50ms;
  Consumer consumer{dsn(), limited};
  consumer.on("t", [&](const Message&, Context& context) { context.transaction().exec("select pg_sleep(60)"); });
  finish_batches(consumer);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 1U);
  EXPECT_THAT(*reasons[0], HasSubstr("statement timeout"));
}

}  // namespace
}  // namespace pgque::test
