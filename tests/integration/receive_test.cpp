// What receive returns, and when.

#include <limits>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class ReceiveTest : public WayTest {
 protected:
  // Sends n events, ticks and returns their ids.
  std::vector<EventId> send_and_tick(int n) {
    std::vector<Payload> payloads;
    for (int i = 1; i <= n; ++i) payloads.push_back(std::to_string(i));
    const auto ids = send_batch(payloads);
    queue().tick();
    return ids;
  }
};
INSTANTIATE_TEST_SUITE_P(By, ReceiveTest, testing::ValuesIn(main_ways), way_name);

TEST_P(ReceiveTest, FindsNothingBeforeTheTick) {
  subscribe();
  send("1");
  EXPECT_THAT(receive(), IsEmpty());
}

TEST_P(ReceiveTest, FindsNothingAfterATickWithoutEvents) {
  subscribe();
  queue().empty_tick();
  EXPECT_THAT(receive(), IsEmpty());
}

TEST_P(ReceiveTest, ReturnsTheMessageAfterTheTick) {
  subscribe();
  const auto id = send(R"({"a":1})", "order.created");
  const auto messages = deliver();
  ASSERT_THAT(messages, SizeIs(1));
  const auto& message = messages[0];
  EXPECT_EQ(message.msg_id, id);
  EXPECT_GT(static_cast<std::int64_t>(message.batch_id), 0);
  EXPECT_EQ(message.type, "order.created");
  EXPECT_EQ(message.payload, R"({"a": 1})");
  EXPECT_EQ(message.retry_count, std::nullopt);
  EXPECT_EQ(message.extra1, std::nullopt);
  EXPECT_EQ(message.extra2, std::nullopt);
  EXPECT_EQ(message.extra3, std::nullopt);
  EXPECT_EQ(message.extra4, std::nullopt);
}

TEST_P(ReceiveTest, ReturnsTheSameBatchUntilItIsAcked) {
  subscribe();
  send_and_tick(3);
  const auto first = receive();
  ASSERT_THAT(first, SizeIs(3));
  send_and_tick(1);  // a later event does not get into the open batch
  const auto second = receive();
  EXPECT_EQ(ids_of(second), ids_of(first));
  EXPECT_EQ(second[0].batch_id, first[0].batch_id);
}

TEST_P(ReceiveTest, GoesOnToTheNextBatchAfterTheAck) {
  subscribe();
  send_and_tick(1);
  const auto first = receive();
  ASSERT_THAT(first, SizeIs(1));
  EXPECT_TRUE(ack(first[0].batch_id));
  EXPECT_THAT(receive(), IsEmpty());
  const auto ids = send_and_tick(1);
  const auto second = receive();
  EXPECT_EQ(ids_of(second), ids);
  EXPECT_NE(second[0].batch_id, first[0].batch_id);
}

TEST_P(ReceiveTest, ReturnsTheWholeBatchUnlessLimited) {
  subscribe();
  const auto ids = send_and_tick(250);  // the server's own default is 100
  EXPECT_EQ(ids_of(receive()), ids);
}

TEST_P(ReceiveTest, EveryConsumerGetsEveryMessage) {
  const auto other = consumer_name() + "_other";
  subscribe();
  call([&](Operations& ops) { return ops.subscribe(queue(), other); });
  const auto ids = send_and_tick(10);
  const auto mine = receive();
  const auto others = call([&](Operations& ops) { return ops.receive(queue(), other); });
  EXPECT_EQ(ids_of(mine), ids);
  EXPECT_EQ(ids_of(others), ids);
  EXPECT_TRUE(ack(mine[0].batch_id));
  EXPECT_TRUE(ack(others[0].batch_id));
}

// Upstream returns the first rows of the batch, and its ack then finishes those that were never seen.
TEST_P(ReceiveTest, ALimitBelowTheBatchSizeThrowsAndLosesNothing) {
  subscribe();
  const auto ids = send_and_tick(5);
  for (const std::int32_t limit : {4, 1}) {
    const auto error = thrown<BatchOverflow>([&] { receive(limit); });
    EXPECT_EQ(error.limit(), limit);
    EXPECT_FALSE(error.retryable());
  }
  const auto messages = receive(5);
  EXPECT_EQ(ids_of(messages), ids);
  EXPECT_TRUE(ack(messages[0].batch_id));
}

TEST_P(ReceiveTest, ALimitOfTheBatchSizeOrMoreReturnsAll) {
  subscribe();
  const auto ids = send_and_tick(3);
  EXPECT_EQ(ids_of(receive(3)), ids);
  EXPECT_EQ(ids_of(receive(4)), ids);
  EXPECT_EQ(ids_of(receive(std::numeric_limits<std::int32_t>::max() - 1)), ids);
  EXPECT_EQ(ids_of(receive(std::numeric_limits<std::int32_t>::max())), ids);
}

TEST_P(ReceiveTest, ALimitBelowOneIsRefused) {
  subscribe();
  EXPECT_STREQ(thrown<std::invalid_argument>([&] { receive(0); }).what(), "max_messages: must be at least 1, is 0");
  thrown<std::invalid_argument>([&] { receive(-1); });
  thrown<std::invalid_argument>([&] { receive(std::numeric_limits<std::int32_t>::min()); });
}

TEST_P(ReceiveTest, NullsOfTheServerAreEmptyOptionals) {
  subscribe();
  const auto insert = [&](const std::string& arguments) {
    return EventId{sql().number("select pgque.insert_event(" + sql().quote(queue().name()) + ", " + arguments + ")")};
  };
  const auto null = insert("null, null, 'x1', null, '', 'x4'");
  const auto empty = insert("'', '', null, null, null, null");
  const auto messages = deliver();
  ASSERT_THAT(ids_of(messages), ElementsAre(null, empty));
  EXPECT_EQ(messages[0].type, std::nullopt);
  EXPECT_EQ(messages[0].payload, std::nullopt);
  EXPECT_EQ(messages[0].extra1, "x1");
  EXPECT_EQ(messages[0].extra2, std::nullopt);
  EXPECT_EQ(messages[0].extra3, "");
  EXPECT_EQ(messages[0].extra4, "x4");
  EXPECT_EQ(messages[1].type, "");
  EXPECT_EQ(messages[1].payload, "");
  EXPECT_EQ(messages[1].extra1, std::nullopt);
  EXPECT_TRUE(ack(messages[0].batch_id));
}

TEST_P(ReceiveTest, KeepsIdsThatADoubleCannotHold) {
  constexpr std::int64_t above_doubles = 9007199254740993;  // 2^53 + 1
  subscribe();
  const auto sequence =
      sql().value("select queue_event_seq from pgque.queue where queue_name = " + sql().quote(queue().name()));
  sql()("select setval(" + sql().quote(sequence.value()) + ", " + std::to_string(above_doubles - 1) + ")");
  EXPECT_EQ(send("1"), EventId{above_doubles});
  EXPECT_THAT(send_batch({"2"}), ElementsAre(EventId{above_doubles + 1}));
  const auto messages = deliver();
  ASSERT_THAT(ids_of(messages), ElementsAre(EventId{above_doubles}, EventId{above_doubles + 1}));
  nack(messages[0]);
  EXPECT_EQ(
      sql().number("select ev_id from pgque.retry_queue join pgque.queue on queue_id = ev_queue where queue_name = " +
                   sql().quote(queue().name())),
      above_doubles);
}

// How a session prints dates, and whether a backslash in its literals means something, must not matter.
class SessionSettingsTest : public WayTest {
 protected:
  void SetUp() override {
    WayTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    use_dsn(dsn_of_role_set({{"DateStyle", "SQL, DMY"},
                             {"TimeZone", "'Asia/Kathmandu'"},
                             {"IntervalStyle", "sql_standard"},
                             {"standard_conforming_strings", "off"},
                             {"search_path", "pg_catalog"},
                             {"extra_float_digits", "-15"},
                             {"bytea_output", "escape"}}));
  }
};
INSTANTIATE_TEST_SUITE_P(By, SessionSettingsTest, testing::ValuesIn(main_ways), way_name);

TEST_P(SessionSettingsTest, CreatedAtIsTheSendersTransactionToTheMicrosecond) {
  subscribe();
  std::int64_t begun = 0;
  EventId id{};
  while (begun % 1000 == 0) {
    pqxx::work work{sql().connection()};
    begun = work.exec("select (extract(epoch from now()) * 1000000)::int8")[0][0].as<std::int64_t>();
    if (begun % 1000 != 0) {
      id = Transaction{work}.send(queue(), "1");
      work.commit();
    }
  }
  const auto messages = deliver();
  ASSERT_THAT(ids_of(messages), ElementsAre(id));
  EXPECT_EQ(messages[0].created_at, Timestamp{std::chrono::microseconds{begun}});
}

TEST_P(SessionSettingsTest, TextAndDelaysArriveUnchanged) {
  subscribe();
  const std::string odd = R"(C:\temp\new \' ' \\ "x" E'\x41')";
  send(text(odd), R"(a\tb)");
  send_batch({text(odd)}, R"(a\tb)");
  auto messages = deliver();
  EXPECT_THAT(payloads_of(messages), ElementsAre(odd, odd));
  EXPECT_THAT(types_of(messages), ElementsAre(R"(a\tb)", R"(a\tb)"));
  queue().config("max_retries", "0");
  nack(messages[0], NackOptions{std::chrono::seconds{90}, odd});
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre(odd));
}

}  // namespace
}  // namespace pgque::test
