#include "consumer/heartbeat_schedule.hpp"

#include <chrono>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::HeartbeatSchedule;

// Seconds of a clock. What happens to a worker, and when its next heartbeat is then due.
TEST(HeartbeatSchedule, TellsWhenTheNextIsDue) {
  struct Event {
    enum { begin, beaten, end } what;
    int at;
  };
  const struct {
    const char* what;
    std::vector<Event> events;
    bool active;
    int due;
  } cases[] = {
      {"a batch was asked for", {{Event::begin, 100}}, true, 110},
      {"one heartbeat", {{Event::begin, 100}, {Event::beaten, 110}}, true, 120},
      {"a heartbeat that was late", {{Event::begin, 100}, {Event::beaten, 117}}, true, 127},
      {"the batch ended", {{Event::begin, 100}, {Event::end, 0}}, false, 110},
      {"the batch ended during a heartbeat", {{Event::begin, 100}, {Event::end, 0}, {Event::beaten, 110}}, false, 120},
      {"the next batch", {{Event::begin, 100}, {Event::end, 0}, {Event::begin, 103}}, true, 113},
      {"the next batch was asked for during a heartbeat",
       {{Event::begin, 100}, {Event::end, 0}, {Event::begin, 115}, {Event::beaten, 110}},
       true,
       125},
      {"the answer took longer than the interval", {{Event::begin, 100}, {Event::beaten, 125}}, true, 135},
  };
  const auto time = [](int second) { return HeartbeatSchedule::TimePoint{std::chrono::seconds{second}}; };
  for (const auto& one : cases) {
    HeartbeatSchedule schedule{10s};
    for (const auto& event : one.events) {
      switch (event.what) {
        case Event::begin:
          schedule.begin(time(event.at));
          break;
        case Event::beaten:
          schedule.beaten(time(event.at));
          break;
        case Event::end:
          schedule.end();
          break;
      }
    }
    EXPECT_EQ(schedule.active(), one.active) << one.what;
    EXPECT_EQ(schedule.due(), time(one.due)) << one.what;
  }
}

TEST(HeartbeatSchedule, IsIdleAtFirst) {
  EXPECT_FALSE(HeartbeatSchedule{10s}.active());
}

}  // namespace
}  // namespace pgque::test
