#include "support/pause.hpp"

#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::Pause;
using detail::Wakeup;
using Woken = Wakeup::Woken;

Woken look(const Pause& pause) {
  const Wakeup unsignalled;
  return unsignalled.wait(-1, Clock::now(), pause.descriptor());
}

TEST(Pause, IsRequestedUntilItIsResumed) {
  Pause pause;
  EXPECT_FALSE(pause.requested());
  pause.pause();
  pause.pause();
  EXPECT_TRUE(pause.requested());
  EXPECT_EQ(pause.resumes(), 0U);
  pause.resume();
  EXPECT_FALSE(pause.requested());
  EXPECT_EQ(pause.resumes(), 1U);
  pause.resume();
  EXPECT_EQ(pause.resumes(), 2U);
}

TEST(Pause, WakesAtEachChangeUntilItIsForgotten) {
  Pause pause;
  EXPECT_EQ(look(pause), Woken::timeout);
  pause.pause();
  EXPECT_EQ(look(pause), Woken::other);
  pause.forget_changes();
  EXPECT_EQ(look(pause), Woken::timeout);
  EXPECT_TRUE(pause.requested());
  pause.resume();
  EXPECT_EQ(look(pause), Woken::other);
}

}  // namespace
}  // namespace pgque::test
