#include "support/json_syntax.hpp"

#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace pgque::test {
namespace {

using detail::JsonSyntax;

TEST(JsonSyntax, TakesNumbersOfAnySize) {
  for (const auto* text : {"0", "-0", "1e999", "-1E+999", "1e-999", "1e309", "123456789012345678901234567890.5", "0e0",
                           "[1E999999]", R"({"n":1e309})"}) {
    EXPECT_TRUE(JsonSyntax::accepts(text)) << text;
  }
  for (const auto* text :
       {"", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "1 2", "0x1", "NaN", "Infinity", "1a"}) {
    EXPECT_FALSE(JsonSyntax::accepts(text)) << text;
  }
}

TEST(JsonSyntax, TakesAnyDepth) {
  constexpr int levels = 1'000'000;
  const auto array = std::string(levels, '[') + std::string(levels, ']');
  EXPECT_TRUE(JsonSyntax::accepts(array));
  EXPECT_FALSE(JsonSyntax::accepts(array + ']'));
  EXPECT_FALSE(JsonSyntax::accepts(array.substr(0, array.size() - 1)));
  std::string object;
  for (int i = 0; i < levels; ++i) object += "{\"\":";
  EXPECT_FALSE(JsonSyntax::accepts(object));
  EXPECT_TRUE(JsonSyntax::accepts(object + "null" + std::string(levels, '}')));
}

TEST(JsonSyntax, RefusesWhatIsNoText) {
  EXPECT_FALSE(JsonSyntax::accepts("\xEF\xBB\xBF{}"));  // a byte order mark
  EXPECT_FALSE(JsonSyntax::accepts("\"\xFF\""));
  EXPECT_FALSE(JsonSyntax::accepts(std::string{"\"\0\"", 3}));
  EXPECT_FALSE(JsonSyntax::accepts(std::string{"1\0", 2}));
}

TEST(JsonSyntax, TellsTheMembersOfAnObjectAsTheyAreWritten) {
  const auto members = [](const char* json) {
    std::vector<std::string> out;
    const auto found = JsonSyntax::members(json);
    for (const auto& member : found.value()) {
      out.push_back(std::string{member.name} + " is " + std::string{member.value});
    }
    return out;
  };
  EXPECT_THAT(members(" { } "), testing::IsEmpty());
  EXPECT_THAT(members(R"({"a":1e999,"b" : "}\"," , "\u0061":null})"),
              testing::ElementsAre(R"("a" is 1e999)", R"("b" is "}\",")", R"("\u0061" is null)"));
  EXPECT_THAT(members(R"({"a": {"b": [1, {"c": "]}"}], "d": {}} ,"":[ [] ], "a": -0.10})"),
              testing::ElementsAre(R"("a" is {"b": [1, {"c": "]}"}], "d": {}})", R"("" is [ [] ])", R"("a" is -0.10)"));
  for (const auto* json : {"1", "[]", "null", "\"{}\""}) EXPECT_FALSE(JsonSyntax::members(json)) << json;
}

// In texts that are nearly JSON, nlohmann_json finds the same.
TEST(JsonSyntax, AgreesWithNlohmann) {
  static const std::vector<std::string> pieces{"{",
                                               "}",
                                               "[",
                                               "]",
                                               ",",
                                               ":",
                                               "\"a\"",
                                               "\"\"",
                                               " ",
                                               "\n",
                                               "\t",
                                               "\r",
                                               "0",
                                               "12",
                                               "-",
                                               "1.5",
                                               "1e2",
                                               "2E-3",
                                               "true",
                                               "false",
                                               "null",
                                               "nul",
                                               "\"",
                                               "\\",
                                               "u",
                                               "\"\\u00e9\"",
                                               "\f",
                                               "+",
                                               ".",
                                               "e",
                                               "\\\"",
                                               "d83d",
                                               "\"\\ud83d\\ude00\"",
                                               "\"\\ud83d\"",
                                               "\"\\udead\"",
                                               "\"\\n\"",
                                               "\"\\q\"",
                                               "\"\xC3\xA9\"",
                                               "\x01",
                                               "00",
                                               "{\"a\":1}",
                                               "[1,2]",
                                               "[]",
                                               "{}",
                                               "\"\\u12\"",
                                               "\"\\uD83D\\u0041\""};
  std::mt19937 random{17};
  int json = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text;
    for (auto left = 1 + random() % 9; left > 0; --left) text += pieces[random() % pieces.size()];
    bool wanted = true;
    try {
      [[maybe_unused]] const auto value = nlohmann::json::parse(text);
    } catch (const nlohmann::json::parse_error&) {
      wanted = false;
    } catch (const nlohmann::json::out_of_range&) {
      continue;  // at a number that is too large for it, it stops reading
    }
    ASSERT_EQ(JsonSyntax::accepts(text), wanted) << text;
    json += wanted ? 1 : 0;
  }
  EXPECT_GT(json, 1000);
}

}  // namespace
}  // namespace pgque::test
