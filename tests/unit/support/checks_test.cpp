#include "support/checks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::check_at_least;
using detail::check_duration;
using detail::check_retry_after;
using detail::microseconds_of;
using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::StrEq;
using testing::ThrowsMessage;

TEST(AtLeast, TakesTheLeastAndNothingBelow) {
  EXPECT_NO_THROW(check_at_least("max_messages", 1, 1));
  EXPECT_THAT([] { check_at_least("max_messages", 0, 1); },
              ThrowsMessage<std::invalid_argument>(StrEq("max_messages: must be at least 1, is 0")));
  EXPECT_THROW(check_at_least("n", std::numeric_limits<std::int64_t>::min(), 1), std::invalid_argument);
}

TEST(Duration, TakesBothEndsOfItsRange) {
  EXPECT_NO_THROW(check_duration("period", 1ms, 1ms, 10ms));
  EXPECT_NO_THROW(check_duration("period", 10ms, 1ms, 10ms));
  const auto refused = ThrowsMessage<std::invalid_argument>(StrEq("period: must be between 1 ms and 10 ms"));
  EXPECT_THAT([] { check_duration("period", 0ms, 1ms, 10ms); }, refused);
  EXPECT_THAT([] { check_duration("period", 11ms, 1ms, 10ms); }, refused);
  EXPECT_THAT([] { check_duration("period", -1ms, 1ms, 10ms); }, refused);
}

TEST(Duration, IsComparedInTheFinerUnit) {
  EXPECT_THROW(check_duration("period", microseconds{999}, 1ms, 10ms), std::invalid_argument);
  EXPECT_THROW(check_duration("period", microseconds{10'001}, 1ms, 10ms), std::invalid_argument);
  EXPECT_NO_THROW(check_duration("period", seconds{1}, 1ms, 1000ms));
}

TEST(Duration, OfAnySizeIsComparedWithoutOverflow) {
  // 2^64 / 1000 seconds are 384 ms to a 64-bit count of milliseconds that overflows.
  for (const auto value : {seconds::max(), seconds::min(), seconds{18'446'744'073'709'552}}) {
    EXPECT_THROW(check_duration("period", value, 0ms, detail::longest_wait), std::invalid_argument) << value.count();
  }
  EXPECT_THROW(check_duration("period", milliseconds::max(), 0ms, detail::longest_wait), std::invalid_argument);
  EXPECT_THROW(check_duration("period", milliseconds::min(), 0ms, detail::longest_wait), std::invalid_argument);
}

TEST(RetryAfterLimit, IsWhatAnInt4OfSecondsCanHold) {
  EXPECT_NO_THROW(check_retry_after(0s));
  EXPECT_NO_THROW(check_retry_after(seconds{2147483647}));
  EXPECT_THAT([] { check_retry_after(-1s); }, ThrowsMessage<std::invalid_argument>(
                                                  StrEq("retry_after: must be between 0 s and 2147483647 s, is -1 s")));
  EXPECT_THAT(
      [] { check_retry_after(seconds{2147483648}, "delay"); },
      ThrowsMessage<std::invalid_argument>(StrEq("delay: must be between 0 s and 2147483647 s, is 2147483648 s")));
}

TEST(Microseconds, AreAThousandPerMillisecond) {
  EXPECT_EQ(microseconds_of("dead_interval", std::nullopt), std::nullopt);
  EXPECT_EQ(microseconds_of("dead_interval", 1ms), 1000);
  EXPECT_EQ(microseconds_of("dead_interval", milliseconds{hours{24 * 30}}), 2'592'000'000'000);
}

TEST(Microseconds, AreRefusedWhereTheyWouldTakeBatchesFromTheLiving) {
  for (const auto value : {milliseconds{0}, milliseconds{-1}, milliseconds::min(), milliseconds::max()}) {
    EXPECT_THAT([&] { microseconds_of("dead_interval", value); },
                ThrowsMessage<std::invalid_argument>(StrEq("dead_interval: must be between 1 ms and 2592000000 ms")));
  }
}

}  // namespace
}  // namespace pgque::test
