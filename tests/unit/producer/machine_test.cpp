#include "producer/machine.hpp"

#include <ostream>
#include <set>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::detail {

// For readable failures.
void PrintTo(ProducerAction action, std::ostream* out) {
  *out << to_string(action);
}

}  // namespace pgque::detail

namespace pgque::test {
namespace {

using detail::Backoff;
using detail::ProducerAction;
using detail::ProducerMachine;

constexpr auto never = ProducerMachine::never;
constexpr auto t0 = Clock::time_point{1000s};
constexpr auto delivery_timeout = 10s;

ProducerMachine machine() {
  return {Backoff{{100ms, 1000ms}, 1}, delivery_timeout};
}

ProducerMachine::View view(Clock::time_point due, Clock::time_point oldest, Clock::time_point drain_end = never) {
  return {t0, due, oldest, drain_end};
}

constexpr auto at_once = Clock::time_point::min();

struct Row {
  const char* when;
  ProducerMachine::View view;
  ProducerAction action;
  Clock::time_point until = never;
};

void check(const ProducerMachine& machine, const std::vector<Row>& rows) {
  for (const auto& row : rows) {
    const auto step = machine.next(row.view);
    EXPECT_EQ(step.action, row.action) << row.when;
    EXPECT_EQ(step.until, row.until) << row.when;
  }
}

TEST(ProducerMachine, KnowsWhatToDoWhenConnected) {
  check(machine(), {
                       {"empty", view(never, never), ProducerAction::wait},
                       {"lingering", view(t0 + 5ms, t0), ProducerAction::wait, t0 + 5ms},
                       {"lingering for too long", view(t0 + 1h, t0), ProducerAction::wait, t0 + delivery_timeout},
                       {"due", view(t0, t0 - 5ms), ProducerAction::send},
                       {"overdue", view(t0 - 1s, t0 - 2s), ProducerAction::send},
                       {"full or flushed", view(at_once, t0), ProducerAction::send},
                       {"expired", view(t0 - 9s, t0 - 10s), ProducerAction::expire},
                       {"full, expired", view(at_once, t0 - 11s), ProducerAction::expire},
                       {"closing", view(at_once, t0, t0 + 1s), ProducerAction::send},
                       {"closing, empty", view(never, never, t0 + 1s), ProducerAction::stop},
                       {"closing, expired", view(at_once, t0 - 10s, t0 + 1s), ProducerAction::expire},
                       {"late", view(at_once, t0, t0), ProducerAction::abandon},
                       {"late, empty", view(never, never, t0), ProducerAction::stop},
                       {"late, expired", view(at_once, t0 - 10s, t0 - 1s), ProducerAction::abandon},
                   });
}

TEST(ProducerMachine, KnowsWhatToDoInThePauseAfterALoss) {
  ProducerMachine lost{Backoff{{1h, 1h}, 1}, delivery_timeout};
  lost.disconnected(t0 - 10min);
  const auto pause_end = lost.next(view(never, never)).until;
  EXPECT_GE(pause_end, t0 + 20min);
  EXPECT_LE(pause_end, t0 + 50min);
  check(lost, {
                  {"empty", view(never, never), ProducerAction::pause, pause_end},
                  {"lingering", view(t0 + 5ms, t0), ProducerAction::pause, t0 + delivery_timeout},
                  {"due", view(t0, t0 - 5s), ProducerAction::pause, t0 + 5s},
                  {"full or flushed", view(at_once, t0), ProducerAction::pause, t0 + delivery_timeout},
                  {"expired", view(t0 - 9s, t0 - 10s), ProducerAction::expire},
                  {"closing", view(at_once, t0, t0 + 1s), ProducerAction::pause, t0 + 1s},
                  {"closing, empty", view(never, never, t0 + 1s), ProducerAction::stop},
                  {"closing, expired", view(at_once, t0 - 10s, t0 + 1s), ProducerAction::expire},
                  {"late", view(at_once, t0, t0), ProducerAction::abandon},
                  {"late, empty", view(never, never, t0), ProducerAction::stop},
              });
}

TEST(ProducerMachine, KnowsWhatToDoAfterThePause) {
  ProducerMachine lost{Backoff{{1s, 1s}, 1}, delivery_timeout};
  lost.disconnected(t0 - 1s);
  check(lost, {
                  {"empty", view(never, never), ProducerAction::connect},
                  {"lingering", view(t0 + 5ms, t0), ProducerAction::connect},
                  {"due", view(t0, t0 - 5s), ProducerAction::connect},
                  {"expired", view(t0 - 9s, t0 - 10s), ProducerAction::expire},
                  {"closing", view(at_once, t0, t0 + 1s), ProducerAction::connect},
                  {"closing, empty", view(never, never, t0 + 1s), ProducerAction::stop},
                  {"late", view(at_once, t0, t0), ProducerAction::abandon},
              });
  lost.connected();
  EXPECT_EQ(lost.next(view(t0, t0 - 5s)).action, ProducerAction::send);
}

TEST(ProducerMachine, PausesLongerAfterEachLossUntilSomethingIsSent) {
  auto producer = machine();
  const auto pause = [&] {
    producer.disconnected(t0);
    return producer.next(view(never, never)).until - t0;
  };
  for (const auto grown : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    const auto paused = pause();
    EXPECT_GE(paused, grown / 2);
    EXPECT_LE(paused, grown);
    producer.connected();  // by itself no success
  }
  producer.sent();
  EXPECT_LE(pause(), 100ms);
}

TEST(ProducerMachine, LooksForExpiredEventsOnlySoOften) {
  auto producer = machine();
  EXPECT_EQ(producer.next(view(t0 - 9s, t0 - 10s)).action, ProducerAction::expire);
  producer.disconnected(t0 + 1h);
  producer.expired(t0);
  const auto step = producer.next(view(t0 - 9s, t0 - 10s));
  EXPECT_EQ(step.action, ProducerAction::pause);
  EXPECT_EQ(step.until, t0 + 1s);  // a tenth of delivery_timeout
  auto later = view(t0 - 9s, t0 - 10s);
  later.now = t0 + 1s;
  EXPECT_EQ(producer.next(later).action, ProducerAction::expire);
}

TEST(ProducerMachine, NamesItsActions) {
  std::set<std::string_view> names;
  for (const auto action : {ProducerAction::wait, ProducerAction::pause, ProducerAction::connect, ProducerAction::send,
                            ProducerAction::expire, ProducerAction::abandon, ProducerAction::stop}) {
    names.insert(to_string(action));
  }
  EXPECT_EQ(names.size(), 7u);
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_EQ(to_string(static_cast<ProducerAction>(7)), "unknown");
}

}  // namespace
}  // namespace pgque::test
