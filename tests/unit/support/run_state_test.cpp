#include "support/run_state.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::RunState;
using testing::StrEq;
using testing::ThrowsMessage;

TEST(RunState, RunsWhileItsBodyDoes) {
  RunState state;
  EXPECT_FALSE(state.running());
  state.run("Consumer", [&] { EXPECT_TRUE(state.running()); });
  EXPECT_FALSE(state.running());
}

TEST(RunState, RefusesToRunTwiceAtOnce) {
  RunState state;
  state.run("Consumer", [&] {
    EXPECT_THAT([&] { state.run("Consumer", [] { FAIL(); }); },
                ThrowsMessage<std::logic_error>(StrEq("Consumer::start(): it is running already")));
    EXPECT_TRUE(state.running());
  });
}

TEST(RunState, KeepsAStopFromBeforeTheRunAndUsesItUp) {
  RunState state;
  state.stopper().stop();
  state.run("Consumer", [&] { EXPECT_TRUE(state.stopper().requested()); });
  state.run("Consumer", [&] { EXPECT_FALSE(state.stopper().requested()); });
}

TEST(RunState, CanRunAgainAfterAnException) {
  RunState state;
  EXPECT_THROW(state.run("Consumer", [] { throw std::runtime_error{"no"}; }), std::runtime_error);
  bool ran = false;
  state.run("Consumer", [&] { ran = true; });
  EXPECT_TRUE(ran);
}

// start() may be about to begin on another thread when the destructor runs.
TEST(RunState, ShutDownBeforeItRunsEndsTheRunAtOnce) {
  RunState state;
  state.shut_down();
  state.run("Consumer", [&] { EXPECT_TRUE(state.stopper().requested()); });
}

TEST(RunState, ShutsDownByStoppingAndWaiting) {
  RunState state;
  std::promise<void> begun;
  bool ended = false;
  auto run = std::async(std::launch::async, [&] {
    state.run("Consumer", [&] {
      begun.set_value();
      EXPECT_FALSE(state.stopper().sleep_until(Clock::now() + patience));
      EXPECT_EQ(state.stopper().level(), detail::StopLevel::drain);
      ended = true;
    });
  });
  begun.get_future().get();
  state.shut_down();
  EXPECT_TRUE(ended);
  EXPECT_FALSE(state.running());
  run.get();
}

TEST(RunState, ShutsDownWithoutASecondStopThatWouldAbandon) {
  RunState state;
  state.run("Consumer", [&] {
    state.stopper().stop();
    state.shut_down();  // from within: it must not wait for itself
    EXPECT_EQ(state.stopper().level(), detail::StopLevel::drain);
  });
}

}  // namespace
}  // namespace pgque::test
