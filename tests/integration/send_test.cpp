// What send stores.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

#include "messages.hpp"
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

// Upstream's Python client once took extra columns in its Event and dropped them.
template <class... Args>
using MakesEvent = decltype(Event{std::declval<Args>()...});
template <class Void, class... Args>
struct MakesEventTest : std::false_type {};
template <class... Args>
struct MakesEventTest<std::void_t<MakesEvent<Args...>>, Args...> : std::true_type {};
static_assert(MakesEventTest<void, Payload, std::string>::value);
static_assert(!MakesEventTest<void, Payload, std::string, std::string>::value, "an event has no extra columns");

}  // namespace
}  // namespace pgque::test
