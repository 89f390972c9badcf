#include "support/headers.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace pgque::test {
namespace {

using detail::read_headers;
using detail::write_headers;

TEST(ReadHeaders, ReadsAnObjectOfStrings) {
  const struct {
    const char* json;
    Headers headers;
  } cases[] = {
      {"{}", {}},
      {" \t\r\n{ \n} ", {}},
      {R"({"a":"b"})", {{"a", "b"}}},
      {R"( { "a" : "b" , "c" : "" } )", {{"a", "b"}, {"c", ""}}},
      {R"({"":""})", {{"", ""}}},
      {R"({"a":"1","b":"2","a":"3"})", {{"a", "3"}, {"b", "2"}}},
      {R"({"\"\\\/\b\f\n\r\t":"\u0041\u00e9\u20AC\ud83D\uDe80"})", {{"\"\\/\b\f\n\r\t", "A\u00E9\u20AC\U0001F680"}}},
      {R"({"lowest":"\u0001\u0080\u0800\uFFFF\uD800\uDC00\uDBFF\uDFFF"})",
       {{"lowest", "\x01\xC2\x80\xE0\xA0\x80\xEF\xBF\xBF\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"}}},
      {"{\"日本語\":\"🚀\"}", {{"日本語", "🚀"}}},
      {R"({"nested":"{\"a\":[1]}"})", {{"nested", R"({"a":[1]})"}}},
  };
  for (const auto& [json, headers] : cases) EXPECT_EQ(read_headers(json), headers) << json;
}

TEST(ReadHeaders, AnythingElseIsNoHeaders) {
  for (const std::string_view text :
       {"", " ", "null", "1", "\"a\"", "[]", R"(["a","b"])", "{", "}", "{}}", "{}{}", "{},", "a{}", R"({"a":"b")",
        R"({"a":"b",})", R"({,"a":"b"})", R"({"a" "b"})", R"({"a":})", R"({:"b"})", R"({a:"b"})", R"({'a':'b'})",
        R"({"a":"b" "c":"d"})", R"({"a":"b"};)",
        // Values that are no strings.
        R"({"a":1})", R"({"a":null})", R"({"a":true})", R"({"a":["b"]})", R"({"a":{"b":"c"}})", R"({"a":"b","c":1})",
        // Strings that are none.
        R"({"a":"b)", R"({"a)", R"({"a":"\)", R"({"a":"\x"})", R"({"a":"\u"})", R"({"a":"\u12"})", R"({"a":"\u12G4"})",
        R"({"a":"\u+123"})", R"({"a":"\u-123"})", R"({"a":"\U0041"})", "{\"a\":\"tab\there\"}", "{\"a\":\"line\nend\"}",
        // What PostgreSQL's jsonb refuses.
        R"({"a":"\u0000"})", R"({"\u0000":"a"})", R"({"a":"\uD800"})", R"({"a":"\uDC00"})", R"({"a":"\uD800x"})",
        R"({"a":"\uD800\n"})", R"({"a":"\uD800\u0041"})", R"({"a":"\uD800\uD800"})", R"({"a":"\uDC00\uD800"})",
        "{\"a\":\"\xFF\"}", "{\"a\":\"\xC3\"}", "{\"a\":\"\xED\xA0\x80\"}", "\xEF\xBB\xBF{}"}) {
    EXPECT_EQ(read_headers(text), std::nullopt) << text;
  }
  EXPECT_EQ(read_headers(std::string_view{"{\"a\":\"b\0\"}", 10}), std::nullopt);
  EXPECT_EQ(read_headers(std::string_view{"{}\0", 3}), std::nullopt);
}

TEST(WriteHeaders, WritesWhatIsReadAgainHereAndElsewhere) {
  Headers headers{{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
                  {"", ""},
                  {"quotes \" ' \\ / {}[],:", "{\"a\":\"\\u0000\"}"},
                  {"日本語", "🚀 \u0301"}};
  for (char c = 1; c != 0x7F; ++c) headers["all"] += c;
  headers["all"] += '\x7F';
  const auto json = write_headers(headers);
  EXPECT_EQ(read_headers(json), headers);
  EXPECT_EQ(nlohmann::json::parse(json), nlohmann::json(headers));
}

TEST(WriteHeaders, WritesOneLineWithoutSpaces) {
  EXPECT_EQ(write_headers({}), "{}");
  EXPECT_EQ(write_headers({{"b", "2\n"}, {"a", "\x1F"}}), R"({"a":"\u001f","b":"2\u000a"})");
}

}  // namespace
}  // namespace pgque::test
