// Several calls, one commit: transactions from begin(), and inside the caller's own.

#include <chrono>
#include <stdexcept>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

#include "messages.hpp"
#include "support.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using std::chrono::seconds;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class TransactionTest : public DatabaseTest {
 protected:
  Client& client() {
    if (!client_) client_.emplace(dsn(), client_options());
    return *client_;
  }
  void subscribe() { observer().subscribe(queue(), consumer_name()); }
  // What became visible, seen by another session. Acked.
  std::vector<Message> delivered() {
    queue().tick();
    auto messages = observer().receive(queue(), consumer_name());
    if (!messages.empty()) observer().ack(messages[0].batch_id);
    return messages;
  }
  void expect_every_verb_throws_logic_error(Operations& ops) {
    for (const auto& verb : verbs()) {
      EXPECT_EQ(class_thrown([&] { verb.call(ops, queue().name(), "nobody"); }), "std::logic_error") << verb.name;
    }
    // Which would not get as far as the server.
    EXPECT_EQ(class_thrown([&] { ops.send_batch(queue(), "t", {}); }), "std::logic_error");
    EXPECT_EQ(sql().number("select count(*) from pgque.get_consumer_info(" + sql().quote(queue().name()) +
                           ") where consumer_name like 'nobody%'"),
              0);
  }

 private:
  Client& observer() {
    if (!observer_) observer_.emplace(dsn(), client_options());
    return *observer_;
  }

  std::optional<Client> client_;
  std::optional<Client> observer_;
};

TEST_F(TransactionTest, StoresAllOrNothing) {
  TestQueue other{sql(), "other"};
  subscribe();
  {
    auto tx = client().begin();
    tx.send(queue(), "1");
    tx.send(other, "1");
    EXPECT_THAT(delivered(), IsEmpty());
    tx.commit();
  }
  EXPECT_THAT(delivered(), SizeIs(1));
  {
    auto tx = client().begin();
    tx.send(queue(), "2");
    EXPECT_THROW(tx.send(unique_name("none"), "2"), QueueNotFound);
  }
  EXPECT_THAT(delivered(), IsEmpty());
}

TEST_F(TransactionTest, IsRolledBackWhenDestroyed) {
  subscribe();
  {
    auto tx = client().begin();
    tx.send(queue(), "1");
    tx.send_batch(queue(), "t", {"2", text("3")});
  }
  EXPECT_THAT(delivered(), IsEmpty());
  client().send(queue(), "4");
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("4"));
}

TEST_F(TransactionTest, IsRolledBackWhenAnExceptionLeavesItsScope) {
  subscribe();
  EXPECT_THROW(
      {
        auto tx = client().begin();
        tx.send(queue(), "1");
        throw std::runtime_error{"out of here"};
      },
      std::runtime_error);
  EXPECT_THAT(delivered(), IsEmpty());
}

TEST_F(TransactionTest, RollbackUndoesEverythingAndFreesTheClient) {
  subscribe();
  auto tx = client().begin();
  tx.send(queue(), "1");
  tx.rollback();
  client().send(queue(), "2");
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("2"));
}

TEST_F(TransactionTest, AfterCommitEveryCallThrows) {
  subscribe();
  auto tx = client().begin();
  tx.send(queue(), "1");
  tx.commit();
  expect_every_verb_throws_logic_error(tx);
  EXPECT_STREQ(thrown<std::logic_error>([&] { tx.send(queue(), "2"); }).what(),
               ("send (queue \"" + queue().name() + "\"): the transaction is finished").c_str());
  thrown<std::logic_error>([&] { tx.commit(); });
  EXPECT_NO_THROW(tx.rollback());
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1"));
}

TEST_F(TransactionTest, AfterRollbackEveryCallThrows) {
  subscribe();
  auto tx = client().begin();
  tx.rollback();
  expect_every_verb_throws_logic_error(tx);
  thrown<std::logic_error>([&] { tx.commit(); });
  EXPECT_NO_THROW(tx.rollback());
  EXPECT_THAT(delivered(), IsEmpty());
}

TEST_F(TransactionTest, AfterAnErrorEveryCallAndTheCommitThrow) {
  subscribe();
  auto tx = client().begin();
  tx.send(queue(), "1");
  EXPECT_THROW(tx.send("no such queue", "2"), QueueNotFound);
  expect_every_verb_throws_logic_error(tx);
  EXPECT_THAT(thrown<std::logic_error>([&] { tx.send(queue(), "3"); }).what(),
              HasSubstr("send (queue \"no such queue\")"));  // where it failed
  thrown<std::logic_error>([&] { tx.commit(); });
  EXPECT_NO_THROW(tx.rollback());
  client().send(queue(), "4");
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("4"));
}

TEST_F(TransactionTest, AWrongArgumentDoesNotEndIt) {
  subscribe();
  auto tx = client().begin();
  tx.send(queue(), "1");
  EXPECT_THROW(tx.send("", "2"), std::invalid_argument);
  EXPECT_THROW(tx.send(queue(), text("\xFF")), std::invalid_argument);
  EXPECT_THROW(tx.send_batch(queue(), "t", {text("\xFF")}), std::invalid_argument);
  EXPECT_THROW(tx.receive(queue(), "c", 0), std::invalid_argument);
  EXPECT_THROW(tx.nack(no_batch, no_event, NackOptions{seconds{-1}}), std::invalid_argument);
  tx.send(queue(), "3");
  tx.commit();
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1", "3"));
}

TEST_F(TransactionTest, TheClientCannotBeUsedMeanwhile) {
  auto tx = client().begin();
  expect_every_verb_throws_logic_error(client());
  EXPECT_THAT(thrown<std::logic_error>([&] { client().begin(); }).what(),
              HasSubstr("a transaction from begin() is open"));
  EXPECT_TRUE(client().is_open());
  tx.send(queue(), "1");
  tx.commit();
  EXPECT_NO_THROW(client().send(queue(), "2"));
  EXPECT_NO_THROW(client().begin());
}

TEST_F(TransactionTest, ClosingTheClientRollsItBack) {
  subscribe();
  auto tx = client().begin();
  tx.send(queue(), "1");
  client().close();
  expect_every_verb_throws_logic_error(tx);
  thrown<std::logic_error>([&] { tx.commit(); });
  EXPECT_NO_THROW(tx.rollback());
  EXPECT_THAT(delivered(), IsEmpty());
}

TEST_F(TransactionTest, GoesOnWhenTheClientIsMoved) {
  subscribe();
  Client first{dsn(), client_options()};
  auto tx = first.begin();
  tx.send(queue(), "1");
  Client second{std::move(first)};
  thrown<std::logic_error>([&] { second.send(queue(), "x"); });
  tx.send(queue(), "2");
  tx.commit();
  second.send(queue(), "3");
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1", "2", "3"));
}

TEST_F(TransactionTest, CanBeMoved) {
  subscribe();
  auto first = client().begin();
  first.send(queue(), "1");
  auto second = std::move(first);
  expect_every_verb_throws_logic_error(first);  // NOLINT(bugprone-use-after-move)
  thrown<std::logic_error>([&] { first.commit(); });
  thrown<std::logic_error>([&] { first.rollback(); });
  second.send(queue(), "2");
  second.commit();
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1", "2"));
}

TEST_F(TransactionTest, IsRolledBackWhenAnotherIsAssignedToIt) {
  subscribe();
  Client another{dsn(), client_options()};
  auto tx = client().begin();
  tx.send(queue(), "1");
  tx = another.begin();
  tx.send(queue(), "2");
  client().send(queue(), "3");  // which is free again
  tx.commit();
  EXPECT_THAT(payloads_of(delivered()), testing::UnorderedElementsAre("2", "3"));
}

TEST_F(TransactionTest, AReceiveThatIsRolledBackGivesTheMessagesAgainUnderAnotherBatchId) {
  client().subscribe(queue(), consumer_name());
  client().send(queue(), "1");
  queue().tick();
  std::vector<Message> first;
  {
    auto tx = client().begin();
    first = tx.receive(queue(), consumer_name());
    ASSERT_THAT(first, SizeIs(1));
    EXPECT_TRUE(tx.ack(first[0].batch_id));
  }
  EXPECT_FALSE(client().ack(first[0].batch_id));
  const auto second = client().receive(queue(), consumer_name());
  ASSERT_EQ(ids_of(second), ids_of(first));
  EXPECT_NE(second[0].batch_id, first[0].batch_id);
}

// The ways that put several calls into one transaction.
class OneTransactionTest : public WayTest {
 protected:
  // Rises when a transaction ends whose id is higher than those of all that ended before.
  std::int64_t end_of_snapshots() {
    return sql().number("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
  }
};
INSTANTIATE_TEST_SUITE_P(By, OneTransactionTest,
                         testing::Values(Way::transaction, Way::callers_work, Way::callers_subtransaction), way_name);

TEST_P(OneTransactionTest, SendingTickingAndReceivingDeliversNothingButTheNextTickDoes) {
  subscribe();
  // When another transaction ends meanwhile, autovacuum's for example, it is as in the next test.
  bool alone = false;
  EXPECT_TRUE(wait_until([&] {
    EventId id{};
    const auto collapsed = call([&](Operations& ops) {
      const auto end = end_of_snapshots();
      id = ops.send(queue(), R"({"lost": false})");
      ops.force_next_tick(queue());
      EXPECT_TRUE(ops.ticker(queue()));
      auto received = ops.receive(queue(), consumer_name());
      alone = end_of_snapshots() == end;
      return received;
    });
    if (alone) {
      EXPECT_THAT(collapsed, IsEmpty());
    }
    EXPECT_THAT(ids_of(deliver()), ElementsAre(id));
    return alone;
  }));
}

// A snapshot does not list the transaction that takes it, which therefore counts as ended if a later one has.
TEST_P(OneTransactionTest, IfALaterTransactionEndsMeanwhileWhatItSendsArrivesInItAndNotAgain) {
  subscribe();
  EventId id{};
  const auto received = call([&](Operations& ops) {
    id = ops.send(queue(), "1");
    sql()("select pg_current_xact_id()");
    ops.force_next_tick(queue());
    EXPECT_TRUE(ops.ticker(queue()));
    auto messages = ops.receive(queue(), consumer_name());
    if (!messages.empty()) ops.ack(messages[0].batch_id);
    return messages;
  });
  EXPECT_THAT(ids_of(received), ElementsAre(id));
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(OneTransactionTest, TickingReceivingAndAckingWorksForWhatWasCommittedBefore) {
  subscribe();
  const auto id = send("1");
  const auto messages = call([&](Operations& ops) {
    ops.force_next_tick(queue());
    ops.ticker(queue());
    auto received = ops.receive(queue(), consumer_name());
    EXPECT_TRUE(ops.ack(received.at(0).batch_id));
    return received;
  });
  EXPECT_THAT(ids_of(messages), ElementsAre(id));
  EXPECT_THAT(receive(), IsEmpty());
}

TEST_P(OneTransactionTest, SeveralBatchesCanBeReceivedAndAcked) {
  subscribe();
  std::vector<EventId> sent;
  for (const auto* payload : {"1", "2", "3"}) {
    sent.push_back(send(payload));
    queue().tick();
  }
  std::vector<EventId> received;
  call([&](Operations& ops) {
    for (int i = 0; i < 3; ++i) {
      const auto messages = ops.receive(queue(), consumer_name());
      received.push_back(messages.at(0).msg_id);
      ops.ack(messages[0].batch_id);
    }
  });
  EXPECT_EQ(received, sent);
  EXPECT_THAT(receive(), IsEmpty());
}

// Inside the caller's own transaction.
class CallersTransactionTest : public TransactionTest {
 protected:
  pqxx::connection& connection() {
    if (!connection_) connection_.emplace(dsn());
    return connection_->connection();
  }

 private:
  std::optional<Sql> connection_;
};

// The transactional outbox.
class OutboxTest : public CallersTransactionTest {
 protected:
  void SetUp() override {
    CallersTransactionTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    table_ = unique_name("pgque_test_orders");
    sql()("create table " + table_ + " (id int8 primary key)");
  }
  void TearDown() override {
    if (!table_.empty()) sql()("drop table " + table_);
    CallersTransactionTest::TearDown();
  }
  void write_row_and_send(pqxx::transaction_base& work) {
    work.exec("insert into " + table_ + " values (46)");
    Transaction{work}.send(queue(), nlohmann::json{{"order_id", 46}}, "order.created");
    Transaction{work}.send_batch(queue(), "order.line", {nlohmann::json{{"line", 1}}, R"({"line": 2})"});
  }
  std::int64_t rows() { return sql().number("select count(*) from " + table_); }

 private:
  std::string table_;
};

TEST_F(OutboxTest, TheRowAndTheEventsAreCommittedTogether) {
  subscribe();
  pqxx::work work{connection()};
  write_row_and_send(work);
  EXPECT_THAT(delivered(), IsEmpty());
  EXPECT_EQ(rows(), 0);
  work.commit();
  EXPECT_EQ(rows(), 1);
  EXPECT_THAT(payloads_of(delivered()), ElementsAre(R"({"order_id":46})", R"({"line":1})", R"({"line": 2})"));
}

TEST_F(OutboxTest, TheRowAndTheEventsVanishTogether) {
  subscribe();
  {
    pqxx::work work{connection()};
    write_row_and_send(work);
    work.abort();
  }
  {
    pqxx::work work{connection()};
    write_row_and_send(work);
  }
  EXPECT_EQ(rows(), 0);
  EXPECT_THAT(delivered(), IsEmpty());
}

TEST_F(OutboxTest, AFailedSendTakesTheRowWithIt) {
  subscribe();
  pqxx::work work{connection()};
  write_row_and_send(work);
  EXPECT_THROW(Transaction{work}.send(unique_name("none"), "1"), QueueNotFound);
  // Either libpqxx knows already that the transaction has failed, or the server says so.
  EXPECT_THAT(class_thrown([&] { Transaction{work}.send(queue(), "2"); }), AnyOf("std::logic_error", "Error"));
  EXPECT_THAT(class_thrown([&] { Transaction{work}.send_batch(queue(), "t", {"2"}); }),
              AnyOf("std::logic_error", "Error"));
  work.abort();
  EXPECT_EQ(rows(), 0);
  EXPECT_THAT(delivered(), IsEmpty());
}

TEST_F(OutboxTest, ASavepointKeepsTheRestWhenASendFails) {
  subscribe();
  pqxx::work work{connection()};
  write_row_and_send(work);
  {
    pqxx::subtransaction savepoint{work};
    Transaction tx{savepoint};
    tx.send(queue(), R"("in the savepoint")");
    tx.send_batch(queue(), "t", {R"("in the savepoint")"});
    EXPECT_THROW(tx.send(unique_name("none"), "1"), QueueNotFound);
    savepoint.abort();
  }
  work.commit();
  EXPECT_EQ(rows(), 1);
  EXPECT_THAT(delivered(), SizeIs(3));
}

TEST_F(CallersTransactionTest, ASubtransactionThatIsAbortedTakesItsCallsWithItAndNoOthers) {
  subscribe();
  pqxx::work work{connection()};
  Transaction{work}.send(queue(), "1");
  {
    pqxx::subtransaction first_call_is_an_array{work};
    Transaction{first_call_is_an_array}.send_batch(queue(), "t", {"2", "3"});
    first_call_is_an_array.abort();
  }
  {
    pqxx::subtransaction first_call_is_a_send{work};
    Transaction{first_call_is_a_send}.send(queue(), "4");
    first_call_is_a_send.abort();
  }
  {
    pqxx::subtransaction destroyed{work};
    Transaction{destroyed}.send(queue(), "5");
  }
  {
    pqxx::subtransaction committed{work};
    Transaction{committed}.send(queue(), "6");
    committed.commit();
  }
  Transaction{work}.send(queue(), "7");
  work.commit();
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1", "6", "7"));
}

// Without a check, libpqxx would run these calls in autocommit mode.
TEST_F(CallersTransactionTest, AfterTheCallersCommitEveryCallThrowsAndStoresNothing) {
  subscribe();
  pqxx::work work{connection()};
  Transaction tx{work};
  tx.send(queue(), "1");
  work.commit();
  expect_every_verb_throws_logic_error(tx);
  expect_every_verb_throws_logic_error(tx);  // being refused once does not open it again
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1"));
}

TEST_F(CallersTransactionTest, AfterTheCallersAbortEveryCallThrowsAndStoresNothing) {
  subscribe();
  pqxx::work work{connection()};
  Transaction tx{work};
  tx.send(queue(), "1");
  work.abort();
  expect_every_verb_throws_logic_error(tx);
  EXPECT_THAT(delivered(), IsEmpty());
}

TEST_F(CallersTransactionTest, AfterTheCallersSubtransactionEndedEveryCallThrowsAndStoresNothing) {
  subscribe();
  pqxx::work work{connection()};
  pqxx::subtransaction savepoint{work};
  Transaction tx{savepoint};
  tx.send(queue(), "1");
  savepoint.commit();
  expect_every_verb_throws_logic_error(tx);
  work.commit();
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1"));
}

TEST_F(CallersTransactionTest, AfterTheCallersCommitABatchIsNotAckedOrNacked) {
  Client client{dsn(), client_options()};
  client.subscribe(queue(), consumer_name());
  client.send(queue(), "1");
  queue().tick();
  const auto messages = client.receive(queue(), consumer_name());
  ASSERT_THAT(messages, SizeIs(1));
  pqxx::work work{connection()};
  Transaction tx{work};
  work.commit();
  thrown<std::logic_error>([&] { tx.nack(messages[0]); });
  thrown<std::logic_error>([&] { tx.ack(messages[0].batch_id); });
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_TRUE(client.ack(messages[0].batch_id));
}

TEST_F(CallersTransactionTest, OnANontransactionEveryCallIsCommittedAtOnce) {
  subscribe();
  pqxx::nontransaction autocommit{connection()};
  Transaction tx{autocommit};
  tx.send(queue(), "1");
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1"));
  EXPECT_THROW(tx.send(unique_name("none"), "2"), QueueNotFound);
  tx.send_batch(queue(), "t", {"3"});
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("3"));
}

TEST_F(CallersTransactionTest, CannotBeEndedHere) {
  subscribe();
  pqxx::work work{connection()};
  Transaction tx{work};
  tx.send(queue(), "1");
  thrown<std::logic_error>([&] { tx.commit(); });
  thrown<std::logic_error>([&] { tx.rollback(); });
  tx.send(queue(), "2");
  work.commit();
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1", "2"));
}

TEST_F(CallersTransactionTest, DestroyingTheTransactionObjectDoesNotEndTheCallers) {
  subscribe();
  pqxx::work work{connection()};
  { Transaction{work}.send(queue(), "1"); }
  Transaction{work}.send(queue(), "2");
  work.commit();
  EXPECT_THAT(payloads_of(delivered()), ElementsAre("1", "2"));
}

TEST_F(CallersTransactionTest, AConnectionThatDoesNotSpeakUtf8IsRefused) {
  Sql latin1{dsn_with({{"client_encoding", "LATIN1"}})};
  pqxx::work work{latin1.connection()};
  EXPECT_STREQ(thrown<std::invalid_argument>([&] { Transaction{work}; }).what(),
               "transaction: its connection's client_encoding is LATIN1, must be UTF8");
}

}  // namespace
}  // namespace pgque::test
