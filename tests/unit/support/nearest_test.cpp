#include "support/nearest.hpp"

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::edit_distance;
using detail::nearest;

TEST(EditDistance, CountsWhatHasToChange) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("orders", "orders"), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("order", "orders"), 1u);
  EXPECT_EQ(edit_distance("ordres", "orders"), 1u);  // neighbours swapped
  EXPECT_EQ(edit_distance("orders", "odders"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(Nearest, IsTheWordWithTheFewestChanges) {
  EXPECT_EQ(nearest("ordres", {"invoices", "orderss", "orders", "order"}), "orders");
  EXPECT_EQ(nearest("order", {"orders2", "orders"}), "orders");
}

TEST(Nearest, TakesCapitalsForSmallLetters) {
  EXPECT_EQ(nearest("ORDRES", {"orders"}), "orders");
  EXPECT_EQ(nearest("orders", {"Orders"}), "Orders");
}

TEST(Nearest, IsNoneIfMoreThanAThirdDiffers) {
  EXPECT_EQ(nearest("abcdef", {"abcdxy"}), "abcdxy");
  EXPECT_EQ(nearest("abcdef", {"abcxyz"}), std::nullopt);
  EXPECT_EQ(nearest("a", {"b"}), std::nullopt);
  EXPECT_EQ(nearest("orders", {}), std::nullopt);
}

TEST(Nearest, IsNeverTheWordItself) {
  EXPECT_EQ(nearest("orders", {"orders"}), std::nullopt);
  EXPECT_EQ(nearest("orders", {"orders", "order"}), "order");
}

}  // namespace
}  // namespace pgque::test
