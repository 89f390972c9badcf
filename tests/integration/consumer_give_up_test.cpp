// Messages for which no further attempt is made: those that a handler gives up, and those whose last attempt failed.

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/consumer.hpp>
#include <pgque/json.hpp>
#include <pqxx/pqxx>

#include "row_trigger.hpp"
#include "writes_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConsumerGiveUpTest : public WritesTest {
 protected:
  std::vector<std::string> dead_letters() {
    std::vector<std::string> found;
    const auto rows =
        sql()("select ev_data, dl_reason from pgque.dead_letter where dl_queue_id = " + queue_id() + " order by ev_id");
    for (const auto& row : rows) found.push_back(std::string{row[0].c_str()} + ": " + row[1].c_str());
    return found;
  }
};

class GiveUpTest : public ConsumerGiveUpTest, public testing::WithParamInterface<const char*> {
 protected:
  // To be made before anything is sent.
  ConsumerOptions mode() {
    const std::string name = GetParam();
    if (name == "PerBatch" || name == "PerBatchPages") {
      auto with = options(TransactionMode::per_batch);
      if (name == "PerBatchPages") with.max_messages = 2;
      return with;
    }
    if (name == "Split") return options(TransactionMode::split);
    if (name == "Concurrent") {
      auto with = options();
      with.concurrency = 4;
      return with;
    }
    client().subscribe_subconsumer(queue(), group_name(), "w1");
    return worker("w1");
  }
};

INSTANTIATE_TEST_SUITE_P(ConsumerGiveUpTest, GiveUpTest,
                         testing::Values("PerBatch", "PerBatchPages", "Split", "Concurrent", "Worker"),
                         [](const auto& instance) { return std::string{instance.param}; });

TEST_P(GiveUpTest, MakesADeadLetterAtOnceAndKeepsTheOthers) {
  const auto with = mode();
  const auto ids = publish_numbers(5);
  Consumer consumer{dsn(), with};
  consumer.on("t", [](const Message& message) {
    if (*message.payload == "1") throw GiveUp{"no such product"};
    if (*message.payload == "3") throw GiveUp{"gone: ü"};
    if (*message.payload == "4") throw std::runtime_error{"busy"};
  });
  finish_batches(consumer);
  EXPECT_THAT(dead_letters(), ElementsAre("1: no such product", "3: gone: ü"));
  EXPECT_EQ(queue().retries(), 1);
  const auto stats = consumer.stats();
  EXPECT_EQ(stats.messages, 2U);
  EXPECT_EQ(stats.failures, 3U);
  EXPECT_EQ(stats.dead_letters, 2U);
  EXPECT_EQ(stats.retries, 3U);
  const auto dead = log.lines(LogEvent::dead_lettered);
  ASSERT_THAT(dead, SizeIs(2));
  EXPECT_EQ(dead[0].msg_id, ids[1]);
  EXPECT_EQ(dead[1].msg_id, ids[3]);
  EXPECT_EQ(dead[0].type, "t");
  EXPECT_EQ(dead[0].attempt, 1);
}

// Byte for byte, and a replay sends it again with its key and headers.
TEST_P(GiveUpTest, TheDeadLetterHasEverythingOfTheMessage) {
  const auto with = mode();
  Event event{text(" not JSON \\ \"ü\" {,} "), "t"};
  event.key = "customer 7";
  event.headers = {{"traceparent", "00-1"}};
  client().send(queue(), event);
  queue().tick();
  std::vector<Message> seen;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message) {
    seen.push_back(message);
    if (seen.size() == 1) throw RetryAfter{0s};
    if (seen.size() == 2) throw GiveUp{"enough"};
  });
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  queue().expire_retries();
  queue().tick();
  ASSERT_TRUE(wait_batches(consumer, 2));
  const auto letters = Admin{direct_dsn()}.dead_letters(queue());
  ASSERT_THAT(letters, SizeIs(1));
  EXPECT_EQ(letters[0].reason, "enough");
  EXPECT_EQ(letters[0].event_id, seen[1].msg_id);
  EXPECT_EQ(letters[0].retry_count, 1);
  EXPECT_EQ(letters[0].created_at, seen[1].created_at);
  EXPECT_EQ(letters[0].consumer, with.name);
  const auto replayed = Admin{direct_dsn()}.replay_dead_letter(letters[0].id);
  queue().tick();
  ASSERT_TRUE(wait_batches(consumer, 3));
  ASSERT_THAT(seen, SizeIs(3));
  EXPECT_EQ(seen[2].msg_id, replayed);
  EXPECT_EQ(seen[2].type, "t");
  EXPECT_EQ(seen[2].payload, " not JSON \\ \"ü\" {,} ");
  EXPECT_EQ(seen[2].extra1, "customer 7");
  EXPECT_EQ(seen[2].header("traceparent"), "00-1");
}

TEST_P(GiveUpTest, IsNackedWithItsReasonWhereTheRoleLacksTheGrantAndOneWarningNamesIt) {
  const auto with = mode();
  publish_numbers(3);
  const auto reader = dsn_of_role_with({"pgque_reader"});
  Consumer consumer{reader, with};
  consumer.on("t", [](const Message&) { throw GiveUp{"no such product"}; });
  {
    Running running{consumer};
    ASSERT_TRUE(wait_batches(consumer, 1));
    EXPECT_EQ(queue().retries(), 3);
    queue().config("max_retries", "1");
    queue().expire_retries();
    queue().tick();
    ASSERT_TRUE(wait_batches(consumer, 2));
  }
  const auto warnings = log.lines(LogEvent::give_up_refused);
  ASSERT_THAT(warnings, SizeIs(1));
  EXPECT_EQ(warnings[0].level, LogLevel::warning);
  EXPECT_THAT(warnings[0].message, HasSubstr("grant execute on function pgque.event_dead to"));
  EXPECT_THAT(dead_letters(), ElementsAre("0: no such product", "1: no such product", "2: no such product"));
  EXPECT_EQ(consumer.stats().dead_letters, 3U);
  EXPECT_EQ(log.count(LogEvent::dead_lettered), 3U);
}

TEST_P(GiveUpTest, ThatGrantAloneIsEnough) {
  const auto with = mode();
  publish("1");
  const auto reader = dsn_of_role_with({"pgque_reader"});
  sql()("grant execute on function pgque.event_dead to " + role_of(reader));
  Consumer consumer{reader, with};
  consumer.on("t", [](const Message&) { throw GiveUp{"no such product"}; });
  finish_batches(consumer);
  sql()("revoke execute on function pgque.event_dead from " + role_of(reader));
  EXPECT_THAT(dead_letters(), ElementsAre("1: no such product"));
  EXPECT_EQ(log.count(LogEvent::give_up_refused), 0U);
}

// The right is asked for once. If it is taken away after that, the batch comes again, and is nacked.
TEST_P(GiveUpTest, ARightThatIsTakenAwayStopsNoBatch) {
  const auto with = mode();
  publish("1");
  const auto reader = dsn_of_role_with({"pgque_reader"});
  sql()("grant execute on function pgque.event_dead to " + role_of(reader));
  Consumer consumer{reader, with};
  consumer.on("t", [](const Message&) { throw GiveUp{"no such product"}; });
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  sql()("revoke execute on function pgque.event_dead from " + role_of(reader));
  publish("2");
  ASSERT_TRUE(wait_batches(consumer, 2));
  EXPECT_THAT(dead_letters(), ElementsAre("1: no such product"));
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(log.count(LogEvent::nack_failed), 1U);
  EXPECT_EQ(log.count(LogEvent::give_up_refused), 1U);
}

TEST_P(GiveUpTest, CallbacksOfOnAckMayGiveUp) {
  const auto with = mode();
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([sql = insert(*message.payload), value = *message.payload](pqxx::transaction_base& transaction) {
      transaction.exec(sql);
      if (value == "1") throw GiveUp{"no room"};
    });
  });
  finish_batches(consumer);
  EXPECT_THAT(dead_letters(), ElementsAre("1: no room"));
  EXPECT_THAT(rows(), ElementsAre("0", "2"));
}

TEST_P(GiveUpTest, AHandlerOfSeveralMessagesGivesUpSomeOrAll) {
  const auto with = mode();
  publish_numbers(4, "some");
  Consumer consumer{dsn(), with};
  consumer.on_batch("some", [](const std::vector<Message>& messages, BatchContext& context) {
    for (const auto& message : messages) {
      if (*message.payload == "2") context.give_up(message, "not this one");
    }
  });
  consumer.on_batch("all", [](const std::vector<Message>&) { throw GiveUp{"none of them"}; });
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(dead_letters(), ElementsAre("2: not this one"));
  publish_numbers(2, "all");
  ASSERT_TRUE(wait_batches(consumer, 2));
  EXPECT_THAT(dead_letters(), ElementsAre("2: not this one", "0: none of them", "1: none of them"));
  EXPECT_EQ(consumer.stats().dead_letters, 3U);
}

TEST_P(GiveUpTest, APayloadOfTheWrongShapeIsGivenUpByOption) {
  auto with = mode();
  with.give_up_on_bad_payload = true;
  publish("\"text\"");
  publish("7");
  std::vector<int> seen;
  Consumer consumer{dsn(), with};
  consumer.on<int>("t", [&](const int& number) { seen.push_back(number); });
  finish_batches(consumer, 2);
  EXPECT_THAT(seen, ElementsAre(7));
  const auto letters = dead_letters();
  ASSERT_THAT(letters, SizeIs(1));
  EXPECT_THAT(letters[0], HasSubstr("it has not the expected shape"));
  EXPECT_EQ(queue().retries(), 0);
}

// Nobody knows which message of the call it was.
TEST_P(GiveUpTest, OfSeveralMessagesOneBadPayloadGivesUpNone) {
  auto with = mode();
  with.give_up_on_bad_payload = true;
  client().send_batch(queue(), "t", {Payload{"1"}, Payload{"\"text\""}});
  queue().tick();
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [](const std::vector<Message>& messages) {
    for (const auto& message : messages) payload_as<int>(message);
  });
  finish_batches(consumer);
  EXPECT_THAT(dead_letters(), IsEmpty());
  EXPECT_EQ(queue().retries(), 2);
}

// Then it is nacked, with the error in the log, and what is given up later is a dead letter again.
TEST_P(GiveUpTest, ADeadLetterThatCannotBeStoredStopsNoBatch) {
  auto with = mode();
  with.reconnect = {1ms, 10ms};
  publish("1");
  std::optional<RowTrigger> full;
  full.emplace("insert", "pgque.dead_letter", "new.dl_queue_id = " + queue_id(), "raise exception 'the disk is full';");
  Consumer consumer{dsn(), with};
  consumer.on("t", [](const Message&) { throw GiveUp{"no such product"}; });
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(queue().retries(), 1);
  const auto refused = log.lines(LogEvent::give_up_refused);
  ASSERT_THAT(refused, SizeIs(1));
  EXPECT_THAT(refused[0].message, HasSubstr("the disk is full"));
  full.reset();
  publish("2");
  ASSERT_TRUE(wait_batches(consumer, 2));
  EXPECT_THAT(dead_letters(), ElementsAre("2: no such product"));
}

TEST_P(GiveUpTest, WithoutThatOptionAPayloadOfTheWrongShapeIsRetried) {
  const auto with = mode();
  publish("\"text\"");
  Consumer consumer{dsn(), with};
  consumer.on<int>("t", [](const int&) {});
  finish_batches(consumer);
  EXPECT_THAT(dead_letters(), IsEmpty());
  EXPECT_EQ(queue().retries(), 1);
}

TEST_P(GiveUpTest, TheLastAttemptOfAMessageIsLoggedAndCounted) {
  const auto with = mode();
  queue().config("max_retries", "1");
  const auto id = publish("1");
  Consumer consumer{dsn(), with};
  consumer.on("t", [](const Message&) { throw RetryAfter{7s, "not yet"}; });
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(consumer.stats().dead_letters, 0U);
  EXPECT_EQ(consumer.stats().retries, 1U);
  queue().expire_retries();
  queue().tick();
  ASSERT_TRUE(wait_batches(consumer, 2));
  ASSERT_TRUE(wait_until([&] { return log.count(LogEvent::dead_lettered) == 1; }));
  const auto dead = log.lines(LogEvent::dead_lettered)[0];
  EXPECT_EQ(dead.msg_id, id);
  EXPECT_EQ(dead.attempt, 2);
  EXPECT_EQ(dead.type, "t");
  EXPECT_EQ(dead.level, LogLevel::warning);
  EXPECT_TRUE(dead.batch_id.has_value());
  EXPECT_EQ(consumer.stats().dead_letters, 1U);
  EXPECT_EQ(consumer.stats().retries, 2U);
  const auto failed = log.lines(LogEvent::handler_failed);
  ASSERT_THAT(failed, SizeIs(2));
  EXPECT_EQ(failed[0].type, "t");
  EXPECT_EQ(failed[0].retry_in, 7s);
}

// A dead letter of the time before the rewind is no reason to leave the message out.
TEST_F(ConsumerGiveUpTest, ARewoundConsumerReceivesWhatWasGivenUpBefore) {
  const auto first = sql().number("select sub_last_tick from pgque.subscription where sub_queue = " + queue_id());
  publish_numbers(3);
  {
    Consumer consumer{dsn(), options()};
    consumer.on("t", [](const Message& message) {
      if (*message.payload == "1") throw GiveUp{"not yet known"};
    });
    finish_batches(consumer);
  }
  EXPECT_THAT(dead_letters(), ElementsAre("1: not yet known"));
  Admin{direct_dsn()}.subscribe_at(queue(), consumer_name(), TickId{first});
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("0", "1", "2"));
}

TEST_F(ConsumerGiveUpTest, TheLatestErrorIsAlsoAHandlers) {
  publish_numbers(2);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [](const Message& message) { throw std::runtime_error{"no. " + *message.payload}; });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().last_error, "handler error: no. 1");
}

TEST_F(ConsumerGiveUpTest, TheLatestErrorIsAlsoACallbacksOfOnAck) {
  publish("1");
  Consumer consumer{dsn(), options(TransactionMode::split)};
  consumer.on("t", [](const Message&, Context& context) {
    context.on_ack([](pqxx::transaction_base&) { throw std::runtime_error{"no room"}; });
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().last_error, "on_ack() error: no room");
}

}  // namespace
}  // namespace pgque::test
