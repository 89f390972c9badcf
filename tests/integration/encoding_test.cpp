// Databases with another encoding than UTF8.

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/consumer.hpp>
#include <pgque/doctor.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

// A database beside the one of the tests, with PgQue: that of PGQUE_SQL, or the stand-in. Its file is sent as it is:
// the server takes it for text in its own encoding.
class OtherDatabase {
 public:
  explicit OtherDatabase(const std::string& encoding) {
    const char* const file = std::getenv("PGQUE_SQL");
    const std::string path{file ? file : PGQUE_TEST_STANDIN};
    std::ifstream in{path};
    if (!in) throw std::runtime_error{"PGQUE_SQL: cannot read " + path};
    std::ostringstream script;
    script << in.rdbuf();
    Sql{}("create database " + name_ + " encoding '" + encoding + "' template template0 lc_collate 'C' lc_ctype 'C'");
    Sql{direct_dsn({{"client_encoding", encoding}})}(script.str());
  }
  OtherDatabase(const OtherDatabase&) = delete;
  OtherDatabase& operator=(const OtherDatabase&) = delete;
  ~OtherDatabase() { Sql{}("drop database " + name_ + " with (force)"); }

  std::string dsn() const { return dsn_with({{"dbname", name_}}); }
  std::string direct_dsn(const std::vector<std::pair<std::string, std::string>>& settings = {}) const {
    return dsn_with(settings, dsn_with({{"dbname", name_}}, test::direct_dsn()));
  }

 private:
  const std::string name_ = unique_name("pgque_test_encoding");
};

class EncodingTest : public DatabaseTest {
 protected:
  void create(const std::string& encoding) {
    database_.emplace(encoding);
    there_.emplace(database_->direct_dsn({{"client_encoding", "UTF8"}}));
    own_.emplace(*there_);
    client_.emplace(database_->dsn(), client_options());
    client_->subscribe(*own_, "c");
  }
  void TearDown() override {
    client_.reset();
    own_.reset();
    there_.reset();
    database_.reset();
    DatabaseTest::TearDown();
  }
  OtherDatabase& database() { return *database_; }
  Sql& there() { return *there_; }
  TestQueue& own() { return *own_; }
  Client& client() { return *client_; }
  ConsumerOptions options(TransactionMode mode) {
    ConsumerOptions options;
    options.queue = own();
    options.name = "c";
    options.transaction = mode;
    options.log = log.sink();
    options.pooled = pooled();
    options.reconnect = {1ms, 10ms};
    options.poll_interval = 50ms;
    return options;
  }
  LogCapture log;

 private:
  std::optional<OtherDatabase> database_;
  std::optional<Sql> there_;
  std::optional<TestQueue> own_;
  std::optional<Client> client_;
};

TEST_F(EncodingTest, AReasonThatTheDatabaseCannotStoreIsStoredWithQuestionMarks) {
  create("LATIN1");
  own().config("max_retries", "0");
  there()("create table writes (value text)");
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    for (const auto* const payload : {"1", "2", "3"}) {
      client().send(own(), payload, "t");
      own().tick();
    }
    client().send(own(), "4", "good");
    own().tick();
    Consumer consumer{database().dsn(), options(mode)};
    consumer.on("t", [&](const Message& message) {
      if (message.payload == "1") throw std::runtime_error{"5 \xE2\x82\xAC too much"};  // the euro sign
      if (message.payload == "2") throw std::runtime_error{"not UTF-8: \xFF"};
      throw std::runtime_error{"caf\xC3\xA9"};  // LATIN1 has this one
    });
    consumer.on("good", [&](const Message&, Context& context) {
      if (mode == TransactionMode::per_batch) context.transaction().exec("insert into writes values ('x')");
    });
    {
      Running running{consumer};
      ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 4; }));
    }
    EXPECT_EQ(consumer.stats().abandoned, 0U);
    EXPECT_EQ(log.count(LogEvent::nack_failed), 0U);
  }
  EXPECT_THAT(own().dead_letter_reasons(),
              ElementsAre("handler error: 5 ? too much", "handler error: not UTF-8: ?", "handler error: caf\xC3\xA9",
                          "handler error: 5 ? too much", "handler error: not UTF-8: ?", "handler error: caf\xC3\xA9"));
}

// One statement nacks them all.
TEST_F(EncodingTest, SuchAReasonCostsTheOthersOfItsBatchNoCharacter) {
  create("LATIN1");
  own().config("max_retries", "0");
  for (int i = 0; i < 3; ++i) client().send(own(), std::to_string(i), "t");
  own().tick();
  Consumer consumer{database().dsn(), options(TransactionMode::split)};
  consumer.on("t", [](const Message& message) {
    throw std::runtime_error{message.payload == "1" ? "\xE2\x82\xAC" : "caf\xC3\xA9"};
  });
  {
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  }
  EXPECT_THAT(own().dead_letter_reasons(),
              ElementsAre("handler error: caf\xC3\xA9", "handler error: ?", "handler error: caf\xC3\xA9"));
}

// The savepoint of the nack saves what the handlers of the batch have written.
TEST_F(EncodingTest, SuchAReasonCostsNoOtherMessageOfTheBatchItsWrites) {
  create("LATIN1");
  own().config("max_retries", "0");
  there()("create table writes (value text)");
  for (int i = 0; i < 3; ++i) client().send(own(), std::to_string(i), "t");
  own().tick();
  Consumer consumer{database().dsn(), options(TransactionMode::per_batch)};
  consumer.on("t", [](const Message& message, Context& context) {
    context.transaction().exec("insert into writes values (" + *message.payload + ")");
    if (message.payload == "1") throw std::runtime_error{"\xE2\x82\xAC"};
  });
  {
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  }
  EXPECT_EQ(there().value("select string_agg(value, ',' order by value) from writes"), "0,2");
  EXPECT_THAT(own().dead_letter_reasons(), ElementsAre("handler error: ?"));
  EXPECT_EQ(consumer.stats().abandoned, 0U);
}

TEST_F(EncodingTest, NackByHandStoresWithQuestionMarksInEachKindOfTransaction) {
  create("LATIN1");
  own().config("max_retries", "0");
  for (int i = 0; i < 3; ++i) client().send(own(), std::to_string(i), "t");
  own().tick();
  const auto messages = client().receive(own(), "c");
  ASSERT_THAT(messages, SizeIs(3));
  const NackOptions nack{60s, "5 \xE2\x82\xAC"};
  client().nack(messages[0], nack);
  {
    auto transaction = client().begin();
    transaction.send(own(), "\"before\"");
    transaction.nack(messages[1], nack);
    transaction.commit();
  }
  {
    pqxx::connection connection{database().dsn()};
    connection.set_client_encoding("UTF8");
    pqxx::work work{connection};
    work.exec("create table outbox ()");
    Transaction{work}.nack(messages[2], nack);
    work.commit();
  }
  EXPECT_TRUE(client().ack(messages[0].batch_id));
  EXPECT_THAT(own().dead_letter_reasons(), ElementsAre("5 ?", "5 ?", "5 ?"));
  EXPECT_TRUE(there().value("select to_regclass('outbox')"));
  own().tick();
  EXPECT_THAT(client().receive(own(), "c"), SizeIs(1));
}

TEST_F(EncodingTest, APayloadThatCannotBeReadIsExplainedAndCanBePassed) {
  create("SQL_ASCII");
  there()("select pgque.send(" + there().quote(own().name()) + ", 't', convert_from('\\x636166e9', 'SQL_ASCII'))");
  own().tick();
  client().send(own(), "2", "t");
  own().tick();
  const auto error = thrown<Error>([&] { client().receive(own(), "c"); });
  EXPECT_EQ(error.sqlstate(), "22021");
  EXPECT_THAT(error.what(), HasSubstr("SQL_ASCII"));
  EXPECT_THAT(error.what(), HasSubstr("finish it with pgque.ack"));
  for (const bool paged : {false, true}) {
    auto with = options(TransactionMode::per_batch);
    if (paged) with.max_messages = 1;
    Seen seen;
    Consumer consumer{database().dsn(), with};
    consumer.on("t", seen.handler());
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return !consumer.stats().last_error.empty(); }));
    EXPECT_THAT(consumer.stats().last_error, HasSubstr("finish it with pgque.ack"));
    if (!paged) continue;
    // What the error says.
    Sql raw{database().direct_dsn({{"client_encoding", "SQL_ASCII"}})};
    const auto batch = raw.value("select batch_id from pgque.receive(" + raw.quote(own().name()) + ", 'c')");
    ASSERT_TRUE(batch);
    EXPECT_EQ(raw.number("select pgque.ack(" + *batch + ")"), 1);
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
    EXPECT_THAT(seen.payloads(), ElementsAre("2"));
  }
}

TEST_F(EncodingTest, TheDoctorSeesThroughANameThatCannotBeRead) {
  create("SQL_ASCII");
  const auto queue = there().quote(own().name());
  const auto codes = [&] {
    std::vector<std::string> found;
    for (const auto& finding : diagnose(database().dsn())) found.push_back(finding.code);
    return found;
  };
  EXPECT_THAT(codes(), Not(Contains("unreadable_rows")));
  there()("select pgque.subscribe(" + queue + ", convert_from('\\x636166e9', 'SQL_ASCII'))");
  there()(
      "update pgque.subscription set sub_batch = -1, sub_active = now() - interval '1 hour' where sub_consumer = "
      "(select max(co_id) from pgque.consumer)");
  Admin admin{database().dsn(), client_options()};
  const auto refused = thrown<Error>([&] { admin.consumers(); });
  EXPECT_EQ(refused.sqlstate(), "22021");
  EXPECT_THAT(refused.what(), AllOf(HasSubstr("the name of a queue or consumer"), HasSubstr("unreadable_rows")));
  EXPECT_THAT(refused.what(), Not(HasSubstr("pgque.ack")));
  const auto findings = diagnose(database().dsn());
  const auto with = [&](const char* code) {
    return std::find_if(findings.begin(), findings.end(), [&](const auto& finding) { return finding.code == code; });
  };
  ASSERT_NE(with("unreadable_rows"), findings.end());
  EXPECT_THAT(with("unreadable_rows")->fact, HasSubstr("0xe9"));
  ASSERT_NE(with("stuck_batch"), findings.end());
  EXPECT_EQ(with("stuck_batch")->queue, own().name());
  EXPECT_EQ(with("stuck_batch")->consumer, "caf\xEF\xBF\xBD");
  EXPECT_THAT(with("stuck_batch")->remedy, HasSubstr("unchecked_encoding says how to get past it"));
  // As the remedy says.
  there()("update pgque.consumer set co_name = 'new_name' where co_id = (select max(co_id) from pgque.consumer)");
  EXPECT_THAT(codes(), AllOf(Not(Contains("unreadable_rows")), Contains("stuck_batch")));
  EXPECT_EQ(admin.consumers().size(), 2U);
  there()("update pgque.subscription set sub_batch = null");
}

TEST_F(EncodingTest, TheDoctorNamesAnEncodingThatChecksNothing) {
  create("SQL_ASCII");
  const auto named = [](const std::string& dsn) {
    const auto findings = diagnose(dsn);
    return std::count_if(findings.begin(), findings.end(),
                         [](const Finding& finding) { return finding.code == "unchecked_encoding"; });
  };
  EXPECT_EQ(named(database().dsn()), 1);
  EXPECT_EQ(named(dsn()), 0);
}

}  // namespace
}  // namespace pgque::test
