#include <pgque/json.hpp>

#include <array>
#include <deque>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory_resource>
#include <optional>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// As many programs have it, because nlohmann_json before 3.12 knows no optionals.
template <class T>
struct nlohmann::adl_serializer<std::optional<T>> {
  static void to_json(json& out, const std::optional<T>& value) {
    if (value) {
      out = *value;
    } else {
      out = nullptr;
    }
  }
  static void from_json(const json& in, std::optional<T>& value) {
    if (in.is_null()) {
      value.reset();
    } else {
      value = in.get<T>();
    }
  }
};

namespace pgque::test {

struct Order {
  std::int64_t id = 0;
  std::vector<std::string> items;
};

void to_json(nlohmann::json& json, const Order& order) {
  json = {{"id", order.id}, {"items", order.items}};
}
void from_json(const nlohmann::json& json, Order& order) {
  json.at("id").get_to(order.id);
  json.at("items").get_to(order.items);
}

// Types whose authors say how they are written and read, whatever else they look like.
namespace own {

// A range of bytes, as boost::uuids::uuid is.
struct Uuid {
  std::array<std::uint8_t, 2> bytes{1, 2};
  auto begin() const { return bytes.begin(); }
  auto end() const { return bytes.end(); }
};
void to_json(nlohmann::json& json, const Uuid&) {
  json = "uuid";
}

struct Directory : std::map<std::string, Directory> {};
void to_json(nlohmann::json& json, const Directory& directory) {
  json = nlohmann::json::object();
  for (const auto& [name, content] : directory) json[name] = content;
}

struct Named {
  const char* name = "n";
  operator const char*() const { return name; }  // NOLINT(google-explicit-constructor)
};
void to_json(nlohmann::json& json, const Named& named) {
  json = {{"name", named.name}};
}

struct Temperatures {
  using value_type = float;
  std::vector<double> values;
};
void from_json(const nlohmann::json& json, Temperatures& temperatures) {
  json.get_to(temperatures.values);
}

struct Loud {
  std::string text;
  operator std::string() const { return text; }  // NOLINT(google-explicit-constructor)
};

enum class Small : std::uint8_t { none };
enum Plain : int { plain };

}  // namespace own
}  // namespace pgque::test

namespace pgque {
template <>
struct PayloadEncoder<std::optional<test::own::Loud>> {
  static Payload encode(const std::optional<test::own::Loud>& value) { return text(value ? value->text : "nobody"); }
};
}  // namespace pgque

namespace pgque::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

// The text that is sent, which has to be verbatim: it is JSON already.
template <class T>
std::string sent(const T& value) {
  const Payload payload = value;
  EXPECT_EQ(payload.format(), Payload::Format::text);
  return payload.text().value_or("NULL");
}

Message message_with(std::optional<std::string> payload) {
  Message message;
  message.msg_id = EventId{7};
  message.payload = std::move(payload);
  return message;
}

template <class T = json>
auto reading(const std::optional<std::string>& payload) {
  return [payload] { payload_as<T>(message_with(payload)); };
}

TEST(JsonPayload, IsTheCompactTextOfAValue) {
  EXPECT_EQ(sent(json{{"order_id", 42}, {"items", {1, nullptr, "x"}}}), R"({"items":[1,null,"x"],"order_id":42})");
  EXPECT_EQ(sent(json()), "null");
  EXPECT_EQ(sent(json::array()), "[]");
  EXPECT_EQ(sent(json::object()), "{}");
}

TEST(JsonPayload, IsAJsonStringOnlyWhenAskedFor) {
  EXPECT_EQ(sent(json("x")), R"("x")");
}

TEST(JsonPayload, LeavesTextToTheServer) {
  // Including json.hpp must not change what a string means.
  const std::string string{"hello"};
  for (const Payload& payload : {Payload{"hello"}, Payload{string}, Payload{std::string_view{string}}}) {
    EXPECT_EQ(payload.text(), "hello");
    EXPECT_EQ(payload.format(), Payload::Format::json);
  }
  EXPECT_EQ(Payload{nullptr}.format(), Payload::Format::json);
  EXPECT_EQ(Payload{std::nullopt}.text(), std::nullopt);
}

TEST(JsonPayload, LeavesTextInAnOptionalToTheServerWhateverSerialisesOptionals) {
  const std::string string{"{}"};
  for (const Payload& payload :
       {Payload{std::optional{string}}, Payload{std::optional{std::string_view{string}}},
        Payload{std::optional{string.c_str()}}, Payload{std::optional{std::pmr::string{string}}},
        Payload{std::optional<std::optional<std::string>>{string}}, Payload{std::optional{Payload{string}}}}) {
    EXPECT_EQ(payload.text(), "{}");
    EXPECT_EQ(payload.format(), Payload::Format::json);
  }
  for (const Payload& payload : {Payload{std::optional<std::string>{}}, Payload{std::optional<const char*>{}},
                                 Payload{std::optional<std::optional<std::string>>{std::optional<std::string>{}}}}) {
    EXPECT_EQ(payload.text(), std::nullopt);
  }
}

TEST(JsonPayload, LeavesAnyOtherOptionalToItsSerialiser) {
  EXPECT_EQ(sent(std::optional{42}), "42");
  EXPECT_EQ(sent(std::optional<int>{}), "null");
}

TEST(JsonPayload, IsTheStoredTextOfAMessage) {
  const auto message = message_with("{not json");
  EXPECT_EQ(sent(message), "{not json");
  EXPECT_EQ(sent(std::optional{message}), "{not json");
  EXPECT_EQ(sent(message_with(std::nullopt)), "NULL");
}

TEST(JsonPayload, TakesNonConstValues) {
  json value{{"a", 1}};
  const Payload from_lvalue = value;
  const Payload from_rvalue = json{{"a", 1}};
  EXPECT_EQ(from_lvalue.text(), R"({"a":1})");
  EXPECT_EQ(from_rvalue.text(), R"({"a":1})");
}

TEST(JsonPayload, KeepsTheOrderOfAnOrderedValue) {
  nlohmann::ordered_json value;
  value["z"] = 1;
  value["a"] = 2;
  EXPECT_EQ(sent(value), R"({"z":1,"a":2})");
}

TEST(JsonPayload, TakesEverythingWithToJson) {
  EXPECT_EQ(sent(Order{42, {"tea"}}), R"({"id":42,"items":["tea"]})");
  EXPECT_EQ(sent(std::vector<Order>{{1, {}}, {2, {}}}), R"([{"id":1,"items":[]},{"id":2,"items":[]}])");
}

TEST(JsonPayload, TakesContainersNumbersAndBools) {
  EXPECT_EQ(sent(std::vector<int>{1, 2}), "[1,2]");
  EXPECT_EQ(sent(std::vector<std::string>{}), "[]");
  EXPECT_EQ(sent(std::map<std::string, int>{{"a", 1}}), R"({"a":1})");
  EXPECT_EQ(sent(42), "42");
  EXPECT_EQ(sent(-1L), "-1");
  EXPECT_EQ(sent(2.5), "2.5");
  EXPECT_EQ(sent(true), "true");
  EXPECT_EQ(sent(false), "false");
}

TEST(JsonPayload, KeepsLargeNumbersExact) {
  EXPECT_EQ(sent(std::int64_t{9007199254740993}), "9007199254740993");  // 2^53 + 1 is no double
  EXPECT_EQ(sent(std::numeric_limits<std::int64_t>::max()), "9223372036854775807");
  EXPECT_EQ(sent(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(sent(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(sent(0.1), "0.1");
}

TEST(JsonPayload, MakesNullOfWhatJsonHasNoNumberFor) {
  EXPECT_EQ(sent(std::numeric_limits<double>::quiet_NaN()), "null");
  EXPECT_EQ(sent(std::numeric_limits<double>::infinity()), "null");
}

// A character would become a number, a pointer a bool.
static_assert(!std::is_constructible_v<Payload, char>);
static_assert(!std::is_constructible_v<Payload, signed char>);
static_assert(!std::is_constructible_v<Payload, unsigned char>);
static_assert(!std::is_constructible_v<Payload, wchar_t>);
static_assert(!std::is_constructible_v<Payload, char16_t>);
static_assert(!std::is_constructible_v<Payload, char32_t>);
static_assert(!std::is_constructible_v<Payload, const void*>);
static_assert(!std::is_constructible_v<Payload, const int*>);

// And so would the characters of these. What the compiler says about them, tests/unit/refused_test.cmake checks.
template <class... T>
constexpr bool none_is_a_payload = (!std::is_constructible_v<Payload, T> && ...);
static_assert(none_is_a_payload<std::wstring, std::u16string, std::u32string, std::wstring_view, std::u16string_view,
                                std::u32string_view, const wchar_t*, const char16_t (&)[3]>);
static_assert(none_is_a_payload<std::vector<char>, std::vector<unsigned char>, std::deque<wchar_t>, std::array<char, 3>,
                                std::vector<std::byte>, std::byte, const unsigned char (&)[3]>);
static_assert(none_is_a_payload<std::optional<std::wstring>, std::optional<char>, std::vector<std::u16string>,
                                std::map<std::string, std::vector<char>>, std::pair<std::string, char>,
                                std::tuple<int, std::optional<std::vector<char>>>, std::vector<const wchar_t*>>);

TEST(JsonPayload, TakesCharactersAndTextThatAreSaidToBeJson) {
  EXPECT_EQ(sent(json(std::vector<unsigned char>{1, 2})), "[1,2]");
  EXPECT_EQ(sent(json(std::wstring(1, L'a'))), "[97]");
  EXPECT_EQ(sent(json(std::optional<std::string>{"{}"})), R"("{}")");
  EXPECT_EQ(sent(std::map<std::string, std::vector<std::string>>{{"a", {"b"}}}), R"({"a":["b"]})");
}

TEST(JsonPayload, RefusesANulCharacterInAnyString) {
  const std::string nul("a\0b", 3);
  const auto refused = ThrowsMessage<std::invalid_argument>(StartsWith("payload: "));
  EXPECT_THAT([&] { Payload{json(nul)}; }, refused);
  const json key{{nul, 1}};
  EXPECT_THAT([&] { Payload{key}; }, refused);
  const json nested{1, {{"x", json::array({nul})}}};
  EXPECT_THAT([&] { Payload{nested}; }, refused);
  EXPECT_THAT([&] { Payload{std::vector<std::string>{nul}}; }, refused);
  // Behind a backslash, which is written as two.
  EXPECT_THAT([&] { Payload{json("\\" + std::string("\0", 1))}; }, refused);
}

TEST(JsonPayload, TakesABackslashFollowedByU0000) {
  EXPECT_EQ(sent(json(R"(\u0000)")), R"("\\u0000")");
  EXPECT_EQ(sent(json(R"(\\u0000)")), R"("\\\\u0000")");
  EXPECT_EQ(sent(json(std::string("\x01", 1) + "u0000")), R"("\u0001u0000")");
}

TEST(EscapedNul, IsFoundBehindAnEvenNumberOfBackslashes) {
  EXPECT_TRUE(detail::has_escaped_nul(R"("\u0000")"));
  EXPECT_TRUE(detail::has_escaped_nul(R"(\u0000)"));
  EXPECT_FALSE(detail::has_escaped_nul(R"("\\u0000")"));
  EXPECT_TRUE(detail::has_escaped_nul(R"("\\\u0000")"));
  EXPECT_FALSE(detail::has_escaped_nul(R"("\\\\u0000")"));
  EXPECT_TRUE(detail::has_escaped_nul(R"("\\u0000\u0000")"));
  EXPECT_FALSE(detail::has_escaped_nul(R"("\\u0000\\u0000")"));
  EXPECT_FALSE(detail::has_escaped_nul(R"(\\u0000)"));
  EXPECT_FALSE(detail::has_escaped_nul(R"("\u0001")"));
  EXPECT_FALSE(detail::has_escaped_nul("u0000"));
  EXPECT_FALSE(detail::has_escaped_nul(""));
}

TEST(JsonPayload, RefusesInvalidUtf8) {
  for (const auto* bytes : {"\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\xAF"}) {
    EXPECT_THAT([&] { Payload{json(bytes)}; },
                ThrowsMessage<std::invalid_argument>(StartsWith("payload: cannot be written as JSON")));
  }
}

TEST(JsonPayload, RefusesTheResultOfAFailedParse) {
  // dump() writes it as <discarded>, which is not JSON.
  EXPECT_THROW(Payload{json::parse("{", nullptr, false)}, std::invalid_argument);
}

TEST(PayloadAs, ReadsAValue) {
  EXPECT_EQ(payload_as(message_with(R"({"a": [1, 2.5, "x", null]})")), (json{{"a", {1, 2.5, "x", nullptr}}}));
  EXPECT_EQ(payload_as(message_with("null")), json());
}

TEST(PayloadAs, ReadsEverythingWithFromJson) {
  const auto order = payload_as<Order>(message_with(R"({"id": 42, "items": ["tea", "milk"]})"));
  EXPECT_EQ(order.id, 42);
  EXPECT_THAT(order.items, ElementsAre("tea", "milk"));
  EXPECT_THAT(payload_as<std::vector<int>>(message_with("[1,2]")), ElementsAre(1, 2));
  EXPECT_EQ(payload_as<std::string>(message_with("\"x\"")), "x");
  EXPECT_TRUE(payload_as<bool>(message_with("true")));
}

TEST(PayloadAs, KeepsTheOrderOfAnOrderedValue) {
  EXPECT_EQ(payload_as<nlohmann::ordered_json>(message_with(R"({"z":1,"a":2})")).dump(), R"({"z":1,"a":2})");
}

TEST(PayloadAs, ReadsLargeNumbersExactly) {
  EXPECT_EQ(payload_as<std::int64_t>(message_with("9007199254740993")), 9007199254740993);
  EXPECT_EQ(payload_as<std::int64_t>(message_with("9223372036854775807")), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(payload_as<std::int64_t>(message_with("-9223372036854775808")), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(payload_as<std::uint64_t>(message_with("9223372036854775808")), std::uint64_t{1} << 63);
  EXPECT_EQ(payload_as(message_with("9007199254740993")).dump(), "9007199254740993");
}

// What a number reads as; for one that does not fit, why not.
template <class T>
std::string read_as(const std::string& number) {
  try {
    return json(payload_as<T>(message_with(number))).dump();
  } catch (const PayloadError& error) {
    const std::string expected = "read the payload of message 7: it has not the expected shape: ";
    const std::string what = error.what();
    EXPECT_EQ(what.substr(0, expected.size()), expected);
    return what.substr(std::min(expected.size(), what.size()));
  }
}

constexpr const char* no_int = "a number does not fit into int32_t, a whole number from -2147483648 to 2147483647";
constexpr const char* no_unsigned = "a number does not fit into uint32_t, a whole number from 0 to 4294967295";
constexpr const char* no_int64 =
    "a number does not fit into int64_t, a whole number from -9223372036854775808 to 9223372036854775807";
constexpr const char* no_uint64 = "a number does not fit into uint64_t, a whole number from 0 to 18446744073709551615";

TEST(PayloadAs, RefusesANumberThatDoesNotFit) {
  EXPECT_EQ(read_as<int>("3000000000"), no_int);
  EXPECT_EQ(read_as<int>("-2147483649"), no_int);
  EXPECT_EQ(read_as<unsigned>("-1"), no_unsigned);
  EXPECT_EQ(read_as<unsigned>("4294967296"), no_unsigned);
  EXPECT_EQ(read_as<std::int64_t>("18446744073709551615"), no_int64);
  EXPECT_EQ(read_as<std::int64_t>("9223372036854775808"), no_int64);
  EXPECT_EQ(read_as<std::int64_t>("-9223372036854775809"), no_int64);
  EXPECT_EQ(read_as<std::int64_t>("1e30"), no_int64);
  EXPECT_EQ(read_as<std::int64_t>("-1e300"), no_int64);
  EXPECT_EQ(read_as<std::uint64_t>("18446744073709551616"), no_uint64);
  EXPECT_EQ(read_as<std::uint64_t>("-9223372036854775808"), no_uint64);
  EXPECT_EQ(read_as<short>("32768"), "a number does not fit into int16_t, a whole number from -32768 to 32767");
  EXPECT_EQ(read_as<std::int8_t>("-129"), "a number does not fit into int8_t, a whole number from -128 to 127");
  EXPECT_EQ(read_as<std::uint8_t>("256"), "a number does not fit into uint8_t, a whole number from 0 to 255");
  EXPECT_EQ(read_as<char16_t>("65536"), "a number does not fit into uint16_t, a whole number from 0 to 65535");
}

TEST(PayloadAs, DoesNotShowTheNumberThatDoesNotFit) {
  for (const auto* number : {"4111111111111111", "4111.11111111", "-4111111111111111"}) {
    EXPECT_THAT(reading<int>(number), ThrowsMessage<PayloadError>(Not(HasSubstr("4111"))));
    EXPECT_THAT(reading<std::vector<int>>("[" + std::string{number} + "]"),
                ThrowsMessage<PayloadError>(Not(HasSubstr("4111"))));
  }
}

TEST(PayloadAs, ReadsTheLargestAndTheSmallestNumbers) {
  EXPECT_EQ(read_as<int>("2147483647"), "2147483647");
  EXPECT_EQ(read_as<int>("-2147483648"), "-2147483648");
  EXPECT_EQ(read_as<unsigned>("4294967295"), "4294967295");
  EXPECT_EQ(read_as<std::uint64_t>("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(read_as<std::int8_t>("-128"), "-128");
  EXPECT_EQ(read_as<std::uint8_t>("255"), "255");
  EXPECT_EQ(read_as<char>("65"), "65");
}

TEST(PayloadAs, ReadsAWholeNumberWithAFractionOnlyIfNoDigitIsLost) {
  EXPECT_EQ(read_as<int>("1.9"), no_int);
  EXPECT_EQ(read_as<int>("-0.5"), no_int);
  EXPECT_EQ(read_as<int>("1.0"), "1");
  EXPECT_EQ(read_as<int>("-3e3"), "-3000");
  EXPECT_EQ(read_as<int>("3e9"), no_int);
  EXPECT_EQ(read_as<unsigned>("-1.0"), no_unsigned);
  EXPECT_EQ(read_as<std::int64_t>("9007199254740991.0"), "9007199254740991");
  EXPECT_EQ(read_as<std::int64_t>("9007199254740993.0"), no_int64);  // 2^53 + 1, which is 2^53 as a double
}

TEST(PayloadAs, ReadsAFloatingPointNumberOnlyIfItIsInRangeAndNoIntegerChanges) {
  EXPECT_EQ(read_as<double>("0.1"), "0.1");
  EXPECT_EQ(read_as<double>("1"), "1.0");
  EXPECT_EQ(read_as<double>("9007199254740992"), "9.007199254740992e+15");
  EXPECT_EQ(read_as<double>("9007199254740993"), "a number does not fit into double");
  EXPECT_EQ(read_as<double>("-9007199254740993"), "a number does not fit into double");
  EXPECT_EQ(read_as<double>("-9223372036854775808"), "-9.223372036854776e+18");
  EXPECT_EQ(read_as<float>("0.5"), "0.5");
  EXPECT_EQ(payload_as<float>(message_with("0.1")), 0.1F);
  EXPECT_EQ(read_as<float>("1e39"), "a number does not fit into float");
  EXPECT_EQ(read_as<float>("-1e300"), "a number does not fit into float");
  EXPECT_EQ(read_as<float>("1e-60"), "a number does not fit into float");
  EXPECT_EQ(read_as<float>("0.0"), "0.0");
  EXPECT_EQ(read_as<float>("16777217"), "a number does not fit into float");
  EXPECT_EQ(read_as<float>("16777216"), "16777216.0");
}

TEST(PayloadAs, KeepsBoolsAndNumbersApart) {
  EXPECT_THAT(reading<int>("true"), ThrowsMessage<PayloadError>(HasSubstr("a bool stands where a number is expected")));
  EXPECT_THAT(reading<double>("false"), ThrowsMessage<PayloadError>(HasSubstr("a bool stands")));
  EXPECT_THAT(reading<bool>("1"), ThrowsMessage<PayloadError>(HasSubstr("type must be boolean")));
}

TEST(PayloadAs, RefusesANumberThatDoesNotFitInContainersAndOptionals) {
  EXPECT_EQ(read_as<std::optional<int>>("3000000000"), no_int);
  EXPECT_EQ(read_as<std::optional<int>>("null"), "null");
  EXPECT_EQ(read_as<std::vector<int>>("[1,3000000000]"), no_int);
  EXPECT_EQ(read_as<std::set<unsigned>>("[1,-1]"), no_unsigned);
  EXPECT_EQ((read_as<std::array<int, 2>>("[1,1.5]")), no_int);
  EXPECT_EQ((read_as<std::map<std::string, int>>(R"({"a":1,"b":1e10})")), no_int);
  EXPECT_EQ((read_as<std::map<int, int>>("[[1,2],[3,3000000000]]")), no_int);
  EXPECT_EQ((read_as<std::pair<std::string, unsigned>>(R"(["a",-1])")), no_unsigned);
  EXPECT_EQ((read_as<std::tuple<int, double, int>>("[1,2.5,3.5]")), no_int);
  EXPECT_EQ((read_as<std::vector<std::vector<std::optional<int>>>>("[[1,null],[3000000000]]")), no_int);
  EXPECT_EQ((read_as<std::map<std::string, std::vector<int>>>(R"({"a":[1,2.0]})")), R"({"a":[1,2]})");
}

// This is between a program and nlohmann_json, and documented.
TEST(PayloadAs, DoesNotCheckWhatAFromJsonOfTheProgramReads) {
  const auto order = payload_as<Order>(message_with(R"({"id": 9223372036854775808, "items": []})"));
  EXPECT_EQ(order.id, std::numeric_limits<std::int64_t>::min());
}

TEST(PayloadAs, RefusesSqlNull) {
  EXPECT_THAT(reading(std::nullopt),
              ThrowsMessage<PayloadError>(testing::StrEq("read the payload of message 7: it is SQL NULL")));
}

TEST(PayloadAs, RefusesWhatIsNotJsonWithoutQuotingIt) {
  for (const auto* payload : {"hunter2", "{\"password\": hunter2}", "", "{\"hunter2\":", "\"hunter2", "[1,]hunter2",
                              "\"hunter2\xFF\"", "NaN"}) {
    EXPECT_THAT(reading(payload),
                ThrowsMessage<PayloadError>(AllOf(StartsWith("read the payload of message 7: it is not JSON, at byte "),
                                                  Not(HasSubstr("hunter2")), Not(HasSubstr("password")))))
        << payload;
  }
}

TEST(PayloadAs, SaysWhereItStopsBeingJson) {
  EXPECT_THAT(reading("[1,x]"), ThrowsMessage<PayloadError>(HasSubstr("at byte 4")));
}

TEST(PayloadAs, RefusesTheWrongShapeWithoutQuotingThePayload) {
  const auto wrong_shape = ThrowsMessage<PayloadError>(
      AllOf(StartsWith("read the payload of message 7: it has not the expected shape: "), Not(HasSubstr("hunter2"))));
  EXPECT_THAT(reading<int>("\"hunter2\""), wrong_shape);
  EXPECT_THAT(reading<Order>(R"({"hunter2": 1})"), wrong_shape);
  EXPECT_THAT(reading<Order>(R"({"id": "hunter2", "items": []})"), wrong_shape);
  EXPECT_THAT(reading<Order>(R"(["hunter2"])"), wrong_shape);
  EXPECT_THAT(reading<std::vector<int>>(R"({"hunter2": 1})"), wrong_shape);
  EXPECT_THAT(reading<std::string>("null"), wrong_shape);
}

TEST(PayloadAs, RefusesANumberThatIsTooLargeWithoutQuotingIt) {
  // To nlohmann_json this is neither a parse error nor a type error, and what() quotes the number.
  EXPECT_THAT(reading("[271828e999]"), ThrowsMessage<PayloadError>(Not(HasSubstr("271828"))));
}

TEST(PayloadAs, RefusesNumbersThatDoNotFitIntoAnEnum) {
  EXPECT_EQ(payload_as<own::Small>(message_with("255")), static_cast<own::Small>(255));
  EXPECT_THAT(reading<own::Small>("256"), ThrowsMessage<PayloadError>(HasSubstr("an enum of uint8_t")));
  EXPECT_THAT(reading<own::Plain>("4294967297"), ThrowsMessage<PayloadError>(HasSubstr("an enum of int32_t")));
  EXPECT_THAT(reading<std::vector<own::Plain>>("[4294967297]"), ThrowsMessage<PayloadError>(HasSubstr("an enum")));
}

TEST(PayloadAs, LeavesATypeWithItsOwnFromJsonToIt) {
  EXPECT_THAT(payload_as<own::Temperatures>(message_with("[0.1, 1e300]")).values, ElementsAre(0.1, 1e300));
}

TEST(JsonPayload, OfATypeWithItsOwnToJsonIsWhatThatMakesOfIt) {
  EXPECT_EQ(Payload{own::Uuid{}}.text(), R"("uuid")");
  EXPECT_EQ(Payload{std::vector<own::Uuid>(2)}.text(), R"(["uuid","uuid"])");
  EXPECT_EQ(Payload{own::Named{}}.text(), R"({"name":"n"})");
  own::Directory directory;
  directory["a"]["b"];
  EXPECT_EQ(Payload{directory}.text(), R"({"a":{"b":{}}})");
}

TEST(JsonPayload, OfTextInAWrapperIsText) {
  const std::string text = R"({"k":1})";
  for (const auto& payload : {Payload{std::cref(text)}, Payload{own::Loud{text}},
                              Payload{std::optional{std::cref(text)}}, Payload{std::filesystem::path{text}}}) {
    EXPECT_EQ(payload.text(), text);
    EXPECT_EQ(payload.format(), Payload::Format::json);
  }
}

TEST(JsonPayload, OfAnOptionalWithItsOwnEncoderIsWhatThatMakesOfIt) {
  EXPECT_EQ(Payload{std::optional<own::Loud>{}}.text(), "nobody");
  EXPECT_EQ((Payload{std::optional{own::Loud{"a"}}}.format()), Payload::Format::text);
}

TEST(PayloadDecoder, ReadsTheSameAsPayloadAs) {
  EXPECT_EQ(PayloadDecoder<Order>::decode(message_with(R"({"id": 1, "items": []})")).id, 1);
  EXPECT_EQ(PayloadDecoder<json>::decode(message_with("[1]")), json::array({1}));
  EXPECT_THROW(PayloadDecoder<Order>::decode(message_with("1")), PayloadError);
  EXPECT_THROW(PayloadDecoder<int>::decode(message_with("3000000000")), PayloadError);
  EXPECT_THROW(PayloadDecoder<std::vector<unsigned>>::decode(message_with("[-1]")), PayloadError);
}

}  // namespace
}  // namespace pgque::test
