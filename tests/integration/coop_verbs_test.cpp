// The verbs of cooperative consumers: a group whose members share one consumer's messages.

#include <chrono>
#include <future>
#include <limits>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages.hpp"
#include "support.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CoopVerbsTest : public WayTest {
 protected:
  std::string group() const { return consumer_name(); }

  bool register_member(const std::string& member, bool convert_normal = false) {
    return call([&](Operations& ops) { return ops.subscribe_subconsumer(queue(), group(), member, convert_normal); });
  }
  bool unregister_member(const std::string& member, BatchHandling handling = BatchHandling::refuse) {
    return call([&](Operations& ops) { return ops.unsubscribe_subconsumer(queue(), group(), member, handling); });
  }
  std::vector<Message> receive_as(const std::string& member, const ReceiveCoopOptions& options = {}) {
    return call([&](Operations& ops) { return ops.receive_coop(queue(), group(), member, options); });
  }
  bool touch(const std::string& member) {
    return call([&](Operations& ops) { return ops.touch_subconsumer(queue(), group(), member); });
  }
  EventId send_and_tick(const Payload& payload = "1") {
    const auto id = send(payload);
    queue().tick();
    return id;
  }
  // As if the member had sent no heartbeat for this long.
  void age(const std::string& member, const std::string& interval) {
    const auto changed = sql()(
        "update pgque.subscription set sub_active = now() - interval '" + interval +
        "' from pgque.queue, pgque.consumer where queue_id = sub_queue and co_id = sub_consumer and queue_name = " +
        sql().quote(queue().name()) + " and co_name = " + sql().quote(group() + '.' + member));
    ASSERT_EQ(changed.affected_rows(), 1U);
  }
  static ReceiveCoopOptions taking_over(milliseconds dead_interval) { return {std::nullopt, dead_interval}; }
};
INSTANTIATE_TEST_SUITE_P(By, CoopVerbsTest, testing::ValuesIn(main_ways), way_name);

TEST_P(CoopVerbsTest, RegisteringIsTrueWhenNewAndFalseWhenThereAlready) {
  EXPECT_TRUE(register_member("w1"));
  EXPECT_FALSE(register_member("w1"));
  EXPECT_TRUE(register_member("w2"));
}

TEST_P(CoopVerbsTest, ReceivesAMessageAndAcksIt) {
  register_member("w1");
  const auto id = send_and_tick(R"({"a": 1})");
  const auto messages = receive_as("w1");
  ASSERT_THAT(ids_of(messages), ElementsAre(id));
  EXPECT_EQ(messages[0].payload, R"({"a": 1})");
  EXPECT_EQ(messages[0].type, "t");
  EXPECT_EQ(ids_of(receive_as("w1")), ids_of(messages));  // until it is acked
  EXPECT_TRUE(ack(messages[0].batch_id));
  EXPECT_THAT(receive_as("w1"), IsEmpty());
}

TEST_P(CoopVerbsTest, ReceivingRegistersGroupAndMember) {
  EXPECT_THAT(receive_as("w1"), IsEmpty());
  EXPECT_FALSE(register_member("w1"));
  const auto id = send_and_tick();
  EXPECT_THAT(ids_of(receive_as("w1")), ElementsAre(id));
}

TEST_P(CoopVerbsTest, ABatchGoesToOneMemberOnly) {
  register_member("w1");
  register_member("w2");
  const auto first = send_and_tick();
  const auto of_w1 = receive_as("w1");
  EXPECT_THAT(receive_as("w2"), IsEmpty());
  const auto second = send_and_tick();
  const auto of_w2 = receive_as("w2");
  ASSERT_THAT(ids_of(of_w1), ElementsAre(first));
  ASSERT_THAT(ids_of(of_w2), ElementsAre(second));
  EXPECT_NE(of_w1[0].batch_id, of_w2[0].batch_id);
  EXPECT_TRUE(ack(of_w2[0].batch_id));
  EXPECT_TRUE(ack(of_w1[0].batch_id));
  EXPECT_THAT(receive_as("w1"), IsEmpty());
  EXPECT_THAT(receive_as("w2"), IsEmpty());
}

TEST_P(CoopVerbsTest, ANackedMessageMayGoToAnyMember) {
  const auto id = [&] {
    register_member("w1");
    register_member("w2");
    return send_and_tick();
  }();
  const auto messages = receive_as("w1");
  nack(messages.at(0), NackOptions{std::chrono::seconds{0}});
  ack(messages[0].batch_id);
  queue().bring_retries_back();
  const auto again = receive_as("w2");
  ASSERT_THAT(ids_of(again), ElementsAre(id));
  EXPECT_EQ(again[0].retry_count, 1);
}

TEST_P(CoopVerbsTest, UnregisteringAnIdleMemberIsTrueAndThenFalse) {
  register_member("w1");
  EXPECT_TRUE(unregister_member("w1"));
  EXPECT_FALSE(unregister_member("w1"));
}

TEST_P(CoopVerbsTest, UnregisteringAMemberWithABatchIsRefused) {
  register_member("w1");
  const auto id = send_and_tick();
  receive_as("w1");
  const auto error = thrown<Error>([&] { unregister_member("w1"); });
  EXPECT_EQ(error.server_message(), "cannot unregister active cooperative subconsumer " + queue().name() + '/' +
                                        group() + "/w1 without batch_handling = 1");
  EXPECT_EQ(error.sqlstate(), "P0001");
  EXPECT_THAT(ids_of(receive_as("w1")), ElementsAre(id));  // nothing changed
  EXPECT_EQ(queue().retries(), 0);
}

TEST_P(CoopVerbsTest, UnregisteringWithRetryPutsTheBatchUpForRetry) {
  register_member("w1");
  register_member("w2");
  const auto id = send_and_tick();
  receive_as("w1");
  EXPECT_TRUE(unregister_member("w1", BatchHandling::retry));
  EXPECT_EQ(queue().retries(), 1);
  queue().expire_retries();
  EXPECT_THAT(ids_of(receive_as("w2")), ElementsAre(id));
}

TEST_P(CoopVerbsTest, UnregisteringWithRetryBuriesWhatHasNoRetriesLeft) {
  queue().config("max_retries", "0");
  register_member("w1");
  register_member("w2");
  send_and_tick();
  receive_as("w1");
  EXPECT_TRUE(unregister_member("w1", BatchHandling::retry));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("subconsumer unregistered"));
}

TEST_P(CoopVerbsTest, TouchIsTrueForAMemberAndFalseForAnyOther) {
  register_member("w1");
  EXPECT_TRUE(touch("w1"));
  EXPECT_FALSE(touch("w2"));
  EXPECT_FALSE(call([&](Operations& ops) { return ops.touch_subconsumer(queue(), "another", "w1"); }));
}

TEST_P(CoopVerbsTest, ATakeoverHandsTheBatchOverUnderAFreshId) {
  register_member("w1");
  register_member("w2");
  const auto id = send_and_tick();
  const auto before = receive_as("w1");
  ASSERT_THAT(ids_of(before), ElementsAre(id));
  age("w1", "1 hour");
  const auto after = receive_as("w2", taking_over(std::chrono::minutes{1}));
  ASSERT_THAT(ids_of(after), ElementsAre(id));
  EXPECT_NE(after[0].batch_id, before[0].batch_id);
  EXPECT_EQ(after[0].retry_count, std::nullopt);

  EXPECT_FALSE(ack(before[0].batch_id));
  const auto error = thrown<BatchNotFound>([&] { nack(before[0]); });
  EXPECT_EQ(error.server_message(), "batch not found: " + to_string(before[0].batch_id));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_THAT(receive_as("w1"), IsEmpty());

  EXPECT_TRUE(ack(after[0].batch_id));
}

TEST_P(CoopVerbsTest, NothingIsTakenOverBeforeTheDeadIntervalIsOver) {
  register_member("w1");
  register_member("w2");
  const auto id = send_and_tick();
  receive_as("w1");
  age("w1", "90 seconds");
  EXPECT_THAT(receive_as("w2"), IsEmpty());  // no dead_interval: never
  EXPECT_THAT(receive_as("w2", taking_over(std::chrono::seconds{120})), IsEmpty());
  EXPECT_THAT(ids_of(receive_as("w2", taking_over(std::chrono::seconds{89}))), ElementsAre(id));
}

TEST_P(CoopVerbsTest, ASignOfLifePreventsTheTakeover) {
  register_member("w1");
  register_member("w2");
  send_and_tick();
  const auto messages = receive_as("w1");
  age("w1", "1 hour");
  EXPECT_TRUE(touch("w1"));
  EXPECT_THAT(receive_as("w2", taking_over(std::chrono::minutes{1})), IsEmpty());
  age("w1", "1 hour");
  receive_as("w1");  // asking for its batch again counts as a heartbeat, too
  EXPECT_THAT(receive_as("w2", taking_over(std::chrono::minutes{1})), IsEmpty());
  EXPECT_TRUE(ack(messages.at(0).batch_id));
}

// The server dates what a statement does to when its transaction began, however long it waited then.
TEST_P(CoopVerbsTest, AMemberThatWaitedForTheGroupIsNotTakenOver) {
  register_member("w1");
  register_member("w2");
  send_and_tick("1");
  const auto second = send_and_tick("2");
  Sql other;
  pqxx::work holding{other.connection()};  // as a pgque-py worker does while its handlers run
  holding.exec("select pgque.ack(batch_id) from pgque.receive_coop(" + sql().quote(queue().name()) + ", " +
               sql().quote(group()) + ", 'other')");
  const auto holder = holding.exec("select pg_backend_pid()")[0][0].as<std::string>();
  auto given = std::async(std::launch::async, [&] { return receive_as("w1"); });
  ASSERT_TRUE(wait_until([&] {
    return sql().number("select count(*) from pg_stat_activity where " + holder +
                        " = any(pg_blocking_pids(pid)) and clock_timestamp() - xact_start > interval '200 ms'") == 1;
  }));
  // For the server, this transaction asks now, so the time that passes from here on does not matter.
  Sql sibling;
  pqxx::work asking{sibling.connection()};
  asking.exec("select 1");
  holding.commit();
  ASSERT_THAT(ids_of(given.get()), ElementsAre(second));
  EXPECT_THAT(Transaction{asking}.receive_coop(queue(), group(), "w2", taking_over(milliseconds{200})), IsEmpty());
}

// A receive that gives nothing is the cheapest call there is, and there is no batch to protect.
TEST_P(CoopVerbsTest, AMemberIsTouchedOnlyIfItIsGivenSomething) {
  register_member("w1");
  for (const bool given : {false, true}) {
    if (given) send_and_tick();
    Sql other;
    pqxx::work work{other.connection()};
    EXPECT_EQ(Transaction{work}.receive_coop(queue(), group(), "w1").size(), given ? 1U : 0U);
    // What the server does by itself, it dates to the beginning of the transaction.
    const auto touched = work.exec(
        "select sub_active > now() from pgque.subscription join pgque.queue on queue_id = "
        "sub_queue join pgque.consumer on co_id = sub_consumer where queue_name = " +
        sql().quote(queue().name()) + " and co_name = " + sql().quote(group() + ".w1"));
    ASSERT_EQ(touched.size(), 1U);
    EXPECT_EQ(touched[0][0].as<bool>(), given);
    work.commit();
  }
}

TEST_P(CoopVerbsTest, ANormalConsumerBecomesAGroupOnlyWhenAskedTo) {
  subscribe();
  const auto id = send_and_tick();
  const auto refusal = "consumer " + group() + " on queue " + queue().name() +
                       " is already a normal consumer; explicit conversion is required";
  EXPECT_EQ(thrown<Error>([&] { register_member("w1"); }).server_message(), refusal);
  EXPECT_EQ(thrown<Error>([&] { receive_as("w1"); }).server_message(), refusal);
  EXPECT_TRUE(register_member("w1", true));
  EXPECT_THAT(ids_of(receive_as("w1")), ElementsAre(id));  // it keeps its position
}

TEST_P(CoopVerbsTest, ANormalConsumerWithABatchBecomesNoGroup) {
  subscribe();
  send_and_tick();
  const auto messages = receive();
  EXPECT_EQ(
      thrown<Error>([&] { register_member("w1", true); }).server_message(),
      "cannot convert active normal consumer " + group() + " on queue " + queue().name() + " to cooperative main");
  EXPECT_TRUE(ack(messages.at(0).batch_id));
  EXPECT_TRUE(register_member("w1", true));
}

TEST_P(CoopVerbsTest, PlainVerbsRefuseGroupsAndMembers) {
  register_member("w1");
  EXPECT_EQ(thrown<Error>([&] { receive(); }).server_message(),
            "consumer " + group() + " on queue " + queue().name() +
                " is a cooperative main consumer; use cooperative receive/next_batch with a subconsumer");
  EXPECT_THAT(thrown<Error>([&] {
                call([&](Operations& ops) { return ops.receive(queue(), group() + ".w1"); });
              }).server_message(),
              HasSubstr("is a cooperative subconsumer; use receive_coop"));
  EXPECT_EQ(
      thrown<Error>([&] { call([&](Operations& ops) { return ops.unsubscribe(queue(), group()); }); }).server_message(),
      "cannot unregister cooperative main consumer with registered subconsumers");
}

TEST_P(CoopVerbsTest, NamesWithADotAreRefused) {
  EXPECT_EQ(thrown<Error>([&] { register_member("w.1"); }).server_message(),
            "cooperative subconsumer name must not contain dot: w.1");
  EXPECT_EQ(thrown<Error>([&] {
              call([&](Operations& ops) { return ops.receive_coop(queue(), "g.x", "w"); });
            }).server_message(),
            "cooperative consumer name must not contain dot: g.x");
}

TEST_P(CoopVerbsTest, ALimitBelowTheBatchSizeThrowsAndLosesNothing) {
  register_member("w1");
  const auto ids = send_batch({"1", "2", "3"});
  queue().tick();
  EXPECT_EQ(thrown<BatchOverflow>([&] { receive_as("w1", {2, std::nullopt}); }).limit(), 2);
  EXPECT_EQ(ids_of(receive_as("w1", {3, std::nullopt})), ids);
  EXPECT_EQ(ids_of(receive_as("w1", {4, std::nullopt})), ids);
  EXPECT_EQ(ids_of(receive_as("w1", {std::numeric_limits<std::int32_t>::max(), std::nullopt})), ids);
}

TEST_P(CoopVerbsTest, ReturnsTheWholeBatchUnlessLimited) {
  register_member("w1");
  const auto ids = send_batch(std::vector<Payload>(150, Payload{"1"}));  // the server's own default is 100
  queue().tick();
  EXPECT_EQ(ids_of(receive_as("w1")), ids);
}

TEST_P(CoopVerbsTest, OptionsOutOfRangeAreRefused) {
  for (const std::int32_t limit : {0, -1, std::numeric_limits<std::int32_t>::min()}) {
    EXPECT_EQ(class_thrown([&] { receive_as("w1", {limit, std::nullopt}); }), "std::invalid_argument") << limit;
  }
  for (const auto interval : {milliseconds{0}, milliseconds{-1}, milliseconds::max(), milliseconds::min()}) {
    EXPECT_EQ(class_thrown([&] { receive_as("w1", taking_over(interval)); }), "std::invalid_argument")
        << interval.count();
  }
  EXPECT_THAT(thrown<std::invalid_argument>([&] { receive_as("w1", taking_over(milliseconds{0})); }).what(),
              HasSubstr("dead_interval"));
}

TEST_P(CoopVerbsTest, NullsOfTheServerAreEmptyOptionals) {
  register_member("w1");
  const EventId id{sql().number("select pgque.insert_event(" + sql().quote(queue().name()) +
                                ", null, null, 'x1', null, null, null)")};
  queue().tick();
  const auto messages = receive_as("w1");
  ASSERT_THAT(ids_of(messages), ElementsAre(id));
  EXPECT_EQ(messages[0].type, std::nullopt);
  EXPECT_EQ(messages[0].payload, std::nullopt);
  EXPECT_EQ(messages[0].extra1, "x1");
  EXPECT_EQ(messages[0].extra2, std::nullopt);
  EXPECT_TRUE(ack(messages[0].batch_id));
}

}  // namespace
}  // namespace pgque::test
