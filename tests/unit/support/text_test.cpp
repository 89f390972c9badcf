#include "support/text.hpp"

#include <random>
#include <stdexcept>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::check_consumer;
using detail::check_queue;
using detail::check_text;
using detail::first_invalid_byte;
using detail::sanitized;
using testing::StrEq;
using testing::ThrowsMessage;

// A plain restatement of the rule: decode one character and see whether it is written in the one way there is.
std::optional<std::size_t> first_invalid_byte_slowly(const std::string& text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned>(static_cast<unsigned char>(text[at])); };
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (length == 0 || i + length > text.size()) return i;
    unsigned code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length; ++k) {
      if (byte(i + k) >> 6 != 2) return i;
      code = code << 6 | (byte(i + k) & 0x3F);
    }
    const std::size_t needed = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (code == 0 || length != needed || (code >= 0xD800 && code <= 0xDFFF) || code > 0x10FFFF) return i;
    i += length;
  }
  return std::nullopt;
}

TEST(InvalidByte, IsNotFoundInValidText) {
  for (const auto* text : {"", "a", "\x01\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
                           "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "gr\xC3\xBC\xC3\x9F",
                           "\xE2\x82\xAC"
                           "1234567890",
                           "\xF0\x9F\x98\x80"}) {
    EXPECT_EQ(first_invalid_byte(text), std::nullopt) << testing::PrintToString(text);
  }
}

TEST(InvalidByte, IsFoundInWhatIsNoCharacter) {
  for (const auto* bytes : {"\x80",
                            "\xBF",  // continuations of nothing
                            "\xC0\x80",
                            "\xC0\xAF",
                            "\xC1\xBF",  // overlong, two bytes
                            "\xE0\x80\x80",
                            "\xE0\x9F\xBF",  // overlong, three
                            "\xF0\x80\x80\x80",
                            "\xF0\x8F\xBF\xBF",  // overlong, four
                            "\xED\xA0\x80",
                            "\xED\xAF\xBF",
                            "\xED\xB0\x80",
                            "\xED\xBF\xBF",  // surrogates
                            "\xF4\x90\x80\x80",
                            "\xF5\x80\x80\x80",
                            "\xF7\xBF\xBF\xBF",  // above U+10FFFF
                            "\xF8\x88\x80\x80\x80",
                            "\xFC\x84\x80\x80\x80\x80",
                            "\xFE",
                            "\xFF",  // no lead bytes at all
                            "\xC3",
                            "\xE2",
                            "\xE2\x82",
                            "\xF0",
                            "\xF0\x9F",
                            "\xF0\x9F\x98",  // cut off at the end
                            "\xC3"
                            "a",
                            "\xE2\x82"
                            "a",
                            "\xF0\x9F\x98"
                            "a",
                            "\xC3\xC3\xA4"}) {  // interrupted
    EXPECT_EQ(first_invalid_byte(bytes), 0u) << testing::PrintToString(bytes);
    // At every position relative to the eight bytes that are looked at together.
    for (std::size_t before = 1; before <= 17; ++before) {
      for (const std::size_t after : {std::size_t{0}, std::size_t{1}, std::size_t{8}}) {
        const auto text = std::string(before, 'a') + bytes + std::string(after, 'a');
        EXPECT_EQ(first_invalid_byte(text), before) << testing::PrintToString(text);
      }
    }
  }
}

TEST(InvalidByte, IsEveryNul) {
  for (std::size_t at = 0; at < 20; ++at) {
    std::string text(20, '\x7F');
    text[at] = '\0';
    EXPECT_EQ(first_invalid_byte(text), at);
    text.assign(20, '\x01');
    text[at] = '\0';
    EXPECT_EQ(first_invalid_byte(text), at);
  }
}

TEST(InvalidByte, IsNotLookedForBeyondTheEnd) {
  const std::string text{"abcdefgh\xE2\x82\xAC"};
  EXPECT_EQ(first_invalid_byte(std::string_view{text}.substr(0, 10)), 8u);
  EXPECT_EQ(first_invalid_byte(std::string_view{text}.substr(0, 8)), std::nullopt);
}

TEST(InvalidByte, IsWhereASlowerImplementationFindsIt) {
  std::mt19937 random{20240229};  // the same texts each time
  const auto below = [&](unsigned limit) { return random() % limit; };
  const std::vector<std::string> pieces{"a",
                                        "\x7F",
                                        "\xC2\x80",
                                        "\xDF\xBF",
                                        "\xE0\xA0\x80",
                                        "\xED\x9F\xBF",
                                        "\xEF\xBF\xBF",
                                        "\xF0\x90\x80\x80",
                                        "\xF4\x8F\xBF\xBF",
                                        "12345678"};
  for (int round = 0; round < 50'000; ++round) {
    std::string text;
    for (auto count = below(12); count > 0; --count) text += pieces[below(static_cast<unsigned>(pieces.size()))];
    // Damage about half of them.
    if (!text.empty() && below(2) == 0) text[below(static_cast<unsigned>(text.size()))] = static_cast<char>(below(256));
    ASSERT_EQ(first_invalid_byte(text), first_invalid_byte_slowly(text)) << testing::PrintToString(text);
  }
}

TEST(CheckText, NamesTheArgumentAndTheOffset) {
  EXPECT_NO_THROW(check_text("type", ""));
  EXPECT_NO_THROW(check_text("type", "gr\xC3\xBC\xC3\x9F"));
  EXPECT_THAT([] { check_text("type", std::string_view("ab\0", 3)); },
              ThrowsMessage<std::invalid_argument>(
                  StrEq("type: contains a NUL byte, which PostgreSQL cannot store, at offset 2")));
  EXPECT_THAT([] { check_text("reason", "a\xFF"); },
              ThrowsMessage<std::invalid_argument>(StrEq("reason: is not valid UTF-8 at offset 1")));
}

TEST(CheckConsumer, WantsAName) {
  EXPECT_NO_THROW(check_consumer("consumer", "c"));
  EXPECT_NO_THROW(check_consumer("consumer", std::string(1000, 'c')));
  EXPECT_THAT([] { check_consumer("consumer", ""); },
              ThrowsMessage<std::invalid_argument>(StrEq("consumer: must not be empty")));
  EXPECT_THAT([] { check_consumer("name", "\xC3"); },
              ThrowsMessage<std::invalid_argument>(StrEq("name: is not valid UTF-8 at offset 0")));
}

// The whole message, so that nothing of the DSN is in it.
TEST(CheckConsumer, RefusesADsnWithoutShowingIt) {
  for (const auto* dsn :
       {"postgresql://u:s3cret@h/db", "postgres://", "host=h password=s3cret", "password = s3cret",
        "sslpassword=s3cret", "passwords of users: password\t=x", "PASSWORD=s3cret", "host=h PassWord =s3cret"}) {
    EXPECT_THAT([&] { check_consumer("name", dsn); },
                ThrowsMessage<std::invalid_argument>(StrEq("name: is a DSN, which is not shown here, and not a name")))
        << dsn;
    EXPECT_THAT([&] { check_queue(dsn); },
                ThrowsMessage<std::invalid_argument>(StrEq("queue: is a DSN, which is not shown here, and not a name")))
        << dsn;
  }
}

TEST(LooksLikeDsn, IsNotSaidOfOrdinaryNames) {
  for (const auto* name : {"", "orders", "orders@eu", "a:b", "a:/b", "//", "password", "passwords", "password ",
                           "password_reset=1", "reset-password", "host=h"}) {
    EXPECT_FALSE(detail::looks_like_dsn(name)) << name;
  }
}

TEST(CheckQueue, WantsOneTo57Bytes) {
  EXPECT_NO_THROW(check_queue("q"));
  EXPECT_NO_THROW(check_queue(std::string(57, 'q')));
  EXPECT_THAT([] { check_queue(std::string(58, 'q')); },
              ThrowsMessage<std::invalid_argument>(StrEq("queue: the name has 58 bytes, PgQue allows at most 57")));
  EXPECT_THAT([] { check_queue(""); }, ThrowsMessage<std::invalid_argument>(StrEq("queue: must not be empty")));
  EXPECT_THAT([] { check_queue("\x80"); },
              ThrowsMessage<std::invalid_argument>(StrEq("queue: is not valid UTF-8 at offset 0")));
}

TEST(CheckQueue, CountsBytesAndNotCharacters) {
  std::string name;
  for (int i = 0; i < 19; ++i) name += "\xE2\x82\xAC";
  EXPECT_NO_THROW(check_queue(name));
  EXPECT_THROW(check_queue(name + "x"), std::invalid_argument);
}

TEST(Sanitized, LeavesValidTextAlone) {
  EXPECT_EQ(sanitized("", 10), "");
  EXPECT_EQ(sanitized("gr\xC3\xBC\xC3\x9F", 100), "gr\xC3\xBC\xC3\x9F");
}

TEST(Sanitized, ReplacesEachInvalidByte) {
  EXPECT_EQ(sanitized("a\xFF"
                      "b",
                      100),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(sanitized(std::string_view("a\0b", 3), 100),
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_EQ(sanitized("\xE2\x82", 100), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Sanitized, CutsBetweenCharacters) {
  const std::string text{"a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80z"};  // 1 + 2 + 3 + 4 + 1 bytes
  const std::vector<std::size_t> lengths{0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
  for (std::size_t longest = 0; longest < lengths.size(); ++longest) {
    EXPECT_EQ(sanitized(text, longest), text.substr(0, lengths[longest])) << longest;
  }
  EXPECT_EQ(sanitized("ab\xFF", 4), "ab");  // nor within a replacement
}

TEST(AsciiOnly, HasOneQuestionMarkForEachOtherCharacter) {
  EXPECT_EQ(detail::ascii_only(""), "");
  EXPECT_EQ(detail::ascii_only("plain ~\n"), "plain ~\n");
  EXPECT_EQ(detail::ascii_only("a\xC3\xBC\xE2\x82\xAC\xF0\x9F\x98\x80\xEF\xBF\xBDz"), "a????z");
}

TEST(IsAscii, IsFalseForEachOtherCharacter) {
  EXPECT_TRUE(detail::is_ascii(""));
  EXPECT_TRUE(detail::is_ascii("plain ~\x7F"));
  EXPECT_FALSE(detail::is_ascii("caf\xC3\xA9"));
  EXPECT_FALSE(detail::is_ascii("\x80"));
}

TEST(Sanitized, IsValidForAnyInput) {
  std::mt19937 random{7};
  for (int round = 0; round < 5'000; ++round) {
    std::string text(random() % 30, ' ');
    for (char& c : text) c = static_cast<char>(random() % 256);
    const std::size_t longest = random() % 40;
    const auto out = sanitized(text, longest);
    ASSERT_EQ(first_invalid_byte(out), std::nullopt) << testing::PrintToString(text);
    ASSERT_LE(out.size(), longest);
  }
}

}  // namespace
}  // namespace pgque::test
