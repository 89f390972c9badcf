#include "support/rate_limit.hpp"

#include <chrono>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::RateLimit;

const RateLimit::Clock::time_point start{1000s};

TEST(RateLimit, LetsABurstPassAtOnceAndThenOnePerInterval) {
  RateLimit limit{10ms, 3};
  for (int i = 0; i < 3; ++i) EXPECT_LE(limit.next(start), start) << i;
  EXPECT_EQ(limit.next(start), start + 10ms);
  EXPECT_EQ(limit.next(start + 10ms), start + 20ms);
  EXPECT_EQ(limit.next(start + 10ms), start + 30ms);
}

TEST(RateLimit, AllowsABurstAgainAfterAPause) {
  RateLimit limit{10ms, 3};
  for (int i = 0; i < 4; ++i) limit.next(start);
  for (int i = 0; i < 3; ++i) EXPECT_LE(limit.next(start + 1s), start + 1s) << i;
  EXPECT_GT(limit.next(start + 1s), start + 1s);
}

TEST(RateLimit, ForgetsWhatWasWorthIt) {
  RateLimit limit{10ms, 3};
  for (int i = 0; i < 5; ++i) limit.next(start);
  limit.reset();
  EXPECT_LE(limit.next(start), start);
}

}  // namespace
}  // namespace pgque::test
