#include "support/in_words.hpp"

#include <chrono>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::in_words;
using detail::times_in_words;

TEST(Duration, IsPutInWords) {
  EXPECT_EQ(in_words(0s), "0 ms");
  EXPECT_EQ(in_words(1500us), "1 ms");
  EXPECT_EQ(in_words(2500ms), "2.5 s");
  EXPECT_EQ(in_words(3s), "3 s");
  EXPECT_EQ(in_words(59s), "59 s");
  EXPECT_EQ(in_words(60s), "1 min");
  EXPECT_EQ(in_words(61s), "1 min 1 s");
  EXPECT_EQ(in_words(3600s + 59s), "1 h");
  EXPECT_EQ(in_words(26h + 5min), "1 d 2 h");
  EXPECT_EQ(in_words(-(53min + 50s)), "-53 min 50 s");
  EXPECT_EQ(in_words(-2500ms), "-2.5 s");
  EXPECT_EQ(in_words(-999us), "0 ms");
}

TEST(Times, ArePutInWords) {
  EXPECT_EQ(times_in_words(1), "once");
  EXPECT_EQ(times_in_words(3), "3 times");
}

}  // namespace
}  // namespace pgque::test
