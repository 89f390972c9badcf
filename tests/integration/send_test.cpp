// What send stores.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::Optional;

using SendTest = WayTest;
INSTANTIATE_TEST_SUITE_P(By, SendTest, testing::ValuesIn(every_way), way_name);

TEST_P(SendTest, ReturnsThePositiveIdUnderWhichTheMessageArrives) {
  subscribe();
  const auto id = send(R"({"a": 1})");
  EXPECT_GT(static_cast<std::int64_t>(id), 0);
  EXPECT_THAT(ids_of(deliver()), ElementsAre(id));
}

TEST_P(SendTest, KeepsTheTypeAndTakesAnEmptyOneForDefault) {
  subscribe();
  send("1", "order.created");
  send("2", "");
  send("3", "default");
  call([&](Operations& ops) { return ops.send(queue(), "4"); });
  EXPECT_THAT(types_of(deliver()), ElementsAre(Optional(std::string{"order.created"}), Optional(std::string{"default"}),
                                               Optional(std::string{"default"}), Optional(std::string{"default"})));
}

TEST_P(SendTest, AcceptsAnEvent) {
  subscribe();
  call([&](Operations& ops) { return ops.send(queue(), Event{R"({"k": true})", "typed"}); });
  call([&](Operations& ops) { return ops.send(queue(), Event{"2"}); });
  call([&](Operations& ops) { return ops.send(queue(), Event{"3", ""}); });
  const auto messages = deliver();
  EXPECT_THAT(payloads_of(messages), ElementsAre(R"({"k": true})", "2", "3"));
  EXPECT_THAT(types_of(messages), ElementsAre("typed", "default", "default"));
}

// As it was stored, and not as JSON: it need not be any, and NULL stays NULL.
TEST_P(SendTest, SendsAMessageOn) {
  subscribe();
  send(text(" {not json"), "order.created");
  send(std::nullopt, "order.gone");
  const auto received = deliver();
  ASSERT_EQ(received.size(), 2U);
  ack(received[0].batch_id);

  for (const auto& message : received) {
    call([&](Operations& ops) { return ops.send(queue(), message); });
    call([&](Operations& ops) { return ops.send(queue(), message, "again"); });
    call([&](Operations& ops) { return ops.send(queue(), Event{message, "event"}); });
  }
  call([&](Operations& ops) { return ops.send_batch(queue(), "batch", {received.begin(), received.end()}); });
  auto untyped = received[0];
  untyped.type = std::nullopt;
  call([&](Operations& ops) { return ops.send(queue(), untyped); });
  const auto messages = deliver();
  EXPECT_THAT(payloads_of(messages), ElementsAre(" {not json", " {not json", " {not json", std::nullopt, std::nullopt,
                                                 std::nullopt, " {not json", std::nullopt, " {not json"));
  EXPECT_THAT(types_of(messages), ElementsAre("order.created", "again", "event", "order.gone", "again", "event",
                                              "batch", "batch", "default"));
}

TEST_P(SendTest, TakesTheTextInAnOptionalForText) {
  subscribe();
  const std::optional<std::string> payload{R"({"a": 1})"};
  call([&](Operations& ops) { return ops.send(queue(), payload); });
  call([&](Operations& ops) { return ops.send(queue(), std::optional<std::string>{}); });
  call([&](Operations& ops) { return ops.send_batch(queue(), "t", {payload, std::optional<std::string>{}}); });
  EXPECT_THAT(payloads_of(deliver()), ElementsAre(payload, std::nullopt, payload, std::nullopt));
}

TEST_P(SendTest, SeveralBeforeOneTickArriveInOneBatchInTheOrderSent) {
  subscribe();
  std::vector<EventId> sent;
  for (const auto* payload : {"1", "2", "3", "4", "5"}) sent.push_back(send(payload));
  const auto messages = deliver();
  EXPECT_EQ(ids_of(messages), sent);
  EXPECT_THAT(payloads_of(messages), ElementsAre("1", "2", "3", "4", "5"));
  for (const auto& message : messages) EXPECT_EQ(message.batch_id, messages[0].batch_id);
}

TEST_P(SendTest, KeepsUnicodeInTypeAndPayload) {
  subscribe();
  const std::string payload = R"({"text": "日本語 🚀 Ünïcödé Привет \u0301"})";
  const std::string type = "注文.作成🎉";
  send(payload, type);
  send(text("naïve 👩‍👩‍👧 \xF0\x9F\x98\x80"), type);
  const auto messages = deliver();
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_EQ(payload_as(messages[0]), nlohmann::json::parse(payload));
  EXPECT_EQ(messages[1].payload, "naïve 👩‍👩‍👧 \xF0\x9F\x98\x80");
  EXPECT_THAT(types_of(messages), ElementsAre(type, type));
}

TEST_P(SendTest, KeepsSpecialCharactersInTheType) {
  subscribe();
  const std::vector<std::string> types{"order.created", "order-created", "a/b/c",         "ns:type",
                                       "it's",          R"("quoted")",   R"(back\slash)", "$1 %s ?",
                                       "; drop",        "new\nline",     "tab\there",     " "};
  for (const auto& type : types) send("1", type);
  std::vector<std::string> received;
  for (const auto& message : deliver()) received.push_back(message.type.value());
  EXPECT_EQ(received, types);
}

TEST_P(SendTest, KeepsAMebibyteOfPayload) {
  subscribe();
  std::string big(1024 * 1024, 'x');
  for (std::size_t i = 0; i < big.size(); i += 1000) big[i] = static_cast<char>('a' + i / 1000 % 26);
  send(nlohmann::json{{"data", big}});
  send("\"" + big + "\"");
  send(text(big));
  const auto messages = deliver();
  ASSERT_EQ(messages.size(), 3U);
  EXPECT_EQ(payload_as(messages[0]).at("data").get<std::string>(), big);
  EXPECT_EQ(payload_as(messages[1]).get<std::string>(), big);
  EXPECT_EQ(messages[2].payload.value(), big);
}

class HugeSendTest : public WayTest {};
INSTANTIATE_TEST_SUITE_P(By, HugeSendTest, testing::Values(Way::client, Way::callers_work), way_name);

TEST_P(HugeSendTest, KeepsTwentyMebibytesOfPayload) {
  subscribe();
  std::string huge(20 * 1024 * 1024, '\'');  // quotes double where the text is written as a literal
  huge.back() = 'z';
  send(text(huge));
  send_batch({text(huge)});
  const auto messages = deliver();
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_TRUE(messages[0].payload == huge);
  EXPECT_TRUE(messages[1].payload == huge);
}

// PostgreSQL would close the connection, and nobody would know whether the event is stored.
TEST_P(HugeSendTest, AGibibyteIsRefusedBeforeItIsSent) {
  subscribe();
  {
    const auto gibibyte = text(std::string(std::size_t{1} << 30U, 'x'));
    EXPECT_THAT(thrown<std::invalid_argument>([&] { send(gibibyte); }).what(), testing::HasSubstr("1 GiB"));
  }
  {
    std::vector<Payload> halves;
    for (int i = 0; i < 2; ++i) halves.push_back(text(std::string(std::size_t{1} << 29U, 'x')));
    EXPECT_THAT(thrown<std::invalid_argument>([&] { send_batch(halves); }).what(), testing::HasSubstr("1 GiB"));
  }
  {
    std::vector<Event> halves;
    for (int i = 0; i < 2; ++i) halves.push_back({text(std::string(std::size_t{1} << 29U, 'x')), "t", "key"});
    const auto send = [&] { call([&](Operations& ops) { return ops.send_batch(queue(), halves); }); };
    EXPECT_THAT(thrown<std::invalid_argument>(send).what(), testing::HasSubstr("1 GiB"));
  }
  send("1");  // the connection is good
  EXPECT_THAT(payloads_of(deliver()), ElementsAre("1"));
}

}  // namespace
}  // namespace pgque::test
