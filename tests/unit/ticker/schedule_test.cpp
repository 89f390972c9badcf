#include "ticker/schedule.hpp"

#include <chrono>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::FailingQueues;
using detail::Schedule;
using testing::ElementsAre;
using testing::IsEmpty;

// Pauses after errors are drawn from the upper half: 1 to 2 s, then 2 to 4 s, then always 4 to 8 s.
const ReconnectOptions pauses{2s, 8s};

Schedule::TimePoint at(std::chrono::milliseconds time) {
  return Schedule::TimePoint{1h + time};
}

// Something that is done every 500 ms: what happened to it, and between which times it is then due again.
TEST(Schedule, TellsWhenTheNextRoundIsDue) {
  struct Event {
    enum { done, unfinished, failed, postponed } what;
    std::chrono::milliseconds time;  // when the round began if it is done, otherwise when it ended
  };
  const struct {
    const char* what;
    std::vector<Event> events;
    std::chrono::milliseconds earliest, latest;
  } cases[] = {
      {"a round", {{Event::done, 5s}}, 5500ms, 5500ms},
      {"a round with work left", {{Event::unfinished, 5s}}, 5s, 5s},
      {"the rest of it", {{Event::unfinished, 5s}, {Event::done, 6s}}, 6500ms, 6500ms},
      {"another ticker's turn", {{Event::postponed, 5s}}, 6s, 6s},
      {"an error", {{Event::failed, 5s}}, 6s, 7s},
      {"a second error", {{Event::failed, 5s}, {Event::failed, 7s}}, 9s, 11s},
      {"many errors", {{Event::failed, 0s}, {Event::failed, 1s}, {Event::failed, 2s}, {Event::failed, 3s}}, 7s, 11s},
      {"success after errors", {{Event::failed, 0s}, {Event::failed, 1s}, {Event::done, 5s}}, 5500ms, 5500ms},
      {"an error after that", {{Event::failed, 0s}, {Event::done, 5s}, {Event::failed, 15s}}, 16s, 17s},
      {"an error after a part", {{Event::failed, 0s}, {Event::unfinished, 5s}, {Event::failed, 15s}}, 16s, 17s},
      {"a turn missed between errors", {{Event::failed, 0s}, {Event::postponed, 2s}, {Event::failed, 3s}}, 5s, 7s},
  };
  for (const auto& one : cases) {
    Schedule schedule{500ms, pauses};
    EXPECT_TRUE(schedule.due(at(0s))) << one.what;
    for (const auto& event : one.events) {
      switch (event.what) {
        case Event::done:
          schedule.done(at(event.time));
          break;
        case Event::unfinished:
          schedule.unfinished(at(event.time));
          break;
        case Event::failed:
          schedule.failed(at(event.time));
          break;
        case Event::postponed:
          schedule.postponed(at(event.time), 1s);
          break;
      }
    }
    EXPECT_GE(schedule.next(), at(one.earliest)) << one.what;
    EXPECT_LE(schedule.next(), at(one.latest)) << one.what;
    EXPECT_FALSE(schedule.due(schedule.next() - 1ms)) << one.what;
    EXPECT_TRUE(schedule.due(schedule.next())) << one.what;
  }
}

TEST(Schedule, AfterAnErrorWaitsForItsPeriodAtLeast) {
  Schedule schedule{1h, pauses};
  schedule.failed(at(0s));
  EXPECT_EQ(schedule.next(), at(1h));
}

TEST(FailingQueues, HaveTheirTurnAfterTheOthersAndOneAtATime) {
  FailingQueues failing{pauses};
  const std::vector<std::string> queues{"a", "b", "c", "d"};
  EXPECT_THAT(failing.to_tick(queues, at(0s)), ElementsAre("a", "b", "c", "d"));
  EXPECT_TRUE(failing.empty());

  failing.failed("c", at(0s));
  failing.failed("a", at(3s));
  EXPECT_FALSE(failing.empty());
  EXPECT_THAT(failing.to_tick(queues, at(500ms)), ElementsAre("b", "d"));
  EXPECT_THAT(failing.to_tick(queues, at(2s)), ElementsAre("b", "d", "c"));
  EXPECT_THAT(failing.to_tick(queues, at(5s)), ElementsAre("b", "d", "c")) << "it has been due for longer";
  failing.failed("c", at(5s));
  EXPECT_THAT(failing.to_tick(queues, at(5s)), ElementsAre("b", "d", "a"));
  failing.succeeded("a");
  EXPECT_THAT(failing.to_tick(queues, at(6s)), ElementsAre("a", "b", "d")) << "the second pause is longer";
  EXPECT_THAT(failing.to_tick(queues, at(9s)), ElementsAre("a", "b", "d", "c"));
  failing.succeeded("c");
  EXPECT_TRUE(failing.empty());
}

TEST(FailingQueues, AreForgottenWhenTheyAreNotToBeTicked) {
  FailingQueues failing{pauses};
  failing.failed("a", at(0s));
  failing.failed("b", at(0s));
  EXPECT_THAT(failing.to_tick({"b"}, at(500ms)), IsEmpty());
  EXPECT_THAT(failing.to_tick({"a", "b"}, at(500ms)), ElementsAre("a"));
  EXPECT_THAT(failing.to_tick({"a"}, at(500ms)), ElementsAre("a"));
  EXPECT_TRUE(failing.empty());
}

}  // namespace
}  // namespace pgque::test
