// What send_batch stores.

#include <list>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

using SendBatchTest = WayTest;
INSTANTIATE_TEST_SUITE_P(By, SendBatchTest, testing::ValuesIn(every_way), way_name);

TEST_P(SendBatchTest, ReturnsOneAscendingIdPerPayloadInTheirOrder) {
  subscribe();
  const auto ids =
      send_batch({nlohmann::json{{"n", 1}}, nlohmann::json{{"n", 2}}, nlohmann::json{{"n", 3}}}, "batched");
  ASSERT_EQ(ids.size(), 3U);
  EXPECT_GT(static_cast<std::int64_t>(ids[0]), 0);
  EXPECT_LT(ids[0], ids[1]);
  EXPECT_LT(ids[1], ids[2]);
  const auto messages = deliver();
  EXPECT_EQ(ids_of(messages), ids);
  EXPECT_THAT(payloads_of(messages), ElementsAre(R"({"n":1})", R"({"n":2})", R"({"n":3})"));
  EXPECT_THAT(types_of(messages), ElementsAre("batched", "batched", "batched"));
}

TEST_P(SendBatchTest, AnEmptyListGivesNoIdsAndStoresNothing) {
  subscribe();
  EXPECT_THAT(send_batch({}), IsEmpty());
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(SendBatchTest, AnEmptyListDoesNotFindOutWhetherTheQueueExists) {
  EXPECT_THAT(call([](Operations& ops) { return ops.send_batch(unique_name("none"), "t", {}); }), IsEmpty());
}

TEST_P(SendBatchTest, AnEmptyTypeIsDefault) {
  subscribe();
  send_batch({"1", "2"}, "");
  send_batch({text("3")}, "");
  send_batch({"4", text("5")}, "");
  EXPECT_THAT(types_of(deliver()), ElementsAre("default", "default", "default", "default", "default"));
}

TEST_P(SendBatchTest, TellsJsonNullFromSqlNull) {
  subscribe();
  send_batch({nullptr});
  send_batch({std::nullopt});
  send_batch({nullptr, std::nullopt});
  EXPECT_THAT(payloads_of(deliver()), ElementsAre("null", std::nullopt, "null", std::nullopt));
}

TEST_P(SendBatchTest, MixedKindsOfPayloadKeepTheirOrderAndTheirKind) {
  subscribe();
  const auto ids = send_batch({R"({"b":1,"a":2})", text(R"({"b":1,"a":2})"), nullptr, std::nullopt, "42",
                               text("not json"), nlohmann::json{{"k", "v"}}, text(""), R"("s")"});
  ASSERT_EQ(ids.size(), 9U);
  const auto messages = deliver();
  EXPECT_EQ(ids_of(messages), ids);
  EXPECT_THAT(payloads_of(messages), ElementsAre(R"({"a": 2, "b": 1})", R"({"b":1,"a":2})", "null", std::nullopt, "42",
                                                 "not json", R"({"k":"v"})", "", R"("s")"));
}

TEST_P(SendBatchTest, KeepsWhatMeansSomethingInAnArrayLiteral) {
  subscribe();
  const std::vector<std::string> texts{"{}",         "{a,b}", ",",    "NULL", "null", "",   " ",
                                       "\"quoted\"", "\\",    "\\\"", "it's", "'",    "$1", "\x01\x7F\t\n"};
  const std::vector<Payload> payloads = [&] {
    std::vector<Payload> out;
    for (const auto& value : texts) out.push_back(text(value));
    return out;
  }();
  send_batch(payloads);
  std::vector<std::string> received;
  for (const auto& message : deliver()) received.push_back(message.payload.value());
  EXPECT_EQ(received, texts);
}

TEST_P(SendBatchTest, StoresNothingWhenOneJsonPayloadIsMalformed) {
  subscribe();
  EXPECT_EQ(thrown<Error>([&] { send_batch({"1", "{bad", "3"}); }).sqlstate(), "22P02");
  EXPECT_EQ(thrown<Error>([&] { send_batch({"1", text("x"), "{bad"}); }).sqlstate(), "22P02");
  EXPECT_EQ(thrown<Error>([&] { send_batch({"1", R"("\u0000")"}); }).sqlstate(), "22P05");
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(SendBatchTest, NamesTheFirstPayloadThatIsMalformedJson) {
  const auto explained = [](const std::string& argument) {
    return testing::HasSubstr("[SQLSTATE 22P02]: " + argument + ": is not JSON. Text is taken for JSON: ");
  };
  EXPECT_THAT(thrown<Error>([&] { send_batch({"1", "{bad", "[", "3"}); }).what(), explained("payloads[1]"));
  EXPECT_THAT(thrown<Error>([&] { send_batch({text("{x"), "1", "{bad"}); }).what(), explained("payloads[2]"));
  const auto send_events = [&](const std::vector<Event>& events) {
    call([&](Operations& ops) { ops.send_batch(queue(), events); });
  };
  EXPECT_THAT(thrown<Error>([&] { send_events({{"1", "t"}, {"{bad", "t"}}); }).what(), explained("events[1].payload"));
  EXPECT_THAT(thrown<Error>([&] {
                send_events({{text("x"), "t"}, {"{bad", "u", "key"}});
              }).what(),
              explained("events[1].payload"));
}

TEST_P(SendBatchTest, NamesTheFirstPayloadThatJsonbCannotHold) {
  const auto explained = [](const std::string& argument) {
    return testing::EndsWith(
        "[SQLSTATE 22P05]: " + argument +
        R"(: has the escape \u0000, which jsonb cannot hold; pgque::text("...") stores any text as it is)");
  };
  const char* const with_nul = R"("\u0000")";
  const char* const without = R"("\\u0000")";  // an escaped backslash
  EXPECT_THAT(thrown<Error>([&] { send_batch({without, with_nul, with_nul}); }).what(), explained("payloads[1]"));
  EXPECT_THAT(thrown<Error>([&] { send_batch({text(with_nul), "1", with_nul}); }).what(), explained("payloads[2]"));
  const auto send_events = [&](const std::vector<Event>& events) {
    call([&](Operations& ops) { ops.send_batch(queue(), events); });
  };
  EXPECT_THAT(thrown<Error>([&] {
                send_events({{"1", "t"}, {with_nul, "t"}});
              }).what(),
              explained("events[1].payload"));
  EXPECT_THAT(thrown<Error>([&] {
                send_events({{text(with_nul), "t"}, {with_nul, "u", "key"}});
              }).what(),
              explained("events[1].payload"));
  EXPECT_THAT(thrown<Error>([&] {
                send_batch({"1", "1e200000"});
              }).what(),
              testing::EndsWith("[SQLSTATE 22003]: a number in a payload is too large for jsonb; "
                                R"(pgque::text("...") stores any text as it is)"));
}

TEST_P(SendBatchTest, TakesAnyRangeOfPayloads) {
  subscribe();
  const auto send_range = [&](auto&& range) {
    return call([&](Operations& ops) { return ops.send_batch(queue(), "t", range); }).size();
  };
  const std::vector<nlohmann::json> constant{{{"n", 1}}, 2};
  EXPECT_EQ(send_range(constant), 2U);
  EXPECT_EQ(send_range(std::list<std::string>{"3", "4"}), 2U);
  const Payload array[] = {"5", text("x")};
  EXPECT_EQ(send_range(array), 2U);
  EXPECT_EQ(send_range(nlohmann::json::array({7})), 1U);
  EXPECT_EQ(send_range(std::vector<Payload>{"8"}), 1U);
  EXPECT_EQ(send_range(std::set<int>{}), 0U);
  EXPECT_THROW(send_range(nlohmann::json{{"n", 1}}), std::invalid_argument);
  EXPECT_THAT(payloads_of(deliver()), ElementsAre(R"({"n":1})", "2", "3", "4", "5", "x", "7", "8"));
}

TEST_P(SendBatchTest, StoresNothingWhenOnePayloadIsNotUtf8AndNamesIt) {
  subscribe();
  const auto error = thrown<std::invalid_argument>([&] { send_batch({text("fine"), text("bad \xFF")}); });
  EXPECT_STREQ(error.what(), "payloads[1]: is not valid UTF-8 at offset 4");
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(SendBatchTest, StoresTenThousandPayloadsInOrder) {
  subscribe();
  constexpr int count = 10'000;
  std::vector<Payload> payloads;
  for (int i = 0; i < count; ++i) payloads.push_back(nlohmann::json{{"n", i}});
  const auto ids = send_batch(payloads);
  ASSERT_EQ(ids.size(), std::size_t{count});
  const auto messages = deliver();
  ASSERT_EQ(ids_of(messages), ids);
  for (int i = 0; i < count; ++i) {
    ASSERT_EQ(messages[static_cast<std::size_t>(i)].payload, "{\"n\":" + std::to_string(i) + '}');
  }
}

// Upstream's TypeScript client stores a function in a batch as JSON null. Here neither is a payload at all.
static_assert(!std::is_convertible_v<void (*)(), Payload>);
static_assert(!std::is_convertible_v<void*, Payload>);
static_assert(!std::is_convertible_v<char, Payload>, "a lone character would silently become a number");

}  // namespace
}  // namespace pgque::test
