#include "consumer/overdue.hpp"

#include <chrono>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::Overdue;

Overdue::TimePoint time(int second) {
  return Overdue::TimePoint{std::chrono::seconds{second}};
}

// Seconds of a clock. What is seen at each look, whether it is found overdue, and when to look again.
TEST(Overdue, IsFoundOnceAndLookedAtInTime) {
  struct Look {
    std::optional<int> begun;
    int now;
    bool found;
    int next;
  };
  const struct {
    const char* what;
    std::vector<Look> looks;
  } cases[] = {
      {"nothing runs", {{{}, 100, false, 110}, {{}, 110, false, 120}}},
      {"one thing runs and ends in time", {{100, 100, false, 110}, {{}, 110, false, 120}}},
      {"one thing is looked at too soon", {{100, 104, false, 110}, {100, 109, false, 110}}},
      {"one thing runs for exactly the limit", {{100, 110, true, 120}}},
      {"one thing runs for long", {{100, 113, true, 123}, {100, 123, false, 133}, {100, 200, false, 210}}},
      {"short things follow one another", {{100, 105, false, 110}, {107, 110, false, 117}, {116, 117, false, 126}}},
      {"another follows what was found",
       {{100, 110, true, 120}, {112, 120, false, 122}, {112, 122, true, 132}, {130, 132, false, 140}}},
      {"nothing follows what was found", {{100, 110, true, 120}, {{}, 120, false, 130}, {121, 130, false, 131}}},
      {"it has begun after the look", {{101, 100, false, 111}}},
  };
  for (const auto& one : cases) {
    Overdue overdue{10s};
    for (const auto& look : one.looks) {
      const auto begun = look.begun ? std::optional{time(*look.begun)} : std::nullopt;
      EXPECT_EQ(overdue.look(begun, time(look.now)), look.found) << one.what << ", at " << look.now;
      EXPECT_EQ(overdue.next(), time(look.next)) << one.what << ", at " << look.now;
    }
  }
}

}  // namespace
}  // namespace pgque::test
