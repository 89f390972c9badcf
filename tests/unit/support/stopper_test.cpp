#include "support/stopper.hpp"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::StopLevel;
using detail::Stopper;

TEST(Stopper, HasNotBeenAskedAtFirst) {
  const Stopper stopper;
  EXPECT_EQ(stopper.level(), StopLevel::none);
  EXPECT_FALSE(stopper.requested());
}

TEST(Stopper, DrainsAtTheFirstRequestAndAbandonsAtTheSecond) {
  Stopper stopper;
  stopper.stop();
  EXPECT_EQ(stopper.level(), StopLevel::drain);
  EXPECT_TRUE(stopper.requested());
  stopper.stop();
  EXPECT_EQ(stopper.level(), StopLevel::abandon);
  stopper.stop();
  EXPECT_EQ(stopper.level(), StopLevel::abandon);
}

TEST(Stopper, RemembersWhenItWasFirstAsked) {
  Stopper stopper;
  const auto before = Clock::now();
  stopper.stop();
  const auto after = Clock::now();
  const auto requested_at = stopper.requested_at();
  EXPECT_GE(requested_at, before);
  EXPECT_LE(requested_at, after);
  while (Clock::now() == after) std::this_thread::yield();
  stopper.stop();
  EXPECT_EQ(stopper.requested_at(), requested_at);
}

TEST(Stopper, SleepsUntilTheDeadline) {
  const Stopper stopper;
  const auto deadline = Clock::now() + 10ms;
  EXPECT_TRUE(stopper.sleep_until(deadline));
  EXPECT_GE(Clock::now(), deadline);
}

TEST(Stopper, DoesNotSleepWhenStopped) {
  Stopper stopper;
  stopper.stop();
  EXPECT_FALSE(stopper.sleep_until(Clock::now() + patience));
}

TEST(Stopper, WakesASleeper) {
  Stopper stopper;
  auto slept = std::async(std::launch::async, [&] { return stopper.sleep_until(Clock::now() + 1h); });
  stopper.stop();
  ASSERT_TRUE(is_done(slept));
  EXPECT_FALSE(slept.get());
}

TEST(Stopper, WakesEverySleeper) {
  Stopper stopper;
  const auto sleep = [&] { return stopper.sleep_until(Clock::now() + 1h); };
  auto one = std::async(std::launch::async, sleep);
  auto two = std::async(std::launch::async, sleep);
  stopper.stop();
  EXPECT_FALSE(one.get());
  EXPECT_FALSE(two.get());
}

std::atomic<Stopper*> stopped_by_handler{nullptr};

TEST(Stopper, IsStoppedFromASignalHandler) {
  Stopper stopper;
  stopped_by_handler = &stopper;
  const SignalHandler handler{SIGUSR1, [](int) { stopped_by_handler.load()->stop(); }};
  ASSERT_EQ(::raise(SIGUSR1), 0);
  EXPECT_EQ(stopper.level(), StopLevel::drain);
  EXPECT_FALSE(stopper.sleep_until(Clock::now() + 1h));
}

TEST(Stopper, CountsRequestsOfSeveralThreads) {
  Stopper stopper;
  std::thread one{[&] { stopper.stop(); }};
  std::thread two{[&] { stopper.stop(); }};
  one.join();
  two.join();
  EXPECT_EQ(stopper.level(), StopLevel::abandon);
}

TEST(Stopper, ForgetsWhenReset) {
  Stopper stopper;
  stopper.stop();
  stopper.stop();
  const auto first = stopper.requested_at();
  stopper.reset();
  EXPECT_EQ(stopper.level(), StopLevel::none);
  EXPECT_FALSE(stopper.requested());
  EXPECT_TRUE(stopper.sleep_until(Clock::now()));
  while (Clock::now() == first) std::this_thread::yield();
  stopper.stop();
  EXPECT_EQ(stopper.level(), StopLevel::drain);
  EXPECT_GT(stopper.requested_at(), first);
}

TEST(MayBeginHandler, UntilAStopAndItsDrainTimeout) {
  const auto stopped = Clock::time_point{1000s};
  const struct {
    StopLevel level;
    std::chrono::milliseconds drain_timeout;
    std::chrono::milliseconds since;
    bool may;
  } cases[] = {
      {StopLevel::none, 25s, 0ms, true},
      {StopLevel::none, 0ms, 100s, true},  // the time of an earlier stop is of no interest
      {StopLevel::drain, 25s, 0ms, true},
      {StopLevel::drain, 25s, 24'999ms, true},
      {StopLevel::drain, 25s, 25s, false},
      {StopLevel::drain, 25s, 26s, false},
      {StopLevel::drain, 0ms, 0ms, false},
      {StopLevel::abandon, 25s, 0ms, false},
      {StopLevel::abandon, 25s, 100s, false},
  };
  for (const auto& [level, drain_timeout, since, may] : cases) {
    EXPECT_EQ(detail::may_begin_handler(level, stopped, drain_timeout, stopped + since), may)
        << static_cast<int>(level) << ' ' << drain_timeout.count() << ' ' << since.count();
  }
}

}  // namespace
}  // namespace pgque::test
