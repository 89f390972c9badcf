// What becomes of a payload between send and receive.

#include <cmath>
#include <map>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class PayloadTest : public WayTest {
 protected:
  // The payload as it arrives, sent alone and in a batch, which must make no difference.
  std::optional<std::string> round_trip(const Payload& payload) {
    if (!subscribed_) subscribe();
    subscribed_ = true;
    send(payload);
    send_batch({payload});
    const auto messages = deliver();
    if (messages.size() != 2) throw std::runtime_error{"expected two messages"};
    EXPECT_EQ(messages[0].payload, messages[1].payload);
    ack(messages[0].batch_id);
    return messages[0].payload;
  }

 private:
  bool subscribed_ = false;
};
INSTANTIATE_TEST_SUITE_P(By, PayloadTest, testing::ValuesIn(main_ways), way_name);

TEST_P(PayloadTest, JsonTextArrivesAsTheServersNormalForm) {
  EXPECT_EQ(round_trip("[1,2,3]"), "[1, 2, 3]");
  EXPECT_EQ(round_trip(std::string{R"({"b":1,  "aa":2,"a":3,"b":4})"}), R"({"a": 3, "b": 4, "aa": 2})");
  EXPECT_EQ(round_trip(std::string_view{" {} "}), "{}");
  EXPECT_EQ(round_trip(R"("a string")"), R"("a string")");
  EXPECT_EQ(round_trip("42"), "42");
  EXPECT_EQ(round_trip("true"), "true");
  EXPECT_EQ(round_trip("null"), "null");
}

TEST_P(PayloadTest, NullptrIsJsonNullAndNulloptIsSqlNull) {
  EXPECT_EQ(round_trip(nullptr), "null");
  EXPECT_EQ(round_trip(std::nullopt), std::nullopt);
}

// Nothing that upstream's clients send could be kept like this: they put everything through jsonb.
TEST_P(PayloadTest, TextArrivesVerbatim) {
  for (const auto* value : {R"({"b":1,  "a":2,"b":3})", R"("\u0000")", R"(\u0000)", "1e400", "0.10", "plain text", "",
                            " ", "null", "it's", R"(C:\temp\new)", "$1 $2 ?", "line\r\nline", "E'\\x41'"}) {
    EXPECT_EQ(round_trip(text(value)), value);
  }
}

TEST_P(PayloadTest, JsonValuesArriveEqual) {
  for (const auto& value :
       {json::object(), json::array(), json(nullptr), json(42), json(-1.5), json(0.1), json(true), json(false),
        json("text"), json(""), json("with \"quotes\" and \\ and \n"), json::array({1, "two", 3.0, nullptr, false}),
        json{{"nested", {{"deep", {{"deeper", json::array({json::object()})}}}}}}, json(9007199254740993),
        json(std::numeric_limits<std::int64_t>::min()), json(std::numeric_limits<std::uint64_t>::max())}) {
    const auto arrived = round_trip(value);
    ASSERT_TRUE(arrived);
    EXPECT_EQ(json::parse(*arrived), value);
  }
}

TEST_P(PayloadTest, ValuesOfOtherTypesAreSentAsTheJsonTheyAre) {
  EXPECT_EQ(round_trip(42), "42");
  EXPECT_EQ(round_trip(3.5), "3.5");
  EXPECT_EQ(round_trip(true), "true");
  EXPECT_EQ(round_trip(false), "false");
  EXPECT_EQ(round_trip(std::vector<int>{1, 2, 3}), "[1,2,3]");
  EXPECT_EQ(round_trip(std::map<std::string, int>{{"a", 1}}), R"({"a":1})");
  EXPECT_EQ(round_trip(nlohmann::ordered_json{{"z", 1}, {"a", 2}}), R"({"z":1,"a":2})");
  EXPECT_EQ(round_trip(std::nan("")), "null");
}

TEST_P(PayloadTest, MalformedJsonTextIsRefusedByTheServer) {
  subscribe();
  for (const auto* malformed : {"{bad", "", "order 45 created", "{'a': 1}", R"("\ud800")", "[1,]"}) {
    EXPECT_EQ(thrown<Error>([&] { send(malformed); }).sqlstate(), "22P02") << malformed;
  }
  EXPECT_EQ(thrown<Error>([&] { send(R"({"a": "\u0000"})"); }).sqlstate(), "22P05");
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(PayloadTest, MalformedJsonIsSaidToBeSoWithWhatToWriteInstead) {
  const auto advice =
      R"([SQLSTATE 22P02]: payload: is not JSON. Text is taken for JSON: pgque::text("...") stores any text as it is, and )"
      R"(json("...") is a JSON string. Perhaps type and payload are swapped: the order is send(queue, payload, type), )"
      "send_batch(queue, type, payloads), Event{payload, type}";
  EXPECT_THAT(thrown<Error>([&] { send("order.created", R"({"order_id": 42})"); }).what(), testing::EndsWith(advice));
  const Event keyed{"order.created", R"({"order_id": 42})", "key"};
  EXPECT_THAT(thrown<Error>([&] { call([&](Operations& ops) { ops.send(queue(), keyed); }); }).what(),
              testing::EndsWith(advice));
}

TEST_P(PayloadTest, JsonThatJsonbCannotHoldIsSaidToBeSoWithWhatToWriteInstead) {
  const std::string deep(1'000'000, '[');
  const struct {
    std::string json;
    const char* advice;
  } cases[] = {
      {R"({"a": "\u0000"})", R"([SQLSTATE 22P05]: payload: has the escape \u0000, which jsonb cannot hold)"},
      {"1e200000", "[SQLSTATE 22003]: a number in a payload is too large for jsonb"},
      {deep, "[SQLSTATE 54001]: a payload is nested too deeply for jsonb"},
  };
  for (const auto& one : cases) {
    const auto advice = one.advice + std::string{R"(; pgque::text("...") stores any text as it is)"};
    EXPECT_THAT(thrown<Error>([&] { send(one.json); }).what(), testing::EndsWith(advice));
    const Event keyed{one.json, "t", "key"};
    EXPECT_THAT(thrown<Error>([&] { call([&](Operations& ops) { ops.send(queue(), keyed); }); }).what(),
                testing::EndsWith(advice));
  }
}

TEST_P(PayloadTest, NoErrorTextShowsThePayload) {
  for (const auto* payload : {R"({"card": hunter2})", "hunter2:  hunter2", "{\n\"a\":\n hunter2:  x\n}"}) {
    EXPECT_THAT(thrown<Error>([&] { send(payload); }).what(), Not(HasSubstr("hunter2")));
    EXPECT_THAT(thrown<Error>([&] { send_batch({"1", payload}); }).what(), Not(HasSubstr("hunter2")));
    EXPECT_THAT(thrown<Error>([&] { send_batch({text("hunter2"), payload}); }).what(), Not(HasSubstr("hunter2")));
  }
  const auto missing = unique_name("none");
  EXPECT_THAT(
      thrown<QueueNotFound>([&] { call([&](Operations& ops) { return ops.send(missing, text("hunter2")); }); }).what(),
      Not(HasSubstr("hunter2")));
}

TEST(PayloadArgumentTest, JsonThatPostgresCannotStoreIsRefusedBeforeSending) {
  EXPECT_THAT(thrown<std::invalid_argument>([] {
                Payload{json(std::string{"a\0b", 3})};
              }).what(),
              HasSubstr("payload"));
  EXPECT_THAT(thrown<std::invalid_argument>([] { Payload{json("\xFF")}; }).what(), HasSubstr("payload"));
  EXPECT_NO_THROW(Payload{json(R"(a backslash, then u0000: \u0000)")});
}

TEST(PayloadArgumentTest, ANullPointerIsNoText) {
  const char* nothing = nullptr;
  thrown<std::invalid_argument>([&] { Payload{nothing}; });
}

}  // namespace
}  // namespace pgque::test
