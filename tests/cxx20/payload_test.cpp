// What char8_t, the type of u8"..." since C++20, becomes.

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

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
};

namespace pgque::test {
namespace {

using testing::Optional;
using testing::ThrowsMessage;

TEST(Utf8Payload, IsJsonTextAsAnyOtherText) {
  const std::u8string string = u8"{\"ä\": 1}";
  for (const Payload& payload :
       {Payload{u8"{\"ä\": 1}"}, Payload{string}, Payload{std::u8string_view{string}}, Payload{string.c_str()},
        Payload{std::optional{string}}, Payload{std::optional{std::u8string_view{string}}},
        Payload{std::optional{string.c_str()}}}) {
    EXPECT_THAT(payload.text(), Optional(std::string{"{\"\xC3\xA4\": 1}"}));
    EXPECT_EQ(payload.format(), Payload::Format::json);
  }
  const Payload implicit = u8"{}";
  EXPECT_THAT(implicit.text(), Optional(std::string{"{}"}));
}

TEST(Utf8Payload, IsSqlNullWhenMadeFromAnEmptyOptional) {
  EXPECT_EQ(Payload{std::optional<std::u8string>{}}.text(), std::nullopt);
}

TEST(Utf8Payload, RefusesANullPointer) {
  const char8_t* const pointer = nullptr;
  EXPECT_THAT([&] { Payload{pointer}; }, ThrowsMessage<std::invalid_argument>(testing::StartsWith("payload: null")));
}

static_assert(!std::is_constructible_v<Payload, char8_t>);
static_assert(!std::is_constructible_v<Payload, std::vector<char8_t>>);
static_assert(!std::is_constructible_v<Payload, std::vector<std::u8string>>);
static_assert(!std::is_constructible_v<Payload, std::optional<std::vector<char8_t>>>);

}  // namespace
}  // namespace pgque::test
