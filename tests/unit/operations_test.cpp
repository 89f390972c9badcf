#include <pgque/json.hpp>

#include <array>
#include <forward_list>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/operations.hpp>

// What is made of the ranges that send_batch() takes. The rest is in tests/integration.

namespace pgque::test {
namespace operations {

struct Order {
  int id;
};
void to_json(nlohmann::json& json, const Order& order) {
  json = {{"id", order.id}};
}

// It encodes itself.
struct Reading {
  double celsius;
};

}  // namespace operations
}  // namespace pgque::test

template <>
struct pgque::PayloadEncoder<pgque::test::operations::Reading> {
  static Payload encode(const test::operations::Reading& reading) {
    return text(std::to_string(static_cast<int>(reading.celsius)) + " C");
  }
};

namespace pgque::test {
namespace {

using nlohmann::json;
using operations::Order;
using operations::Reading;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;
using Format = Payload::Format;

// The texts, with a mark for those that the server does not check.
template <class Range>
std::vector<std::string> made_of(Range&& range) {
  std::vector<std::string> out;
  for (const auto& payload : detail::payloads_of(range)) {
    out.push_back(payload.text().value_or("NULL") + (payload.format() == Format::text ? " as it is" : ""));
  }
  return out;
}

TEST(PayloadsOf, ARangeOfJsonValues) {
  EXPECT_THAT(made_of(std::vector<json>{{{"a", 1}}, 2, nullptr, "x"}),
              ElementsAre(R"({"a":1} as it is)", "2 as it is", "null as it is", R"("x" as it is)"));
}

TEST(PayloadsOf, ARangeOfAnyKind) {
  const auto wanted = ElementsAre(R"({"id":1} as it is)", R"({"id":2} as it is)");
  const std::vector<Order> constant{{1}, {2}};
  EXPECT_THAT(made_of(constant), wanted);
  EXPECT_THAT(made_of(std::list<Order>{{1}, {2}}), wanted);
  EXPECT_THAT(made_of(std::forward_list<Order>{{1}, {2}}), wanted);
  EXPECT_THAT(made_of(std::array<Order, 2>{{{1}, {2}}}), wanted);
  const Order array[] = {{1}, {2}};
  EXPECT_THAT(made_of(array), wanted);
  EXPECT_THAT(made_of(std::initializer_list<Order>{{1}, {2}}), wanted);
  EXPECT_THAT(made_of(std::vector<Order>{}), IsEmpty());
}

TEST(PayloadsOf, ARangeOfWhateverIsAPayload) {
  EXPECT_THAT(made_of(std::vector<std::string>{"1", "x"}), ElementsAre("1", "x"));
  EXPECT_THAT(made_of(std::set<std::string_view>{"1"}), ElementsAre("1"));
  const char* const texts[] = {"1", "2"};
  EXPECT_THAT(made_of(texts), ElementsAre("1", "2"));
  EXPECT_THAT(made_of(std::list<Payload>{"1", text("x")}), ElementsAre("1", "x as it is"));
  EXPECT_THAT(made_of(std::vector<std::optional<std::string>>{"1", std::nullopt}), ElementsAre("1", "NULL as it is"));
  EXPECT_THAT(made_of(std::vector<Reading>{{21.0}}), ElementsAre("21 C as it is"));
  EXPECT_THAT(made_of(std::vector<int>{1, 2}), ElementsAre("1 as it is", "2 as it is"));
  EXPECT_THAT(made_of(std::vector<bool>{true, false}), ElementsAre("true as it is", "false as it is"));
  EXPECT_THAT(made_of(std::vector<std::map<std::string, int>>{{{"a", 1}}}), ElementsAre(R"({"a":1} as it is)"));
  Message message;
  message.payload = "{not json";
  EXPECT_THAT(made_of(std::vector<Message>{message}), ElementsAre("{not json as it is"));
}

TEST(PayloadsOf, AnArrayInAJsonValueAndNoOtherJsonValue) {
  EXPECT_THAT(made_of(json::array({1, {{"a", 2}}})), ElementsAre("1 as it is", R"({"a":2} as it is)"));
  for (const auto& value : {json{{"a", 1}}, json(1), json("text"), json(nullptr)}) {
    EXPECT_THAT(
        [&] { detail::payloads_of(value); },
        ThrowsMessage<std::invalid_argument>(HasSubstr("payloads: a JSON value that is no array is one payload")))
        << value;
  }
  EXPECT_THROW(made_of(nlohmann::ordered_json{{"a", 1}}), std::invalid_argument);
}

}  // namespace
}  // namespace pgque::test
