#include "consumer/nack_chunks.hpp"

#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::NackChunks;

TEST(NackChunks, BeginSmallAndSmallerForLargeBatches) {
  EXPECT_EQ((NackChunks{0, 0ms}.size()), 8U);
  EXPECT_EQ((NackChunks{4000, 0ms}.size()), 8U);
  EXPECT_EQ((NackChunks{10'000, 0ms}.size()), 5U);
  EXPECT_EQ((NackChunks{1'000'000, 0ms}.size()), 1U);
}

TEST(NackChunks, DoubleWhileTheyAreFastAndHalveWhenTheyAreSlow) {
  NackChunks chunks{100, 0ms};
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
  NackChunks chunks{100, 0ms};
  for (int i = 0; i < 10; ++i) chunks.took(1h);
  EXPECT_EQ(chunks.size(), 1U);
  for (int i = 0; i < 30; ++i) chunks.took(1us);
  EXPECT_EQ(chunks.size(), 4096U);
}

TEST(NackChunks, BeginWithOneMessageAndStayFarBelowTheLimitIfThereIsOne) {
  for (const auto& [limit, target] : {std::pair{1000 * 60ms, 100ms}, std::pair{200ms, 50ms}}) {
    NackChunks chunks{100, limit};
    EXPECT_EQ(chunks.size(), 1U);
    chunks.took(target / 2 - 1ms);
    EXPECT_EQ(chunks.size(), 2U);
    chunks.took(target / 2);
    EXPECT_EQ(chunks.size(), 2U);
    chunks.took(target + 1ms);
    EXPECT_EQ(chunks.size(), 1U);
  }
}

TEST(NackChunks, AreSmallerAfterAFailure) {
  NackChunks chunks{100, 0ms};
  for (const auto size : {8U, 4U, 2U, 1U, 1U}) {
    EXPECT_EQ(chunks.size(), size);
    chunks.failed();
  }
}

}  // namespace
}  // namespace pgque::test
