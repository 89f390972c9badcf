// Views as what send_batch() takes.

#include <pgque/operations.hpp>

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

// Clang before 16 does not understand the views of libstdc++.
#if !defined(__clang_major__) || __clang_major__ >= 16

#include <ranges>
#include <sstream>

namespace pgque::test {
namespace {

using testing::ElementsAre;

std::vector<std::string> made_of(auto&& range) {
  std::vector<std::string> out;
  for (const auto& payload : detail::payloads_of(range)) out.push_back(payload.text().value_or("NULL"));
  return out;
}

TEST(PayloadsOfView, IsReadOnceWhateverItIs) {
  const std::vector<int> numbers{1, 2, 3, 4};
  const auto as_text = std::views::transform([](int number) { return std::to_string(number); });
  EXPECT_THAT(made_of(numbers | as_text), ElementsAre("1", "2", "3", "4"));
  // It cannot be read while it is const.
  EXPECT_THAT(made_of(numbers | std::views::filter([](int number) { return number > 2; }) | as_text),
              ElementsAre("3", "4"));
  // It ends with another type than its iterator's.
  EXPECT_THAT(made_of(std::views::iota(7) | std::views::take_while([](int number) { return number < 9; }) | as_text),
              ElementsAre("7", "8"));
  // It can be read only once.
  std::istringstream words{"10 11"};
  EXPECT_THAT(made_of(std::views::istream<std::string>(words)), ElementsAre("10", "11"));
}

}  // namespace
}  // namespace pgque::test

#endif
