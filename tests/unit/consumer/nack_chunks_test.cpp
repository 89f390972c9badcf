#include "consumer/nack_chunks.hpp"

#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::NackChunks;

TEST(NackChunks, BeginSmallAndSmallerForLargeBatches) {
  EXPECT_EQ((NackChunks{0, 100ms}.size()), 8U);
  EXPECT_EQ((NackChunks{4000, 100ms}.size()), 8U);
  EXPECT_EQ((NackChunks{10'000, 100ms}.size()), 5U);
  EXPECT_EQ((NackChunks{1'000'000, 100ms}.size()), 1U);
}

TEST(NackChunks, DoubleWhileTheyAreFastAndHalveWhenTheyAreSlow) {
  NackChunks chunks{100, 100ms};
  chunks.took(10ms);
  EXPECT_EQ(chunks.size(), 16U);
  chunks.took(49ms);
  EXPECT_EQ(chunks.size(), 32U);
  chunks.took(50ms);
  EXPECT_EQ(chunks.size(), 32U);
  chunks.took(100ms);
  EXPECT_EQ(chunks.size(), 32U);
  chunks.took(101ms);
  EXPECT_EQ(chunks.size(), 16U);
}

TEST(NackChunks, AreNeverEmptyAndNeverHuge) {
  NackChunks chunks{100, 100ms};
  for (int i = 0; i < 10; ++i) chunks.took(1h);
  EXPECT_EQ(chunks.size(), 1U);
  for (int i = 0; i < 30; ++i) chunks.took(1us);
  EXPECT_EQ(chunks.size(), 4096U);
}

TEST(NackChunks, StayFarBelowTheLimitOfAStatement) {
  EXPECT_EQ(NackChunks::target(0ms), 100ms);
  EXPECT_EQ(NackChunks::target(1h), 100ms);
  EXPECT_EQ(NackChunks::target(200ms), 50ms);
}

}  // namespace
}  // namespace pgque::test
