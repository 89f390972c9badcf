#include "database/row.hpp"

#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::parse_integer;
using detail::parse_timestamp;
using std::chrono::microseconds;

TEST(ParseTimestamp, CountsFromTheYear2000) {
  EXPECT_EQ(parse_timestamp("0000000000000000"), Timestamp{microseconds{946'684'800'000'000}});
  EXPECT_EQ(parse_timestamp("0000000000000001"), Timestamp{microseconds{946'684'800'000'001}});
  // 2024-02-29 12:34:56.789012 UTC, as PostgreSQL 15 sends it.
  EXPECT_EQ(parse_timestamp("0002b58341728614"), Timestamp{microseconds{1'709'210'096'789'012}});
}

TEST(ParseTimestamp, KnowsTimesBeforeIt) {
  EXPECT_EQ(parse_timestamp("ffffffffffffffff"), Timestamp{microseconds{946'684'799'999'999}});
  EXPECT_EQ(parse_timestamp("fffca2fec4c82000"), Timestamp{});
}

TEST(ParseTimestamp, TakesInfinityForTheLatestTime) {
  EXPECT_EQ(parse_timestamp("7fffffffffffffff"), Timestamp::max());
  EXPECT_LT(parse_timestamp("8000000000000000"), parse_timestamp("8000000000000001"));
}

TEST(ParseTimestamp, RefusesWhatIsNone) {
  for (const char* const text : {"", "x", "00000000000000000001x", "10000000000000000", "-1"}) {
    EXPECT_THROW(parse_timestamp(text), std::runtime_error) << text;
  }
}

TEST(ParseInteger, TakesTheWholeRange) {
  EXPECT_EQ(parse_integer("0"), 0);
  EXPECT_EQ(parse_integer("42"), 42);
  EXPECT_EQ(parse_integer("-1"), -1);
  EXPECT_EQ(parse_integer("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(parse_integer("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
}

TEST(ParseInteger, RefusesWhatIsNone) {
  for (const char* const text : {"", "-", "x", "1x", "1 ", "+1", "--1", "9223372036854775808", "-9223372036854775809",
                                 "18446744073709551617", "99999999999999999999"}) {
    EXPECT_THROW(parse_integer(text), std::runtime_error) << text;
  }
}

TEST(ToInt32, TakesTheWholeRangeAndNothingBeyondIt) {
  constexpr std::int64_t least = std::numeric_limits<std::int32_t>::min();
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  for (const auto value : {least, std::int64_t{0}, most}) EXPECT_EQ(detail::to_int32(value), value);
  for (const auto value : {least - 1, most + 1}) EXPECT_THROW(detail::to_int32(value), std::runtime_error) << value;
}

TEST(ParseConsumerRole, KnowsPgQuesNames) {
  EXPECT_EQ(detail::parse_consumer_role("coop_main"), ConsumerRole::group);
  EXPECT_EQ(detail::parse_consumer_role("coop_member"), ConsumerRole::subconsumer);
  EXPECT_EQ(detail::parse_consumer_role("normal"), ConsumerRole::normal);
}

}  // namespace
}  // namespace pgque::test
