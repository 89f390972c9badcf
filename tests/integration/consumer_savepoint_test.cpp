// The savepoints of handlers: what ends with a handler, what is checked at its end, and how many round trips it costs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

// Two tables: rows() refers to parents() by a deferred foreign key, which allows for any order of inserts.
class ConsumerSavepointTest : public ConsumerTest {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    queue().config("max_retries", "0");
    sql()("create table " + parents_ + " (id int primary key)");
    sql()("create table " + table_ + " (id int references " + parents_ + " deferrable initially deferred)");
  }
  void TearDown() override {
    if (!IsSkipped()) {
      Sql{}("drop table if exists " + table_ + ", " + parents_ + ", " + other_);
      Sql{}("drop function if exists " + counter_ + "()");
      Sql{}("drop sequence if exists " + counter_);
    }
    ConsumerTest::TearDown();
  }

  std::string child(const std::string& id) const { return "insert into " + table_ + " values (" + id + ")"; }
  std::string parent(const std::string& id) const { return "insert into " + parents_ + " values (" + id + ")"; }
  std::string ids_of(const std::string& table) {
    return sql().value("select string_agg(id::text, ' ' order by id) from " + table).value_or("none");
  }
  // A deferred trigger that counts how often it runs; a rollback does not take that back.
  void count_checks() {
    sql()("create sequence " + counter_);
    sql()("create function " + counter_ + "() returns trigger language plpgsql as $$ begin perform nextval('" +
          counter_ + "'); return null; end $$");
    sql()("create constraint trigger counted after insert on " + table_ +
          " deferrable initially deferred for each row execute function " + counter_ + "()");
  }
  std::int64_t checks() {
    return sql().number("select case when is_called then last_value else 0 end from " + counter_);
  }
  // A deferred trigger on parents() that fails at that check, counted over all attempts.
  void raise_at_check(int check, const std::string& what) {
    sql()("create sequence " + counter_);
    sql()("create function " + counter_ + "() returns trigger language plpgsql as $$ begin if nextval('" + counter_ +
          "') = " + std::to_string(check) + " then raise " + what + "; end if; return null; end $$");
    sql()("create constraint trigger raises after insert on " + parents_ +
          " deferrable initially deferred for each row execute function " + counter_ + "()");
  }
  // The batch comes again once, and no message fails.
  void insert_parents_although_one_check_fails(int messages) {
    publish_numbers(messages);
    auto quick = options();
    quick.reconnect = {1ms, 10ms};
    Consumer consumer{dsn(), quick};
    consumer.on(
        "t", [&](const Message& message, Context& context) { context.transaction().exec(parent(*message.payload)); });
    finish_batches(consumer);
    EXPECT_EQ(sql().number("select count(*) from " + parents_), messages);
    EXPECT_EQ(consumer.stats().abandoned, 1U);
    EXPECT_EQ(consumer.stats().failures, 0U);
    EXPECT_EQ(log.count(LogEvent::handler_failed), 0U);
  }
  // The latest statement of the consumer's session.
  std::string latest_statement() const { return Sql{}.value("select query" + watched()).value_or("none"); }

  const std::string parents_ = unique_name("pgque_test_parents");
  const std::string table_ = unique_name("pgque_test_children");
  const std::string other_ = unique_name("pgque_test_other");
  const std::string counter_ = unique_name("pgque_test_counter");
};

TEST_F(ConsumerSavepointTest, DeferredConstraintsAreCheckedOnceForEachMessage) {
  count_checks();
  constexpr int messages = 300;
  publish_numbers(messages);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(child(*message.payload));
    context.transaction().exec(parent(*message.payload));
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().messages, 300U);
  EXPECT_EQ(checks(), messages + messages / 64);  // one in 64 twice
}

TEST_F(ConsumerSavepointTest, ADeferredViolationFailsItsOwnMessageAlone) {
  publish_numbers(5);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(child(*message.payload));
    // The second and the last message have no parent.
    if (message.payload != "1" && message.payload != "4") context.transaction().exec(parent(*message.payload));
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(table_), "0 2 3");
  EXPECT_EQ(ids_of(parents_), "0 2 3");
  EXPECT_EQ(consumer.stats().messages, 3U);
  EXPECT_EQ(consumer.stats().failures, 2U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(2));
  for (const auto& reason : reasons) {
    EXPECT_THAT(*reason, AllOf(StartsWith("handler error: "), HasSubstr("violates foreign key constraint")));
  }
}

TEST_F(ConsumerSavepointTest, WhateverTheMessageAViolationFailsItAlone) {
  constexpr int messages = 200;
  publish_numbers(messages);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(child(*message.payload));
    if (std::stoi(*message.payload) % 64 < 60) context.transaction().exec(parent(*message.payload));
  });
  finish_batches(consumer);
  EXPECT_EQ(sql().number("select count(*) from " + table_), 188);
  EXPECT_EQ(sql().number("select count(*) from " + parents_), 188);
  EXPECT_EQ(queue().dead_letters(), 12);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
}

TEST_F(ConsumerSavepointTest, AViolationIsFoundThoughTheNextHandlersDoNotWrite) {
  publish_numbers(3);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (message.payload == "0") context.transaction().exec(child("7"));
    if (message.payload == "1") throw std::runtime_error{"no"};
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(table_), "none");
  EXPECT_EQ(consumer.stats().messages, 1U);
  EXPECT_EQ(consumer.stats().failures, 2U);
}

TEST_F(ConsumerSavepointTest, ConstraintsThatAreInitiallyImmediateStaySoForEveryHandler) {
  sql()("create table " + other_ + " (id int unique deferrable initially immediate)");
  publish_numbers(4);
  std::vector<std::string> refused;
  auto paged = options();
  paged.max_messages = 2;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message& message, Context& context) {
    const auto insert = "insert into " + other_ + " values (1)";
    if (message.payload == "0") {
      context.transaction().exec(insert);
      return;
    }
    pqxx::subtransaction attempt{context.transaction()};
    EXPECT_THROW(attempt.exec(insert), pqxx::unique_violation);
    refused.push_back(*message.payload);
  });
  finish_batches(consumer);
  EXPECT_THAT(refused, ElementsAre("1", "2", "3"));
  EXPECT_EQ(ids_of(other_), "1");
  EXPECT_EQ(consumer.stats().messages, 4U);
}

TEST_F(ConsumerSavepointTest, ARoleOfAHandlerDoesNotHideInitiallyImmediateConstraints) {
  const auto schema = unique_name("pgque_test_schema");
  const auto owner = role_of(dsn());
  const auto other_role = role_of(dsn_of_role_with({}));
  sql()("create schema " + schema);
  sql()("create table " + schema + ".t (id int unique deferrable initially immediate)");
  publish_numbers(4);
  std::vector<std::string> refused;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    auto& transaction = context.transaction();
    const auto insert = "insert into " + schema + ".t values (1)";
    if (message.payload == "0") {
      transaction.exec(insert);
      transaction.exec("set local role " + other_role);
      return;
    }
    pqxx::subtransaction attempt{transaction};
    EXPECT_THROW(attempt.exec(insert), pqxx::unique_violation);
    refused.push_back(*message.payload);
  });
  finish_batches(consumer);
  sql()("drop schema " + schema + " cascade");
  EXPECT_THAT(refused, ElementsAre("1", "2", "3"));
}

// A handler's own savepoint is not taken for the one in which constraints are made immediate.
TEST_F(ConsumerSavepointTest, ASavepointThatAHandlerLeavesOpenHidesNoViolation) {
  sql()("create table " + other_ + " (id int unique deferrable initially immediate)");
  publish_numbers(3);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec("savepoint pgque_attempt; savepoint pgque_constraints");
    context.transaction().exec(child(*message.payload));
    if (message.payload != "1") context.transaction().exec(parent(*message.payload));
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(table_), "0 2");
  EXPECT_EQ(consumer.stats().failures, 1U);
}

TEST_F(ConsumerSavepointTest, AConstraintThatIsDroppedMeanwhileIsInNobodysWay) {
  sql()("create table " + other_ + " (id int unique deferrable initially immediate)");
  publish_numbers(3);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(parent(*message.payload));
    if (message.payload == "0") Sql{}("drop table " + other_);
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(parents_), "0 1 2");
  EXPECT_EQ(consumer.stats().messages, 3U);
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
}

TEST_F(ConsumerSavepointTest, ADeferredConstraintThatIsNewFailsTheBatchOnceAndThenItsMessageAlone) {
  sql()("drop table " + table_ + ", " + parents_);
  sql()("create table " + parents_ + " (id int primary key)");
  sql()("create table " + table_ + " (id int)");
  publish_numbers(3);
  auto quick = options();
  quick.reconnect = {1ms, 10ms};
  Consumer consumer{dsn(), quick};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (message.payload == "0") {
      context.transaction();
      const auto deferred = " foreign key (id) references " + parents_ + " deferrable initially deferred";
      if (consumer.stats().abandoned == 0) Sql{}("alter table " + table_ + " add" + deferred);
    } else {
      context.transaction().exec(child(*message.payload));
      if (message.payload == "2") context.transaction().exec(parent("2"));
    }
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(ids_of(table_), "2");
  EXPECT_EQ(queue().dead_letters(), 1);
}

TEST_F(ConsumerSavepointTest, WhatAHandlerMakesOfConstraintsEndsWithIt) {
  publish_numbers(2);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (message.payload == "0") context.transaction().exec("set constraints all immediate");
    if (message.payload == "1") context.transaction().exec(child("1"));  // deferred again
    context.transaction().exec(parent(*message.payload));
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(parents_), "0 1");
  EXPECT_EQ(ids_of(table_), "1");
}

TEST_F(ConsumerSavepointTest, AHandlerCostsOneRoundTripBesideItsStatements) {
  sql()("create table " + other_ + " (id int unique deferrable initially immediate)");
  publish_numbers(4);
  std::vector<std::string> before;
  std::vector<std::string> after;
  Consumer consumer{watched_dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    before.push_back(latest_statement());
    auto& transaction = context.transaction();
    after.push_back(latest_statement());
    transaction.exec(parent(*message.payload));
  });
  finish_batches(consumer);
  ASSERT_THAT(before, SizeIs(4));
  ASSERT_THAT(after, SizeIs(4));
  for (std::size_t i = 1; i < before.size(); ++i) {
    EXPECT_EQ(before[i], parent(std::to_string(i - 1)));
    EXPECT_THAT(after[i], AllOf(HasSubstr("set constraints all immediate"), HasSubstr("release savepoint"),
                                HasSubstr("; savepoint ")));
  }
}

TEST_F(ConsumerSavepointTest, AHandlerThatCommitsOrAbortsFailsAlone) {
  publish_numbers(4);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(parent(*message.payload));
    if (message.payload == "1") context.transaction().commit();
    if (message.payload == "2") context.transaction().abort();
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(parents_), "0 3");
  EXPECT_EQ(consumer.stats().messages, 2U);
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(2));
  EXPECT_THAT(*reasons[0], HasSubstr("only the consumer commits this transaction"));
  EXPECT_THAT(*reasons[1], HasSubstr("the transaction was ended"));
}

// What was written until then is committed, and the batch comes again: once, and not for ever.
TEST_F(ConsumerSavepointTest, AHandlerThatSendsCommitOrRollbackFailsWhenTheBatchComesAgain) {
  queue().config("max_retries", "0");
  publish_numbers(4);
  std::vector<std::string> handled;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    handled.push_back(*message.payload);
    auto& transaction = context.transaction();
    if (message.payload == "1") transaction.exec("commit");
    if (message.payload == "2") {
      transaction.exec("rollback; begin");
      throw std::runtime_error{"no"};
    }
  });
  finish_batches(consumer);
  EXPECT_THAT(handled, testing::ElementsAre("0", "1", "2", "0", "2", "0", "3"));
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 2U);
  for (const auto& reason : reasons) {
    EXPECT_THAT(*reason, HasSubstr("has ended the batch's transaction by a COMMIT or ROLLBACK of its own"));
  }
  EXPECT_EQ(consumer.stats().abandoned, 2U);
}

TEST_F(ConsumerSavepointTest, ARoleThatAHandlerSetsEndsWithIt) {
  const auto consumers_dsn = dsn_of_role_with({"pgque_reader"});
  const auto consumers_role = role_of(consumers_dsn);
  const auto other_role = role_of(dsn_of_role_with({}));
  sql()("grant " + other_role + " to " + consumers_role);
  std::vector<std::string> roles;
  auto one_by_one = options();
  one_by_one.max_messages = 2;  // so a page is fetched, and a message nacked, after each kind of SET
  Consumer consumer{consumers_dsn, one_by_one};
  consumer.on("t", [&](const Message& message, Context& context) {
    roles.emplace_back(context.transaction().exec("select current_user")[0][0].c_str());
    const auto how = std::stoi(*message.payload) % 2 == 0 ? "set local role " : "set role ";
    context.transaction().exec(how + other_role);
    if (message.payload == "3") throw std::runtime_error{"no"};
  });
  publish_numbers(5);
  finish_batches(consumer);
  publish_numbers(1);
  finish_batches(consumer, 2);
  EXPECT_THAT(roles, AllOf(SizeIs(6), Each(consumers_role)));
  EXPECT_EQ(queue().dead_letters(), 1);
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
}

TEST_F(ConsumerSavepointTest, TheEncodingTheLimitAndTheUserOfAHandlerEndWithIt) {
  const auto other_role = role_of(dsn_of_role_with({}));
  publish_numbers(3);
  std::vector<std::string> found;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&, Context& context) {
    auto& transaction = context.transaction();
    found.emplace_back(transaction
                           .exec("select session_user || ' ' || current_setting('client_encoding') || ' ' || "
                                 "current_setting('statement_timeout')")[0][0]
                           .c_str());
    transaction.exec("set local client_encoding = 'LATIN1'; set local statement_timeout = '1min'");
    transaction.exec("set local session authorization " + other_role);
  });
  finish_batches(consumer);
  EXPECT_THAT(found, AllOf(SizeIs(3), Each(sql()
                                               .value("select session_user || ' UTF8 ' || "
                                                      "current_setting('statement_timeout')")
                                               .value())));
  EXPECT_EQ(consumer.stats().failures, 0U);
}

// When the last writes of a page are refused, what follows their check is not run.
TEST_F(ConsumerSavepointTest, SettingsOfAHandlerDoNotReachTheLibraryAfterAViolationEither) {
  std::vector<Payload> payloads;
  for (int i = 0; i < 4; ++i) payloads.emplace_back(text("\xC3\xA9"));
  client().send_batch(queue(), "t", payloads);
  queue().tick();
  auto paged = options();
  paged.max_messages = 2;
  Seen seen;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message& message, Context& context) {
    seen(message);
    auto& transaction = context.transaction();
    if (seen.size() % 2 == 1) transaction.exec("set local client_encoding = 'LATIN1'");
    if (seen.size() % 2 == 0) transaction.exec(child("7"));
  });
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), AllOf(SizeIs(4), Each("\xC3\xA9")));
  EXPECT_EQ(queue().dead_letters(), 2);
}

TEST_F(ConsumerSavepointTest, ARolesLimitDoesNotEndTheNacksAfterAViolation) {
  const auto limited = dsn_of_role_with({"pgque_reader"});
  const auto role = role_of(limited);
  sql()("grant all on " + table_ + ", " + parents_ + " to " + role);
  sql()("alter role " + role + " set statement_timeout = '2s'");
  publish_numbers(2);
  std::string limit;  // at the nack
  sql()("create function " + counter_ +
        "() returns trigger language plpgsql as $$ begin "
        "new.dl_reason := current_setting('statement_timeout') || ' ' || new.dl_reason; return new; end $$");
  const auto on_dead_letters = "trigger " + counter_ + " on pgque.dead_letter";
  sql()("create trigger " + counter_ + " before insert on pgque.dead_letter for each row execute function " + counter_ +
        "()");
  Consumer consumer{limited, options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec(child(*message.payload));
    if (message.payload == "0") context.transaction().exec(parent("0"));
  });
  finish_batches(consumer);
  sql()("drop " + on_dead_letters);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(1));
  EXPECT_THAT(*reasons[0], StartsWith("0 handler error: "));
}

TEST_F(ConsumerSavepointTest, AConflictInADeferredCheckLeavesTheBatchAndUsesUpNoRetry) {
  raise_at_check(1, "exception using errcode = '40P01', message = 'a deadlock'");
  insert_parents_although_one_check_fails(2);
  EXPECT_EQ(queue().dead_letters(), 0);
}

// One handler in 64 is checked a second time, after its savepoint is gone.
TEST_F(ConsumerSavepointTest, AnErrorOfTheSecondCheckIsReportedAsItIsAndTheBatchComesAgain) {
  raise_at_check(65, "exception 'the real reason'");
  insert_parents_although_one_check_fails(70);
  const auto lines = log.lines(LogEvent::failed);
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0].message, HasSubstr("the real reason"));
}

TEST_F(ConsumerSavepointTest, ASessionKilledBeforeTheNextHandlersSavepointLosesNothing) {
  publish_numbers(3);
  Consumer consumer{watched_dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (message.payload == "1" && consumer.stats().abandoned == 0) {
      Sql{}("select pg_terminate_backend(pid)" + watched());
    }
    context.transaction().exec(parent(*message.payload));
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(parents_), "0 1 2");
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(log.count(LogEvent::handler_failed), 0U);
}

TEST_F(ConsumerSavepointTest, NotNowTakesBackWhatIsNotCheckedYet) {
  publish_numbers(2);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message, Context& context) {
    if (message.payload == "1" && consumer.stats().postponed == 0) throw NotNow{1ms, "not yet"};
    context.transaction().exec(child(*message.payload));
    context.transaction().exec(parent(*message.payload));
  });
  finish_batches(consumer);
  EXPECT_EQ(ids_of(table_), "0 1");
  EXPECT_EQ(consumer.stats().postponed, 1U);
  EXPECT_EQ(queue().dead_letters(), 0);
}

TEST_F(ConsumerSavepointTest, SettingsOfAHandlerDoNotReachTheLibrarysStatements) {
  std::vector<Payload> payloads;
  for (int i = 0; i < 4; ++i) payloads.emplace_back(text("\xC3\xA9"));
  client().send_batch(queue(), "t", payloads);
  queue().tick();
  auto paged = options();
  paged.max_messages = 2;
  Seen seen;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message& message, Context& context) {
    seen(message);
    context.transaction().exec("set local client_encoding = 'LATIN1'; set local search_path = nowhere");
  });
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), AllOf(SizeIs(4), Each("\xC3\xA9")));
}

}  // namespace
}  // namespace pgque::test
