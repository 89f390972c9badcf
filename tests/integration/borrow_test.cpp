// pqxx.hpp: a client over the caller's connection, and the connection of a client.

#include <stdexcept>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/pqxx.hpp>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;

class BorrowTest : public DatabaseTest {
 protected:
  PqxxConnection& connection() {
    if (!own_) own_.emplace(dsn());
    return own_->connection();
  }
  // The first column of the first row, asked on that connection.
  static std::string ask(PqxxConnection& connection, const std::string& statement) {
    pqxx::nontransaction tx{connection};
    return tx.exec(statement)[0][0].as<std::string>();
  }
  // Every verb once, as far as it goes.
  void call_every_verb(Operations& ops) {
    for (const auto& verb : verbs()) {
      try {
        verb.call(ops, queue().name(), consumer_name() + '_' + verb.name);
      } catch (const Error&) {  // no such batch, consumer and so on
      }
    }
  }

 private:
  std::optional<Sql> own_;
};

TEST_F(BorrowTest, CloseLeavesTheConnectionOpen) {
  auto client = borrow(connection());
  client.send(queue(), "1");
  client.close();
  EXPECT_FALSE(client.is_open());
  EXPECT_TRUE(connection().is_open());
  EXPECT_EQ(ask(connection(), "select 'alive'"), "alive");
  thrown<std::logic_error>([&] { client.send(queue(), "2"); });
  EXPECT_NO_THROW(borrow(connection()).send(queue(), "3"));
}

TEST_F(BorrowTest, DestroyingTheClientLeavesTheConnectionOpen) {
  { borrow(connection()).send(queue(), "1"); }
  {
    auto client = borrow(connection());
    auto tx = client.begin();
    tx.send(queue(), "2");
  }
  EXPECT_TRUE(connection().is_open());
  EXPECT_EQ(ask(connection(), "select 'alive'"), "alive");
}

TEST_F(BorrowTest, NothingIsPreparedAndNoSettingChanged) {
  const auto* settings =
      "select coalesce(string_agg(name || '=' || setting || '/' || source, ',' order by name), '') from pg_settings "
      "where source in ('session', 'client')";
  const auto before = ask(connection(), settings);
  auto client = borrow(connection());
  call_every_verb(client);
  {
    auto tx = client.begin();
    tx.send(queue(), "1");
    tx.send_batch(queue(), "t", {"2", text("3")});
    tx.commit();
  }
  EXPECT_EQ(ask(connection(), "select count(*) from pg_prepared_statements"), "0");
  EXPECT_EQ(ask(connection(), settings), before);
}

TEST_F(BorrowTest, BeginsTransactionsOnTheConnection) {
  auto client = borrow(connection());
  client.subscribe(queue(), consumer_name());
  { client.begin().send(queue(), "1"); }
  auto tx = client.begin();
  tx.send(queue(), "2");
  tx.commit();
  queue().tick();
  EXPECT_THAT(payloads_of(client.receive(queue(), consumer_name())), ElementsAre("2"));
}

TEST_F(BorrowTest, WhileTheCallersTransactionIsOpenEveryCallThrows) {
  auto client = borrow(connection());
  client.subscribe(queue(), consumer_name());
  {
    pqxx::work work{connection()};
    for (const auto& verb : verbs()) {
      EXPECT_EQ(class_thrown([&] { verb.call(client, queue().name(), "nobody"); }), "std::logic_error") << verb.name;
    }
    thrown<std::logic_error>([&] { client.begin(); });
    Transaction{work}.send(queue(), "1");
    work.commit();
  }
  client.send(queue(), "2");
  queue().tick();
  EXPECT_THAT(payloads_of(client.receive(queue(), consumer_name())), ElementsAre("1", "2"));
}

TEST_F(BorrowTest, AConnectionThatDoesNotSpeakUtf8IsRefused) {
  Sql latin1{dsn_with({{"client_encoding", "LATIN1"}})};
  EXPECT_STREQ(thrown<std::invalid_argument>([&] { borrow(latin1.connection()); }).what(),
               "connection: its client_encoding is LATIN1, must be UTF8");
}

TEST_F(BorrowTest, NativeIsTheBorrowedConnection) {
  auto client = borrow(connection());
  EXPECT_EQ(&native(client), &connection());
}

TEST_F(BorrowTest, NativeRunsStatementsBetweenCalls) {
  Client client{dsn(), client_options()};
  client.subscribe(queue(), consumer_name());
  client.send(queue(), "1");
  EXPECT_EQ(ask(native(client), "select 42"), "42");
  client.send(queue(), "2");
  {
    pqxx::work work{native(client)};
    Transaction{work}.send(queue(), "3");
    work.commit();
  }
  client.send(queue(), "4");
  queue().tick();
  EXPECT_THAT(payloads_of(client.receive(queue(), consumer_name())), ElementsAre("1", "2", "3", "4"));
}

TEST_F(BorrowTest, NativeOfAClosedOrMovedFromClientThrows) {
  Client first{dsn(), client_options()};
  Client second{std::move(first)};
  thrown<std::logic_error>([&] { native(first); });  // NOLINT(bugprone-use-after-move)
  EXPECT_TRUE(native(second).is_open());
  second.close();
  thrown<std::logic_error>([&] { native(second); });
}

TEST_F(BorrowTest, PreparedStatementsAreUsedUnlessSwitchedOff) {
  Client preparing{dsn(), client_options()};
  call_every_verb(preparing);
  EXPECT_GE(std::stoi(ask(native(preparing), "select count(*) from pg_prepared_statements")), 15);
  ClientOptions options;
  options.pooled = true;
  Client plain{dsn(), options};
  call_every_verb(plain);
  EXPECT_EQ(ask(native(plain), "select count(*) from pg_prepared_statements"), "0");
}

TEST_F(BorrowTest, DiscardAllDoesNotBreakLaterCalls) {
  Client client{dsn(), client_options()};
  client.subscribe(queue(), consumer_name());
  for (const auto* payload : {"1", "2", "3"}) {
    client.send(queue(), payload);
    client.send_batch(queue(), "t", {payload});
    pqxx::nontransaction{native(client)}.exec("discard all");
  }
  queue().tick();
  EXPECT_THAT(payloads_of(client.receive(queue(), consumer_name())), ElementsAre("1", "1", "2", "2", "3", "3"));
}

// A transaction cannot go on after an error, but this error is retryable, and the next transaction prepares the
// statement again.
TEST_F(BorrowTest, ATransactionAfterDiscardAllFailsRetryablyAndTheNextOneWorks) {
  Client client{dsn(), client_options()};
  client.subscribe(queue(), consumer_name());
  client.send(queue(), "1");
  pqxx::nontransaction{native(client)}.exec("discard all");
  {
    auto tx = client.begin();
    const auto error = thrown<Error>([&] { tx.send(queue(), "2"); });
    EXPECT_EQ(error.sqlstate(), "26000");
    EXPECT_TRUE(error.retryable());
  }
  auto tx = client.begin();
  tx.send(queue(), "3");
  tx.commit();
  queue().tick();
  EXPECT_THAT(payloads_of(client.receive(queue(), consumer_name())), ElementsAre("1", "3"));
}

}  // namespace
}  // namespace pgque::test
