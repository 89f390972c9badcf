#include "consumer/tick_watch.hpp"

#include <chrono>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::TickWatch;
using detail::verbs::LatestTick;

constexpr TickWatch::TimePoint start{1000s};

// The queue's limits are PgQue's defaults.
LatestTick tick(std::chrono::microseconds age, std::optional<std::chrono::microseconds> waiting = std::nullopt) {
  LatestTick latest;
  latest.age = age;
  latest.longest_idle = 60s;
  latest.longest_wait = 3s;
  latest.waiting = waiting;
  return latest;
}

class TickWatchTest : public testing::Test {
 protected:
  TickWatchTest() { watch.expect(start); }

  TickWatch watch{60s};
};

TEST_F(TickWatchTest, LooksOnlyWhenTheTimeIsOver) {
  EXPECT_FALSE(watch.is_due(start + 59999ms));
  EXPECT_TRUE(watch.is_due(start + 60s));
  watch.expect(start + 59s);
  EXPECT_FALSE(watch.is_due(start + 118s));
}

TEST_F(TickWatchTest, FindsSilenceOnceUntilSomethingComes) {
  EXPECT_TRUE(watch.finds_silence(tick(65s), start + 65s));
  EXPECT_FALSE(watch.next());
  EXPECT_FALSE(watch.is_due(start + 1h));
  watch.expect(start + 1h);
  EXPECT_EQ(watch.next(), start + 1h + 60s);
}

TEST_F(TickWatchTest, AnIdleQueueGetsItsIdlePeriodAndFiveSeconds) {
  EXPECT_FALSE(watch.finds_silence(tick(62s), start + 60s));
  EXPECT_EQ(watch.next(), start + 63s);
}

TEST_F(TickWatchTest, AnEventThatWaitsForTooLongIsSilence) {
  EXPECT_TRUE(watch.finds_silence(tick(60s, 8s), start + 60s));
}

TEST_F(TickWatchTest, AnEventThatHasJustComeIsGivenTime) {
  EXPECT_FALSE(watch.finds_silence(tick(61s, 2s), start + 61s));
  EXPECT_EQ(watch.next(), start + 65s) << "when the tick would be too old for an idle queue, too";
  auto rare = tick(1h, 2s);
  rare.longest_idle = 24h;
  EXPECT_FALSE(watch.finds_silence(rare, start + 61s));
  EXPECT_EQ(watch.next(), start + 67s);
}

TEST_F(TickWatchTest, ATickThatIsYoungerThanTheTimeIsNoSilenceWhateverWaits) {
  EXPECT_FALSE(watch.finds_silence(tick(10s, 9s), start + 60s));
  EXPECT_EQ(watch.next(), start + 60s + 50s);
}

// The longest that the queries give.
TEST_F(TickWatchTest, AQueueThatMayBeIdleForEverIsLookedAtAgainAfterAWhile) {
  auto ever = tick(2h);
  ever.longest_idle = std::chrono::microseconds{3'155'760'000'000'000'000};
  EXPECT_FALSE(watch.finds_silence(ever, start + 60s));
  EXPECT_EQ(watch.next(), start + 60s + 65s);
}

TEST(TickWatch, WithoutATimeItNeverLooks) {
  TickWatch watch{0ms};
  watch.expect(start);
  EXPECT_FALSE(watch.is_due(start + 24h));
}

}  // namespace
}  // namespace pgque::test
