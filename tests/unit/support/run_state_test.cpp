#include "support/run_state.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "child_process.hpp"
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

TEST(RunState, ShutsDownFromWithinWithoutWaitingForItself) {
  RunState state;
  state.run("Consumer", [&] {
    state.stopper().stop();
    state.shut_down();
    EXPECT_EQ(state.stopper().level(), detail::StopLevel::drain);
  });
}

// That stop() set its request before the run ended, and writes its byte afterwards.
TEST(RunState, ForgetsAStopThatRacesWithTheEndOfTheRun) {
  std::optional<RunState> state;
  const auto pipe = pipe_made_by([&] { state.emplace(); });
  state->run("Consumer", [&] { state->stopper().stop(); });
  pipe.write_byte();
  state->run("Consumer", [&] {
    EXPECT_FALSE(state->stopper().requested());
    EXPECT_TRUE(state->stopper().sleep_until(Clock::now() + 10ms));
    EXPECT_EQ(pipe.waiting(), 0);
  });
}

TEST(RunState, RunsWithinWhatItIsGiven) {
  RunState state;
  std::vector<std::string> order;
  std::function<void()> stop_run;
  state.run(
      "Consumer",
      [&] {
        order.emplace_back("body");
        stop_run();
        EXPECT_EQ(state.stopper().level(), detail::StopLevel::drain);
      },
      [&](const std::function<void()>& stop, const std::function<void()>& run) {
        EXPECT_TRUE(state.running());
        stop_run = stop;
        order.emplace_back("before");
        run();
        order.emplace_back("after");
      });
  EXPECT_THAT(order, testing::ElementsAre("before", "body", "after"));
  EXPECT_FALSE(state.stopper().requested());
}

TEST(RunState, OfTheParentIsOfNoUseInAChild) {
  RunState state;
  const auto use = [&] {
    return in_child([&] {
      Checks check;
      check.refused([&] { state.stop_on_signals(); });
      state.shut_down();  // does not wait
      return check.result();
    });
  };
  EXPECT_EQ(use(), 0);
  state.run("Consumer", [&] {
    EXPECT_EQ(use(), 0);
    EXPECT_FALSE(state.stopper().requested());
  });
}

}  // namespace
}  // namespace pgque::test
