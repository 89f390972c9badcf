#include "support/backoff.hpp"

#include <limits>
#include <set>
#include <stdexcept>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::Backoff;
using detail::exponential;
using std::chrono::milliseconds;
using testing::StartsWith;
using testing::ThrowsMessage;

TEST(Exponential, DoublesUpToTheMaximum) {
  const std::vector<milliseconds> expected{100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(exponential(100ms, 1000ms, static_cast<std::int64_t>(i) + 1), expected[i]) << i;
  }
}

TEST(Exponential, ReachesAMaximumThatIsAPowerOfTwoAway) {
  EXPECT_EQ(exponential(1ms, 8ms, 4), 8ms);
  EXPECT_EQ(exponential(1ms, 8ms, 5), 8ms);
}

TEST(Exponential, StaysWhereInitialIsTheMaximum) {
  EXPECT_EQ(exponential(5ms, 5ms, 1), 5ms);
  EXPECT_EQ(exponential(5ms, 5ms, 99), 5ms);
}

TEST(Exponential, TakesOddAttemptsForTheFirst) {
  EXPECT_EQ(exponential(100ms, 1000ms, 0), 100ms);
  EXPECT_EQ(exponential(100ms, 1000ms, std::numeric_limits<std::int64_t>::min()), 100ms);
}

TEST(Exponential, DoesNotOverflow) {
  constexpr auto largest = milliseconds::max();
  EXPECT_EQ(exponential(1ms, largest, std::numeric_limits<std::int64_t>::max()), largest);
  EXPECT_EQ(exponential(1ms, largest, 63), milliseconds{std::int64_t{1} << 62});
  EXPECT_EQ(exponential(largest / 2 + 1ms, largest, 2), largest);
  EXPECT_EQ(exponential(largest, largest, 3), largest);
}

TEST(Backoff, DrawsFromTheUpperHalfOfTheGrownDelay) {
  for (std::uint32_t seed = 1; seed <= 50; ++seed) {
    Backoff backoff{{100ms, 1000ms}, seed};
    for (const auto grown : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
      const auto pause = backoff.next();
      EXPECT_GE(pause, grown / 2);
      EXPECT_LE(pause, grown);
    }
  }
}

TEST(Backoff, UsesTheWholeRange) {
  std::set<std::int64_t> drawn;
  Backoff backoff{{4ms, 4ms}, 1};
  for (int i = 0; i < 500; ++i) drawn.insert(backoff.next().count());
  EXPECT_THAT(drawn, testing::ElementsAre(2, 3, 4));
}

TEST(Backoff, NeverPausesForNothing) {
  Backoff backoff{{1ms, 1ms}, 1};
  for (int i = 0; i < 100; ++i) EXPECT_EQ(backoff.next(), 1ms);
}

TEST(Backoff, DiffersBetweenProcesses) {
  // Without a seed it takes one from the system. Twenty draws of 30 000 values do not agree by chance.
  std::set<std::int64_t> drawn;
  for (int i = 0; i < 20; ++i) drawn.insert(Backoff{{60'000ms, 60'000ms}}.next().count());
  EXPECT_GT(drawn.size(), 1u);
}

TEST(Backoff, StartsOverAfterReset) {
  Backoff backoff{{100ms, 10'000ms}, 1};
  for (int i = 0; i < 7; ++i) backoff.next();
  EXPECT_GE(backoff.next(), 5'000ms);
  backoff.reset();
  EXPECT_LE(backoff.next(), 100ms);
}

TEST(ReconnectOptions, AreFineByDefaultAndAtTheirLimits) {
  EXPECT_EQ(ReconnectOptions{}.initial, 100ms);
  EXPECT_EQ(ReconnectOptions{}.maximum, 30s);
  EXPECT_NO_THROW(detail::check(ReconnectOptions{}));
  EXPECT_NO_THROW(detail::check({1ms, 1ms}));
  EXPECT_NO_THROW(detail::check({24h * 30, 24h * 30}));
}

TEST(ReconnectOptions, AreRefusedBeyondTheirLimits) {
  const auto refuses = [](const char* option, milliseconds initial, milliseconds maximum) {
    EXPECT_THAT([&] { detail::check({initial, maximum}); }, ThrowsMessage<std::invalid_argument>(StartsWith(option)));
  };
  refuses("reconnect.initial: ", 0ms, 1000ms);
  refuses("reconnect.initial: ", -1ms, 1000ms);
  refuses("reconnect.maximum: ", 100ms, 99ms);
  refuses("reconnect.maximum: ", 100ms, 24h * 30 + 1ms);
  refuses("reconnect.initial: ", milliseconds::max(), milliseconds::max());
}

}  // namespace
}  // namespace pgque::test
