#include "consumer/claim.hpp"

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::Claim;

constexpr BatchId first{7};
constexpr BatchId second{8};

class ClaimTest : public testing::Test {
 protected:
  bool lose(BatchId batch) {
    return claim.lose(batch, [this] {
      EXPECT_FALSE(claim.lost()) << "it is reported first";
      ++reports;
    });
  }

  Claim claim;
  int reports = 0;
};

TEST_F(ClaimTest, IsLostOnceAndTheLoopIsTold) {
  claim.begin(first);
  EXPECT_FALSE(claim.lost());
  EXPECT_TRUE(lose(first));
  EXPECT_TRUE(claim.lost());
  EXPECT_FALSE(lose(first));
  EXPECT_EQ(reports, 1);
  EXPECT_FALSE(claim.end());
  EXPECT_FALSE(claim.end());
}

TEST_F(ClaimTest, CannotBeLostOnceTheLoopEndsTheBatch) {
  claim.begin(first);
  EXPECT_TRUE(claim.end());
  EXPECT_FALSE(lose(first));
  EXPECT_FALSE(claim.lost());
  EXPECT_TRUE(claim.end()) << "the loop may try again to finish the batch";
  EXPECT_EQ(reports, 0);
}

TEST_F(ClaimTest, OfAnEarlierBatchSaysNothingAboutTheNext) {
  claim.begin(first);
  EXPECT_TRUE(lose(first));
  claim.begin(second);
  EXPECT_FALSE(claim.lost());
  EXPECT_FALSE(lose(first)) << "what was asked about the earlier batch comes late";
  EXPECT_FALSE(claim.lost());
  EXPECT_TRUE(claim.end());
  EXPECT_EQ(reports, 1);
}

TEST_F(ClaimTest, IsNoneAtFirst) {
  EXPECT_FALSE(claim.lost());
  EXPECT_FALSE(lose(first));
  EXPECT_TRUE(claim.end());
}

}  // namespace
}  // namespace pgque::test
