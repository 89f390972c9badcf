// Which failure leads to which error.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages.hpp"
#include "support.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

class TransactionNotFoundTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (!IsSkipped()) Client{dsn(), client_options()}.subscribe(queue(), consumer_name());
  }
};

class NotFoundTest : public WayTest {
 protected:
  const std::string nowhere = unique_name("nowhere");
};
INSTANTIATE_TEST_SUITE_P(By, NotFoundTest, testing::ValuesIn(every_way), way_name);

TEST_P(NotFoundTest, AQueueThatDoesNotExistHasItsErrorInEveryVerb) {
  for (const auto& verb : verbs()) {
    EXPECT_EQ(class_thrown([&] { call([&](Operations& ops) { verb.call(ops, nowhere, "c"); }); }), verb.unknown_queue)
        << verb.name;
  }
}

TEST_P(NotFoundTest, AConsumerThatDoesNotExistHasItsErrorInEveryVerb) {
  for (const auto& verb : verbs()) {
    const auto consumer = consumer_name() + '_' + verb.name;
    EXPECT_EQ(class_thrown([&] { call([&](Operations& ops) { verb.call(ops, queue(), consumer); }); }),
              verb.unknown_consumer)
        << verb.name;
  }
}

TEST_P(NotFoundTest, TheErrorCarriesTheFacts) {
  const auto send_error = thrown<QueueNotFound>([&] { call([&](Operations& ops) { return ops.send(nowhere, "1"); }); });
  EXPECT_EQ(send_error.operation(), "send (queue \"" + nowhere + "\")");
  EXPECT_EQ(send_error.server_message(), "queue not found: " + nowhere);
  EXPECT_EQ(send_error.sqlstate(), "P0001");
  EXPECT_FALSE(send_error.retryable());
  EXPECT_FALSE(send_error.outcome_unknown());
  EXPECT_THAT(send_error.what(),
              StartsWith("send (queue \"" + nowhere + "\"): queue not found: " + nowhere +
                         " [SQLSTATE P0001]: create it: select pgque.create_queue('" + nowhere + "')"));

  const auto server_message = [&](const auto& run) {
    return thrown<QueueNotFound>([&] { call(run); }).server_message();
  };
  EXPECT_EQ(server_message([&](Operations& ops) { ops.send_batch(nowhere, "t", {"1"}); }),
            "queue not found: " + nowhere);
  EXPECT_EQ(server_message([&](Operations& ops) { ops.subscribe(nowhere, "c"); }), "Event queue not created yet");
  EXPECT_EQ(server_message([&](Operations& ops) { ops.receive_coop(nowhere, "c", "w"); }),
            "Event queue not created yet");
  EXPECT_EQ(server_message([&](Operations& ops) { ops.ticker(nowhere); }), "no such queue");
  EXPECT_EQ(server_message([&](Operations& ops) { ops.force_next_tick(nowhere); }), "queue not found: " + nowhere);

  const auto receive_error =
      thrown<ConsumerNotFound>([&] { call([&](Operations& ops) { return ops.receive(queue(), "nobody"); }); });
  EXPECT_EQ(receive_error.operation(), "receive (queue \"" + queue().name() + "\", consumer \"nobody\")");
  EXPECT_EQ(receive_error.server_message(), "Not subscriber to queue: " + queue().name() + "/nobody");
  EXPECT_THAT(receive_error.what(), HasSubstr("subscribe()"));
}

// In a transaction, which has failed, nothing can be asked.
TEST_P(NotFoundTest, OutsideATransactionTheErrorNamesTheNearestQueue) {
  const TestQueue existing{sql(), "nearest_to_it"};
  auto misspelled = existing.name();
  std::swap(misspelled[1], misspelled[2]);
  const auto may_ask =
      GetParam() == Way::client || GetParam() == Way::client_unprepared || GetParam() == Way::client_borrowed;
  const auto create = ": create it: select pgque.create_queue('" + misspelled + "')";
  const auto advice = may_ask ? create + "; the nearest existing name is \"" + existing.name() + '"' : create;
  const std::vector<std::function<void(Operations&)>> calls{
      [&](Operations& ops) { ops.send(misspelled, "1"); },
      [&](Operations& ops) {
        ops.send(misspelled, Event{"1", "t", "key"});
      },
      [&](Operations& ops) {
        ops.send_batch(misspelled, "t", {"1", text("2")});
      },
      [&](Operations& ops) {
        ops.send_batch(misspelled, {{"1", "t", "key"}, {"2", "u"}});
      },
      [&](Operations& ops) { ops.subscribe(misspelled, "c"); },
  };
  for (const auto& run : calls) {
    EXPECT_THAT(thrown<QueueNotFound>([&] { call(run); }).what(), testing::EndsWith(advice));
  }
  EXPECT_NO_THROW(send("1"));  // what was asked has left nothing behind
}

TEST_F(TransactionNotFoundTest, TheCallersSavepointEndsAMissingQueueAndTheTransactionGoesOn) {
  pqxx::work work{sql().connection()};
  Transaction{work}.send(queue(), "1");
  {
    pqxx::subtransaction savepoint{work};
    EXPECT_THROW(Transaction{savepoint}.send(unique_name("nowhere"), "2"), QueueNotFound);
  }
  Transaction{work}.send(queue(), "3");
  work.commit();
  queue().tick();
  Client client{dsn(), client_options()};
  EXPECT_THAT(payloads_of(client.receive(queue(), consumer_name())), testing::ElementsAre("1", "3"));
}

TEST_P(NotFoundTest, AnyOtherRefusalIsAPlainErrorInTheServersWords) {
  sql()("update pgque.queue set queue_disable_insert = true where queue_name = " + sql().quote(queue().name()));
  const auto error = thrown<Error>([&] { send("1"); });
  EXPECT_EQ(error.server_message(), "Insert into queue disallowed");
  EXPECT_EQ(error.sqlstate(), "P0001");
  EXPECT_FALSE(error.retryable());
}

class GrantTest : public DatabaseTest {
 protected:
  static std::vector<Verb> verbs_of(const std::string& role) {
    std::vector<Verb> found;
    for (const auto& verb : verbs()) {
      if (verb.role == role) found.push_back(verb);
    }
    return found;
  }
  // That no verb of the role works for one who has been granted these only, and that the error names the role.
  void expect_refused(const std::string& role, const std::vector<std::string>& granted) {
    Client client{dsn_of_role_with(granted), client_options()};
    for (const auto& verb : verbs_of(role)) {
      SCOPED_TRACE(verb.name);
      const auto error = thrown<Error>([&] { verb.call(client, queue(), consumer_name()); });
      EXPECT_EQ(error.sqlstate(), "42501");
      EXPECT_THAT(error.server_message(), HasSubstr("permission denied"));
      EXPECT_THAT(error.what(), HasSubstr("grant the role " + role + " to"));
      EXPECT_FALSE(error.retryable());
    }
  }
};

TEST_F(GrantTest, IsNamedByEveryVerbWhereThereIsNone) {
  for (const auto* role : {"pgque_writer", "pgque_reader", "pgque_admin"}) expect_refused(role, {});
}

TEST_F(GrantTest, IsNamedByEveryVerbWhereThereAreOnlyOthers) {
  expect_refused("pgque_writer", {"pgque_reader"});
  expect_refused("pgque_reader", {"pgque_writer"});
  expect_refused("pgque_admin", {"pgque_reader", "pgque_writer"});
}

TEST_F(GrantTest, AloneIsEnoughForEveryVerb) {
  for (const std::string role : {"pgque_writer", "pgque_reader", "pgque_admin"}) {
    Client client{dsn_of_role_with({role}), client_options()};
    for (const auto& verb : verbs_of(role)) {
      EXPECT_EQ(class_thrown([&] { verb.call(client, queue(), consumer_name() + verb.name); }), verb.unknown_consumer)
          << verb.name;
    }
  }
}

// A separate database without PgQue.
class NotInstalledTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    name_ = unique_name("pgque_test_empty");
    sql()("create database " + name_ + " template template0");
  }
  void TearDown() override {
    if (!name_.empty()) sql()("drop database " + name_ + " with (force)");
    DatabaseTest::TearDown();
  }
  std::string dsn_of_empty_database() const { return dsn_with({{"dbname", name_}}); }

 private:
  std::string name_;
};

TEST_F(NotInstalledTest, EveryVerbSaysSo) {
  ClientOptions unprepared;
  unprepared.pooled = true;
  for (const auto& options : {ClientOptions{}, unprepared}) {
    Client client{dsn_of_empty_database(), options};
    for (const auto& verb : verbs()) {
      const auto error = thrown<Error>([&] { verb.call(client, "orders", "c"); });
      EXPECT_THAT(error.what(), HasSubstr("PgQue is not installed in this database")) << verb.name;
      EXPECT_FALSE(error.retryable()) << verb.name;
    }
    EXPECT_TRUE(client.is_open());
  }
}

TEST_F(NotInstalledTest, ACallersTransactionSaysSo) {
  Sql own{dsn_of_empty_database()};
  for (const auto& verb : verbs()) {
    pqxx::work work{own.connection()};
    Transaction tx{work};
    EXPECT_THAT(thrown<Error>([&] { verb.call(tx, "orders", "c"); }).what(),
                HasSubstr("PgQue is not installed in this database"))
        << verb.name;
  }
}

class ServerStateTest : public WayTest {};
INSTANTIATE_TEST_SUITE_P(By, ServerStateTest, testing::ValuesIn(main_ways), way_name);

TEST_P(ServerStateTest, AReadOnlyServerIsSaidToBe) {
  use_dsn(dsn_of_role_set({{"default_transaction_read_only", "on"}}));
  for (const auto& run :
       std::vector<std::function<void()>>{[&] { send("1"); }, [&] { send_batch({"1"}); }, [&] { subscribe(); }}) {
    const auto error = thrown<Error>(run);
    EXPECT_EQ(error.sqlstate(), "25006");
    EXPECT_THAT(error.what(), HasSubstr("the server is read-only: connect to the primary"));
    EXPECT_FALSE(error.retryable());
  }
}

// Another session is receiving for the same consumer.
TEST_P(ServerStateTest, TimeoutsOfBlockedCallsAreRetryable) {
  Client other{dsn(), client_options()};
  other.subscribe(queue(), consumer_name());
  auto blocking = other.begin();
  blocking.receive(queue(), consumer_name());

  use_dsn(dsn_of_role_set({{"lock_timeout", "'50ms'"}, {"statement_timeout", "'20s'"}}));
  const auto error = thrown<Error>([&] { receive(); });
  EXPECT_EQ(error.sqlstate(), "55P03");
  EXPECT_TRUE(error.retryable());
  EXPECT_FALSE(error.outcome_unknown());
  blocking.rollback();
  EXPECT_THAT(receive(), IsEmpty());
}

TEST_P(ServerStateTest, AStatementTimeoutIsRetryable) {
  Client other{dsn(), client_options()};
  other.subscribe(queue(), consumer_name());
  auto blocking = other.begin();
  blocking.receive(queue(), consumer_name());

  use_dsn(dsn_of_role_set({{"statement_timeout", "'50ms'"}}));
  const auto error = thrown<Error>([&] { receive(); });
  EXPECT_EQ(error.sqlstate(), "57014");
  EXPECT_TRUE(error.retryable());
}

using SerializationTest = DatabaseTest;

TEST_F(SerializationTest, AFailureIsRetryable) {
  Client other{dsn(), client_options()};
  other.subscribe(queue(), consumer_name());
  other.send(queue(), "1");
  queue().tick();
  Sql own;
  pqxx::work work{own.connection()};
  work.exec("set transaction isolation level repeatable read");
  work.exec("select count(*) from pgque.queue");  // takes the snapshot
  ASSERT_THAT(other.receive(queue(), consumer_name()), SizeIs(1));
  const auto error = thrown<Error>([&] { Transaction{work}.receive(queue(), consumer_name()); });
  EXPECT_EQ(error.sqlstate(), "40001");
  EXPECT_TRUE(error.retryable());
}

}  // namespace
}  // namespace pgque::test
