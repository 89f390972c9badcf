#include <pgque/payload.hpp>

#include <deque>
#include <memory>
#include <memory_resource>
#include <type_traits>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {

// A type that this file teaches to be a payload.
struct Temperature {
  int degrees;
};

// One that is text and would have an encoder as well: text wins.
struct Label {
  operator std::string_view() const { return "\"label\""; }
};

// Text as some libraries have it.
struct CText {
  const char* text;
  operator const char*() const { return text; }
};

struct Opaque {};
enum class Colour { red };

}  // namespace pgque::test

template <>
struct pgque::PayloadEncoder<pgque::test::Temperature> {
  static Payload encode(const test::Temperature& value) { return text(std::to_string(value.degrees) + " C"); }
};
// One that says what is to become of bytes.
template <>
struct pgque::PayloadEncoder<std::deque<std::byte>> {
  static Payload encode(const std::deque<std::byte>& value) { return text(std::to_string(value.size()) + " bytes"); }
};
template <>
struct pgque::PayloadEncoder<pgque::test::Label> {
  static Payload encode(const test::Label&) { return "\"encoded\""; }
};

namespace pgque::test {
namespace {

using testing::IsEmpty;
using testing::Optional;
using testing::StartsWith;
using testing::ThrowsMessage;
using Format = Payload::Format;

TEST(Payload, IsJsonWhenMadeFromText) {
  const std::string string{R"({"a": 1})"};
  const std::string_view view{string};
  const char* const pointer = string.c_str();
  for (const Payload& payload : {Payload{string}, Payload{view}, Payload{pointer}, Payload{R"({"a": 1})"}}) {
    EXPECT_THAT(payload.text(), Optional(string));
    EXPECT_EQ(payload.format(), Format::json);
  }
}

TEST(Payload, NeverMakesAJsonStringOfText) {
  const Payload payload = "hello";
  EXPECT_THAT(payload.text(), Optional(std::string{"hello"}));
  EXPECT_EQ(payload.format(), Format::json);  // so the server refuses it
}

TEST(Payload, KeepsNulBytesForTheCheckThatRefusesThem) {
  EXPECT_THAT(Payload{std::string_view("1\0x", 3)}.text(), Optional(std::string("1\0x", 3)));
}

TEST(Payload, IsJsonNullWhenMadeFromNullptr) {
  const Payload payload = nullptr;
  EXPECT_THAT(payload.text(), Optional(std::string{"null"}));
  EXPECT_EQ(payload.format(), Format::json);
}

TEST(Payload, IsSqlNullWhenMadeFromNullopt) {
  const Payload payload = std::nullopt;
  EXPECT_EQ(payload.text(), std::nullopt);
  EXPECT_EQ(payload.format(), Format::text);
}

TEST(Payload, RefusesANullPointer) {
  const char* const pointer = nullptr;
  EXPECT_THAT([&] { Payload{pointer}; }, ThrowsMessage<std::invalid_argument>(StartsWith("payload: null pointer")));
}

TEST(Payload, IsVerbatimWhenMadeWithText) {
  for (const Payload& payload : {text(" not {json "), Payload::verbatim(" not {json ")}) {
    EXPECT_THAT(payload.text(), Optional(std::string{" not {json "}));
    EXPECT_EQ(payload.format(), Format::text);
  }
  EXPECT_THAT(text("").text(), Optional(std::string{}));  // empty is not NULL
}

TEST(Payload, IsWhatTheEncoderMakesOfAValue) {
  const Payload payload = Temperature{21};
  EXPECT_THAT(payload.text(), Optional(std::string{"21 C"}));
  EXPECT_EQ(payload.format(), Format::text);
}

TEST(Payload, DoesNotSendTextThroughAnEncoder) {
  const Payload payload = Label{};
  EXPECT_THAT(payload.text(), Optional(std::string{"\"label\""}));
}

TEST(Payload, IsJsonWhenMadeFromTextOfAnyType) {
  const std::pmr::string string{"{}"};
  const std::optional<CText> optional = CText{"{}"};
  const auto* const utf8 = u8"{}";
  for (const Payload& payload : {Payload{string}, Payload{std::optional{string}}, Payload{CText{"{}"}},
                                 Payload{optional}, Payload{utf8}, Payload{u8"{}"}}) {
    EXPECT_THAT(payload.text(), Optional(std::string{"{}"}));
    EXPECT_EQ(payload.format(), Format::json);
  }
  EXPECT_THAT([] { Payload{CText{nullptr}}; }, ThrowsMessage<std::invalid_argument>(StartsWith("payload: null")));
}

TEST(Payload, IsTextOrSqlNullWhenMadeFromAnOptionalText) {
  const std::optional<std::string> text{"{}"};
  const Payload payload = text;
  EXPECT_THAT(payload.text(), Optional(std::string{"{}"}));
  EXPECT_EQ(payload.format(), Format::json);
  const Payload null = std::optional<std::string_view>{};
  EXPECT_EQ(null.text(), std::nullopt);
  EXPECT_EQ(null.format(), Format::text);
}

TEST(Payload, IsTheStoredTextOfAMessage) {
  Message message;
  message.payload = " not {json ";
  const Payload copied = message;
  EXPECT_THAT(message.payload, Optional(std::string{" not {json "}));
  const Payload moved = std::move(message);
  for (const Payload& payload : {copied, moved}) {
    EXPECT_THAT(payload.text(), Optional(std::string{" not {json "}));
    EXPECT_EQ(payload.format(), Format::text);
  }
  EXPECT_EQ(Payload{Message{}}.text(), std::nullopt);
}

TEST(Payload, IsOfCharactersWhatTheirEncoderMakesOfThem) {
  const Payload payload = std::deque<std::byte>(3);
  EXPECT_THAT(payload.text(), Optional(std::string{"3 bytes"}));
}

TEST(Payload, CanBeCopiedAndMoved) {
  Payload original = text("a");  // not const: that a copy of it is no "value to be encoded" is part of the test
  Payload copy{original};
  const Payload moved{std::move(copy)};
  for (const Payload& payload : {original, moved}) {
    EXPECT_THAT(payload.text(), Optional(std::string{"a"}));
    EXPECT_EQ(payload.format(), Format::text);
  }
}

// All of these would be guesses. Numbers and bools become payloads with pgque/json.hpp only; asking about them here
// would define the same templates differently in json_test.cpp.
static_assert(!std::is_constructible_v<Payload, Opaque>);
static_assert(!std::is_constructible_v<Payload, Colour>);
static_assert(!std::is_constructible_v<Payload, char>);
static_assert(!std::is_constructible_v<Payload, wchar_t>);
static_assert(!std::is_constructible_v<Payload, const wchar_t*>);
static_assert(!std::is_constructible_v<Payload, const void*>);
static_assert(!std::is_constructible_v<Payload, const unsigned char*>);
static_assert(!std::is_constructible_v<Payload, std::unique_ptr<std::string>>);
static_assert(!std::is_constructible_v<Payload, std::optional<Opaque>>);
static_assert(!std::is_constructible_v<Payload, std::wstring>);
static_assert(!std::is_constructible_v<Payload, std::u16string_view>);
static_assert(!std::is_constructible_v<Payload, const char32_t (&)[3]>);
static_assert(!std::is_constructible_v<Payload, std::optional<std::wstring>>);
static_assert(!std::is_default_constructible_v<Payload>);

TEST(Event, HasTheTypeDefaultUnlessGiven) {
  const Event event{"1"};
  EXPECT_EQ(event.type, "default");
  const Event typed{Temperature{3}, "weather"};
  EXPECT_EQ(typed.type, "weather");
  EXPECT_THAT(typed.payload.text(), Optional(std::string{"3 C"}));
}

TEST(Event, IsAnAggregateThatMayHaveAKeyAndHeaders) {
  Event event{"1", "t"};
  EXPECT_EQ(event.key, std::nullopt);
  EXPECT_THAT(event.headers, IsEmpty());
  event.key = "customer-7";
  event.headers["traceparent"] = "00-1-2-01";
  const Event same{"1", "t", "customer-7", {{"traceparent", "00-1-2-01"}}};
  EXPECT_EQ(same.key, event.key);
  EXPECT_EQ(same.headers, event.headers);
}

TEST(ToEvent, KeepsWhatIsSentOn) {
  Message message;
  message.payload = " {not json";
  message.type = "order.created";
  message.extra1 = "customer-7";
  message.extra4 = R"({"a": "b"})";
  const auto event = to_event(message);
  EXPECT_THAT(event.payload.text(), Optional(std::string{" {not json"}));
  EXPECT_EQ(event.payload.format(), Format::text);
  EXPECT_EQ(event.type, "order.created");
  EXPECT_EQ(event.key, "customer-7");
  EXPECT_EQ(event.headers, (Headers{{"a", "b"}}));
}

TEST(ToEvent, MakesNothingOfWhatIsNotThere) {
  for (const auto& text : {std::optional<std::string>{}, std::optional<std::string>{""}}) {
    Message message;
    message.extra1 = message.extra4 = text;
    message.extra2 = message.extra3 = "x";
    const auto event = to_event(message);
    EXPECT_EQ(event.payload.text(), std::nullopt);
    EXPECT_EQ(event.type, "default");
    EXPECT_EQ(event.key, std::nullopt);
    EXPECT_THAT(event.headers, IsEmpty());
  }
}

}  // namespace
}  // namespace pgque::test
