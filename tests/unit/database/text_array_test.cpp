#include "database/text_array.hpp"

#include <limits>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::parse_int64_array;
using detail::TextArray;
using testing::ElementsAre;
using testing::IsEmpty;

// A string of bytes with NULs in it.
template <std::size_t n>
std::string bytes(const char (&literal)[n]) {
  return {literal, n - 1};
}

TEST(TextArray, IsAHeaderAloneWhenEmpty) {
  EXPECT_EQ((TextArray{0, 0}.bytes()), bytes("\0\0\0\0"       // no dimensions
                                             "\0\0\0\1"       // may contain NULL
                                             "\0\0\0\x19"));  // text
}

TEST(TextArray, IsOneDimensionWithEachElementsLengthAndBytes) {
  TextArray array{4, 10};
  array.add("ab");
  array.add(std::nullopt);
  array.add("");
  array.add("{\"x\",\\ \xC3\xBC}");
  EXPECT_EQ(array.bytes(), bytes("\0\0\0\1"
                                 "\0\0\0\1"
                                 "\0\0\0\x19"
                                 "\0\0\0\4"  // elements
                                 "\0\0\0\1"  // lower bound
                                 "\0\0\0\2"
                                 "ab"
                                 "\xFF\xFF\xFF\xFF"  // NULL
                                 "\0\0\0\0"
                                 "\0\0\0\x0A"
                                 "{\"x\",\\ \xC3\xBC}"));
}

TEST(TextArray, WritesLengthsInNetworkOrder) {
  TextArray array{1, 0x010203};
  array.add(std::string(0x010203, 'x'));
  EXPECT_EQ(array.bytes().substr(20, 4), bytes("\0\1\2\3"));
  EXPECT_EQ(array.bytes().size(), 24u + 0x010203u);
  EXPECT_EQ((TextArray{0x01020304, 0}.bytes().substr(12, 4)), bytes("\1\2\3\4"));
}

TEST(Int64Array, IsReadInOrder) {
  EXPECT_THAT(parse_int64_array("{}"), IsEmpty());
  EXPECT_THAT(parse_int64_array("{7}"), ElementsAre(7));
  EXPECT_THAT(parse_int64_array("{3,-1,2}"), ElementsAre(3, -1, 2));
  EXPECT_THAT(parse_int64_array("{9223372036854775807,-9223372036854775808}"),
              ElementsAre(std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()));
}

TEST(Int64Array, IsRefusedWhenMalformed) {
  for (const auto* text : {"",       "{",           "}",         "1",      "1,2",
                           "{1",     "1}",          "{a}",       "{1,}",   "{,1}",
                           "{,}",    "{1,,2}",      "{1 2}",     "{ 1}",   "{1;2}",
                           "{NULL}", "{1,NULL}",    "{{1},{2}}", "{1}{2}", "{1}x",
                           "x{1}",   "[2:3]={1,2}", "{1.5}",     "{+1}",   "{9223372036854775808}",
                           "{-}"}) {
    EXPECT_THROW(parse_int64_array(text), std::runtime_error) << text;
  }
}

}  // namespace
}  // namespace pgque::test
