#include "support/signal_guard.hpp"

#include <csignal>
#include <list>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
    ASSERT_EQ(::raise(signal), 0);
    EXPECT_EQ(stopper.level(), StopLevel::abandon) << signal;
  }
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
