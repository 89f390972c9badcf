#include "support/stopper.hpp"

#include <atomic>
#include <optional>
#include <thread>

#include <gtest/gtest.h>
#include <unistd.h>

#include "child_process.hpp"
#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::StopLevel;
using detail::Stopper;
using detail::Wakeup;

TEST(Stopper, HasNotBeenAskedAtFirst) {
  const Stopper stopper;
  EXPECT_EQ(stopper.level(), StopLevel::none);
  EXPECT_FALSE(stopper.requested());
}

TEST(Stopper, DrainsHoweverOftenItIsAskedTo) {
  Stopper stopper;
  for (int request = 0; request < 3; ++request) {
    stopper.stop();
    EXPECT_EQ(stopper.level(), StopLevel::drain);
    EXPECT_TRUE(stopper.requested());
  }
}

TEST(Stopper, AbandonsOnlyWhenAskedTo) {
  Stopper at_once;
  at_once.stop_now();
  EXPECT_EQ(at_once.level(), StopLevel::abandon);
  EXPECT_TRUE(at_once.requested());
  Stopper later;
  later.stop();
  later.stop_now();
  EXPECT_EQ(later.level(), StopLevel::abandon);
  later.stop();
  EXPECT_EQ(later.level(), StopLevel::abandon);
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
  stopper.stop_now();
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

TEST(Stopper, DrainsWhenSeveralThreadsStopAtOnce) {
  Stopper stopper;
  std::thread one{[&] { stopper.stop(); }};
  std::thread two{[&] { stopper.stop(); }};
  one.join();
  two.join();
  EXPECT_EQ(stopper.level(), StopLevel::drain);
}

TEST(Stopper, ForgetsWhenReset) {
  Stopper stopper;
  stopper.stop_now();
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

// stop() sets the request and then writes a byte. Another thread may forget the request between the two, at the end of
// a run, and then the byte is stale.
class StaleByte : public testing::Test {
 protected:
  StaleByte() : pipe_{pipe_made_by([this] { stopper_.emplace(); })} {
    stopper_->stop();
    stopper_->reset();
    pipe_.write_byte();
  }

  std::optional<Stopper> stopper_;
  const Pipe pipe_;
};

TEST_F(StaleByte, WakesNobodyAndIsTakenOut) {
  const auto deadline = Clock::now() + 20ms;
  EXPECT_TRUE(stopper_->sleep_until(deadline));
  EXPECT_GE(Clock::now(), deadline);
  EXPECT_EQ(pipe_.waiting(), 0);
}

TEST_F(StaleByte, DoesNotHideASocket) {
  const Wakeup socket;
  EXPECT_EQ(stopper_->wait(socket.descriptor(), Clock::now()), Wakeup::Woken::timeout);
  pipe_.write_byte();
  Wakeup readable;
  readable.signal();
  EXPECT_EQ(stopper_->wait(readable.descriptor(), Clock::now() + 1h), Wakeup::Woken::socket);
}

TEST_F(StaleByte, KeepsNoStopFromEverySleeper) {
  const auto sleep = [&] { return stopper_->sleep_until(Clock::now() + 1h); };
  auto one = std::async(std::launch::async, sleep);
  auto two = std::async(std::launch::async, sleep);
  while (pipe_.waiting() != 0) std::this_thread::yield();
  pipe_.write_byte();
  stopper_->stop();
  ASSERT_TRUE(is_done(one));
  ASSERT_TRUE(is_done(two));
  EXPECT_FALSE(one.get());
  EXPECT_FALSE(two.get());
}

// The byte of a stop may be taken out together with a stale one.
TEST_F(StaleByte, TakenOutTogetherWithThatOfAStopLeavesTheRequest) {
  stopper_->stop();
  char bytes[8];
  ASSERT_EQ(::read(pipe_.read_end, bytes, sizeof bytes), 2);
  EXPECT_FALSE(stopper_->sleep_until(Clock::now() + 1h));
}

TEST(Stopper, OfTheParentIsNotTouchedByAChild) {
  std::optional<Stopper> stopper;
  const auto pipe = pipe_made_by([&] { stopper.emplace(); });
  const int failed = in_child([&] {
    Checks check;
    stopper->stop();
    check(!stopper->requested());
    stopper->stop_now();
    check(!stopper->requested());
    check.refused([&] { stopper->sleep_until(Clock::now()); });
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(pipe.waiting(), 0);
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
