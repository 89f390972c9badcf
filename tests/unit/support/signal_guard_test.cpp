#include "support/signal_guard.hpp"

#include <atomic>
#include <csignal>
#include <list>
#include <optional>
#include <stdexcept>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "child_process.hpp"
#include "support/stopper.hpp"
#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::SignalGuard;
using detail::StopLevel;
using detail::Stopper;

void users_handler(int) {}
void another_handler(int) {}

// Restores the handlers of SIGINT and SIGTERM after each test. Both begin with a handler of the user's.
class GuardedSignals : public testing::Test {
 protected:
  const SignalHandler interrupt_{SIGINT, users_handler};
  const SignalHandler terminate_{SIGTERM, users_handler};
};

TEST_F(GuardedSignals, StopWhatIsGuarded) {
  for (const int signal : {SIGINT, SIGTERM}) {
    Stopper stopper;
    const SignalGuard guard{&stopper};
    ASSERT_EQ(::raise(signal), 0);
    EXPECT_EQ(stopper.level(), StopLevel::drain) << signal;
  }
}

TEST_F(GuardedSignals, WithinASecondAreOne) {
  // A machine that is too busy for that gets further attempts.
  for (int attempt = 0; attempt < 20; ++attempt) {
    Stopper stopper;
    const SignalGuard guard{&stopper};
    const auto before = Clock::now();
    ASSERT_EQ(::raise(SIGINT), 0);
    ASSERT_EQ(::raise(SIGTERM), 0);
    ASSERT_EQ(::raise(SIGTERM), 0);
    if (Clock::now() - before >= 1s) continue;
    EXPECT_EQ(stopper.level(), StopLevel::drain);
    return;
  }
  FAIL() << "three signals took a second, twenty times";
}

TEST_F(GuardedSignals, LaterThanASecondAbandon) {
  Stopper stopper;
  {
    const SignalGuard guard{&stopper};
    const auto before = Clock::now();
    ASSERT_EQ(::raise(SIGTERM), 0);
    EXPECT_EQ(stopper.level(), StopLevel::drain);
    const auto after = Clock::now();
    while (Clock::now() - after < 1s) std::this_thread::sleep_for(10ms);
    ASSERT_EQ(::raise(SIGTERM), 0);
    EXPECT_EQ(stopper.level(), StopLevel::abandon);
    EXPECT_GE(Clock::now() - before, 1s);
  }
  // What is guarded next has its own first signal.
  Stopper next;
  const SignalGuard guard{&next};
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_EQ(next.level(), StopLevel::drain);
}

// A shutdown path, or a handler, may have called stop() long before.
TEST_F(GuardedSignals, AfterAStopAreNoSecondOne) {
  Stopper stopper;
  const SignalGuard guard{&stopper};
  stopper.stop();
  while (Clock::now() - stopper.requested_at() < 1010ms) std::this_thread::sleep_for(10ms);
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_EQ(stopper.level(), StopLevel::drain);
}

std::atomic<int> handled_by_user{0};
void count_signal(int) {
  ++handled_by_user;
}

TEST_F(GuardedSignals, InAChildDoWhatTheyDidBefore) {
  const SignalHandler counting{SIGTERM, count_signal};
  std::optional<Stopper> stopper;
  const auto pipe = pipe_made_by([&] { stopper.emplace(); });
  const SignalGuard guard{&*stopper};
  const int failed = in_child([&] {
    Checks check;
    handled_by_user = 0;
    check(::raise(SIGTERM) == 0);
    check(handled_by_user == 1);
    check(handler_of(SIGTERM) == count_signal);
    check(!stopper->requested());
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_FALSE(stopper->requested());
  EXPECT_EQ(pipe.waiting(), 0);
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_TRUE(stopper->requested());
}

TEST_F(GuardedSignals, EndAChildThatDoesNotHandleThem) {
  const SignalHandler handler{SIGTERM, SIG_DFL};
  Stopper stopper;
  const SignalGuard guard{&stopper};
  const auto raise_it = [] {
    ::raise(SIGTERM);
    return 1;
  };
  EXPECT_EQ(in_child(raise_it), 128 + SIGTERM);
  // So does a child of a child that has had a guard of its own.
  const int status = in_child([&] {
    Stopper own;
    { const SignalGuard again{&own}; }
    const SignalGuard guard_of_child{&own};
    return in_child(raise_it);
  });
  EXPECT_EQ(status, 128 + SIGTERM);
  EXPECT_FALSE(stopper.requested());
}

TEST_F(GuardedSignals, InAChildStopWhatTheChildGuards) {
  std::optional<Stopper> stopper;
  const auto pipe = pipe_made_by([&] { stopper.emplace(); });
  const SignalGuard guard{&*stopper};
  const int failed = in_child([&] {
    Checks check;
    Stopper own;
    {
      const SignalGuard guard_of_child{&own};
      check(::raise(SIGTERM) == 0);
      check(own.level() == StopLevel::drain);
      check(!stopper->requested());
    }
    check(handler_of(SIGTERM) == users_handler);
    check(handler_of(SIGINT) == users_handler);
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_FALSE(stopper->requested());
  EXPECT_EQ(pipe.waiting(), 0);
}

// All slots may be taken in the parent, and its guards may be destroyed in the child.
TEST_F(GuardedSignals, OfTheParentLeaveAllSlotsOfAChildFree) {
  Stopper stopper;
  std::list<SignalGuard> guards;
  for (int i = 0; i < 256; ++i) guards.emplace_back(&stopper);
  const int failed = in_child([&] {
    Checks check;
    Stopper own;
    const SignalGuard guard_of_child{&own};
    guards.clear();
    check(::raise(SIGTERM) == 0);
    check(own.requested());
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(guards.size(), 256U);
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_TRUE(stopper.requested());
}

void (*next_handler)(int) = nullptr;
void count_and_pass_on(int signal) {
  ++handled_by_user;
  next_handler(signal);
}

TEST_F(GuardedSignals, InAChildComeOnceToAHandlerThatPassesThemOn) {
  Stopper stopper;
  const SignalGuard guard{&stopper};
  next_handler = handler_of(SIGTERM);
  const SignalHandler passing{SIGTERM, count_and_pass_on};
  const int failed = in_child([&] {
    Checks check;
    handled_by_user = 0;
    check(::raise(SIGTERM) == 0);
    check(handled_by_user == 1);
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_TRUE(stopper.requested());
}

TEST_F(GuardedSignals, AreHandledOnlyWhileAGuardLives) {
  Stopper stopper;
  {
    const SignalGuard guard{&stopper};
    EXPECT_NE(handler_of(SIGINT), users_handler);
    EXPECT_NE(handler_of(SIGTERM), users_handler);
  }
  EXPECT_EQ(handler_of(SIGINT), users_handler);
  EXPECT_EQ(handler_of(SIGTERM), users_handler);
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_FALSE(stopper.requested());
}

TEST_F(GuardedSignals, KeepTheirDefaultActionAfterwards) {
  const SignalHandler handler{SIGTERM, SIG_DFL};
  Stopper stopper;
  { const SignalGuard guard{&stopper}; }
  EXPECT_EQ(handler_of(SIGTERM), SIG_DFL);
}

TEST_F(GuardedSignals, KeepFlagsAndMaskOfThePreviousHandler) {
  struct sigaction action {};
  action.sa_handler = users_handler;
  action.sa_flags = SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGUSR2);
  ::sigaction(SIGTERM, &action, nullptr);
  Stopper stopper;
  { const SignalGuard guard{&stopper}; }
  struct sigaction after {};
  ::sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(after.sa_flags & SA_NODEFER, SA_NODEFER);
  EXPECT_EQ(sigismember(&after.sa_mask, SIGUSR2), 1);
}

TEST_F(GuardedSignals, StayIgnored) {
  const SignalHandler ignored{SIGINT, SIG_IGN};
  Stopper stopper;
  {
    const SignalGuard guard{&stopper};
    EXPECT_EQ(handler_of(SIGINT), SIG_IGN);
    ASSERT_EQ(::raise(SIGINT), 0);
    EXPECT_FALSE(stopper.requested());
    ASSERT_EQ(::raise(SIGTERM), 0);  // which was not ignored
    EXPECT_TRUE(stopper.requested());
  }
  EXPECT_EQ(handler_of(SIGINT), SIG_IGN);
}

TEST_F(GuardedSignals, StopEverythingThatIsGuarded) {
  Stopper one;
  Stopper two;
  Stopper unguarded;
  const SignalGuard first{&one};
  const SignalGuard second{&two};
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_EQ(one.level(), StopLevel::drain);
  EXPECT_EQ(two.level(), StopLevel::drain);
  EXPECT_FALSE(unguarded.requested());
}

TEST_F(GuardedSignals, AreHandledUntilTheLastGuardIsGone) {
  Stopper one;
  Stopper two;
  auto first = std::make_unique<SignalGuard>(&one);
  auto second = std::make_unique<SignalGuard>(&two);
  first.reset();  // not in the order of a stack
  ASSERT_EQ(::raise(SIGTERM), 0);
  EXPECT_FALSE(one.requested());
  EXPECT_TRUE(two.requested());
  EXPECT_NE(handler_of(SIGTERM), users_handler);
  second.reset();
  EXPECT_EQ(handler_of(SIGTERM), users_handler);
}

TEST_F(GuardedSignals, LeaveAHandlerAloneThatWasInstalledMeanwhile) {
  Stopper stopper;
  {
    const SignalGuard guard{&stopper};
    std::signal(SIGTERM, another_handler);
  }
  EXPECT_EQ(handler_of(SIGTERM), another_handler);
  EXPECT_EQ(handler_of(SIGINT), users_handler);
}

TEST_F(GuardedSignals, CanBeGuardedAgain) {
  Stopper stopper;
  { const SignalGuard guard{&stopper}; }
  const SignalGuard guard{&stopper};
  ASSERT_EQ(::raise(SIGINT), 0);
  EXPECT_TRUE(stopper.requested());
}

TEST_F(GuardedSignals, AreLeftAloneByAGuardOfNothing) {
  const SignalGuard guard{nullptr};
  EXPECT_EQ(handler_of(SIGTERM), users_handler);
}

TEST_F(GuardedSignals, StopAtMost256) {
  Stopper stopper;
  {
    std::list<SignalGuard> guards;
    for (int i = 0; i < 256; ++i) guards.emplace_back(&stopper);
    EXPECT_THROW(guards.emplace_back(&stopper), std::runtime_error);
    ASSERT_EQ(::raise(SIGTERM), 0);
    EXPECT_TRUE(stopper.requested());
  }
  EXPECT_EQ(handler_of(SIGTERM), users_handler);
}

}  // namespace
}  // namespace pgque::test
