#include <pgque/message.hpp>

#include <cstdint>
#include <limits>
#include <sstream>
#include <type_traits>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

template <class Id>
class Ids : public testing::Test {};
using IdTypes = testing::Types<EventId, BatchId, TickId>;
TYPED_TEST_SUITE(Ids, IdTypes, );

TYPED_TEST(Ids, AreWrittenInDecimal) {
  for (const auto& [value, text] : {std::pair{std::int64_t{0}, "0"},
                                    {42, "42"},
                                    {-1, "-1"},
                                    {std::numeric_limits<std::int64_t>::max(), "9223372036854775807"},
                                    {std::numeric_limits<std::int64_t>::min(), "-9223372036854775808"}}) {
    EXPECT_EQ(to_string(TypeParam{value}), text);
    std::ostringstream out;
    out << TypeParam{value} << ',' << TypeParam{1};
    EXPECT_EQ(out.str(), std::string{text} + ",1");
  }
}

// Acking an event's id, or a number from anywhere, would finish the batch of another consumer.
static_assert(!std::is_convertible_v<EventId, BatchId> && !std::is_convertible_v<BatchId, EventId>);
static_assert(!std::is_convertible_v<std::int64_t, BatchId> && !std::is_convertible_v<BatchId, std::int64_t>);

TEST(Message, HasNoValuesUntilItIsGivenSome) {
  const Message message;
  EXPECT_EQ(message.msg_id, EventId{0});
  EXPECT_EQ(message.batch_id, BatchId{0});
  EXPECT_EQ(message.type, std::nullopt);
  EXPECT_EQ(message.payload, std::nullopt);
  EXPECT_EQ(message.retry_count, std::nullopt);
  EXPECT_EQ(message.extra1, std::nullopt);
  EXPECT_EQ(message.extra4, std::nullopt);
}

TEST(Message, HasTheHeadersOfAnObjectOfStringsInExtra4) {
  Message message;
  EXPECT_EQ(message.headers(), Headers{});
  EXPECT_EQ(message.header("traceparent"), std::nullopt);
  message.extra4 = R"({"traceparent": "00-1-2-01", "empty": "", "empty2": "x", "empty2": ""})";
  EXPECT_EQ(message.headers(), (Headers{{"empty", ""}, {"empty2", ""}, {"traceparent", "00-1-2-01"}}));
  EXPECT_EQ(message.header("traceparent"), "00-1-2-01");
  EXPECT_EQ(message.header("empty"), "");
  EXPECT_EQ(message.header("Traceparent"), std::nullopt);
  EXPECT_EQ(message.header(""), std::nullopt);
}

TEST(Message, HasNoHeadersIfExtra4IsAnythingElse) {
  for (const char* text : {"", "not json", "[]", R"({"a":1})", R"({"traceparent":"x","a":{}})", R"({"a":"\u0000"})"}) {
    Message message;
    message.extra4 = text;
    EXPECT_EQ(message.headers(), Headers{}) << text;
    EXPECT_EQ(message.header("a"), std::nullopt) << text;
    EXPECT_EQ(message.header("traceparent"), std::nullopt) << text;
  }
}

// PostgreSQL's resolution, on every platform.
static_assert(std::is_same_v<Timestamp::period, std::micro>);

}  // namespace
}  // namespace pgque::test
