#include "consumer/machine.hpp"

#include <ostream>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::detail {

// For readable failures.
void PrintTo(Action action, std::ostream* out) {
  *out << to_string(action);
}
void PrintTo(Outcome outcome, std::ostream* out) {
  *out << to_string(outcome);
}

}  // namespace pgque::detail

namespace pgque::test {
namespace {

using detail::Action;
using detail::Backoff;
using detail::ConsumerMachine;
using detail::Outcome;
using detail::StopLevel;

const std::vector<Outcome> outcomes{
    Outcome::begun,           Outcome::connected,     Outcome::messages,     Outcome::nothing,
    Outcome::more_windows,    Outcome::drained,       Outcome::page_handled, Outcome::page_interrupted,
    Outcome::end_of_batch,    Outcome::finished,      Outcome::lost,         Outcome::abandoned,
    Outcome::woken,           Outcome::paused,        Outcome::failed,       Outcome::connection_failed,
    Outcome::failed_for_good, Outcome::finish_failed, Outcome::finish_lost,  Outcome::postponed,
    Outcome::resumed};
const std::vector<Action> actions{Action::connect,   Action::receive, Action::look_ahead, Action::handle,
                                  Action::next_page, Action::finish,  Action::wait,       Action::pause,
                                  Action::confirm,   Action::hold,    Action::stop,       Action::fail};
const std::vector<StopLevel> levels{StopLevel::none, StopLevel::drain, StopLevel::abandon};

// A machine with what it is told, from the outcome of start() on.
class Machine {
 public:
  // Leads it through outcomes without a stop.
  explicit Machine(const std::vector<Outcome>& before = {}, bool cooperative = false)
      : machine_{Backoff{{100ms, 1000ms}, 1}, false, cooperative} {
    for (const auto outcome : before) step(outcome);
  }
  Action step(Outcome outcome, StopLevel stop = StopLevel::none, bool held = false) {
    const auto step = machine_.next(outcome, stop, held);
    pause_ = step.pause;
    return step.action;
  }
  std::chrono::milliseconds pause() const { return pause_; }

 private:
  ConsumerMachine machine_;
  std::chrono::milliseconds pause_{0};
};

const std::vector<Outcome> connected{Outcome::begun, Outcome::connected};
const std::vector<Outcome> handling{Outcome::begun, Outcome::connected, Outcome::messages};

struct Row {
  Outcome outcome;
  Action none;
  Action drain;
  Action abandon;
};

void check(const std::vector<Outcome>& before, const std::vector<Row>& rows) {
  std::set<Outcome> seen;
  for (const auto& row : rows) {
    EXPECT_EQ(Machine{before}.step(row.outcome, StopLevel::none), row.none) << to_string(row.outcome);
    EXPECT_EQ(Machine{before}.step(row.outcome, StopLevel::drain), row.drain) << to_string(row.outcome);
    EXPECT_EQ(Machine{before}.step(row.outcome, StopLevel::abandon), row.abandon) << to_string(row.outcome);
    seen.insert(row.outcome);
  }
  EXPECT_EQ(seen.size(), outcomes.size());
}

TEST(ConsumerMachine, KnowsWhatToDoAfterEachOutcomeWhenConnected) {
  check(connected, {
                       {Outcome::begun, Action::connect, Action::stop, Action::stop},
                       {Outcome::connected, Action::receive, Action::stop, Action::stop},
                       {Outcome::messages, Action::handle, Action::stop, Action::stop},
                       {Outcome::nothing, Action::look_ahead, Action::stop, Action::stop},
                       {Outcome::more_windows, Action::receive, Action::stop, Action::stop},
                       {Outcome::drained, Action::wait, Action::stop, Action::stop},
                       {Outcome::page_handled, Action::next_page, Action::next_page, Action::next_page},
                       {Outcome::page_interrupted, Action::stop, Action::stop, Action::stop},
                       {Outcome::end_of_batch, Action::finish, Action::finish, Action::finish},
                       {Outcome::finished, Action::receive, Action::stop, Action::stop},
                       {Outcome::lost, Action::receive, Action::stop, Action::stop},
                       {Outcome::abandoned, Action::pause, Action::stop, Action::stop},
                       {Outcome::postponed, Action::receive, Action::stop, Action::stop},
                       {Outcome::resumed, Action::receive, Action::stop, Action::stop},
                       {Outcome::woken, Action::receive, Action::stop, Action::stop},
                       {Outcome::paused, Action::receive, Action::stop, Action::stop},
                       {Outcome::failed, Action::pause, Action::stop, Action::stop},
                       {Outcome::connection_failed, Action::pause, Action::stop, Action::stop},
                       {Outcome::failed_for_good, Action::fail, Action::fail, Action::fail},
                       {Outcome::finish_failed, Action::pause, Action::pause, Action::stop},
                       {Outcome::finish_lost, Action::pause, Action::pause, Action::stop},
                   });
}

TEST(ConsumerMachine, KnowsWhatToDoAfterEachOutcomeWhileABatchIsHandled) {
  check(handling, {
                      {Outcome::begun, Action::connect, Action::stop, Action::stop},
                      {Outcome::connected, Action::receive, Action::stop, Action::stop},
                      // The one difference: what has been begun goes on within the drain timeout.
                      {Outcome::messages, Action::handle, Action::handle, Action::stop},
                      {Outcome::nothing, Action::look_ahead, Action::stop, Action::stop},
                      {Outcome::more_windows, Action::receive, Action::stop, Action::stop},
                      {Outcome::drained, Action::wait, Action::stop, Action::stop},
                      {Outcome::page_handled, Action::next_page, Action::next_page, Action::next_page},
                      {Outcome::page_interrupted, Action::stop, Action::stop, Action::stop},
                      {Outcome::end_of_batch, Action::finish, Action::finish, Action::finish},
                      {Outcome::finished, Action::receive, Action::stop, Action::stop},
                      {Outcome::lost, Action::receive, Action::stop, Action::stop},
                      {Outcome::abandoned, Action::pause, Action::stop, Action::stop},
                      {Outcome::postponed, Action::receive, Action::stop, Action::stop},
                      {Outcome::resumed, Action::receive, Action::stop, Action::stop},
                      {Outcome::woken, Action::receive, Action::stop, Action::stop},
                      {Outcome::paused, Action::receive, Action::stop, Action::stop},
                      {Outcome::failed, Action::pause, Action::stop, Action::stop},
                      {Outcome::connection_failed, Action::pause, Action::stop, Action::stop},
                      {Outcome::failed_for_good, Action::fail, Action::fail, Action::fail},
                      {Outcome::finish_failed, Action::pause, Action::pause, Action::stop},
                      {Outcome::finish_lost, Action::pause, Action::pause, Action::stop},
                  });
}

TEST(ConsumerMachine, FailsAtOnceWhenItNeverConnected) {
  for (const auto outcome : {Outcome::connection_failed, Outcome::failed, Outcome::failed_for_good}) {
    EXPECT_EQ((Machine{{Outcome::begun}}.step(outcome)), Action::fail) << to_string(outcome);
  }
}

TEST(ConsumerMachine, StopsQuietlyWhenTheFirstConnectionFailsDuringAStop) {
  EXPECT_EQ((Machine{{Outcome::begun}}.step(Outcome::connection_failed, StopLevel::drain)), Action::stop);
}

TEST(ConsumerMachine, DoesNotEvenConnectWhenStoppedBeforeItBegins) {
  EXPECT_EQ(Machine{}.step(Outcome::begun, StopLevel::drain), Action::stop);
}

TEST(ConsumerMachine, PausesAndConnectsAgainWhenALaterConnectionFails) {
  Machine machine{connected};
  EXPECT_EQ(machine.step(Outcome::connection_failed), Action::pause);
  EXPECT_EQ(machine.step(Outcome::paused), Action::connect);
  EXPECT_EQ(machine.step(Outcome::connection_failed), Action::pause);
  EXPECT_EQ(machine.step(Outcome::paused), Action::connect);
  EXPECT_EQ(machine.step(Outcome::connected), Action::receive);
}

TEST(ConsumerMachine, KeepsTheConnectionAfterOtherErrors) {
  Machine machine{connected};
  EXPECT_EQ(machine.step(Outcome::failed), Action::pause);
  EXPECT_EQ(machine.step(Outcome::paused), Action::receive);
}

TEST(ConsumerMachine, ReceivesAtOnceAfterABatch) {
  Machine machine{connected};
  for (int batch = 0; batch < 3; ++batch) {
    EXPECT_EQ(machine.step(Outcome::messages), Action::handle);
    EXPECT_EQ(machine.step(Outcome::page_handled), Action::next_page);
    EXPECT_EQ(machine.step(Outcome::end_of_batch), Action::finish);
    EXPECT_EQ(machine.step(Outcome::finished), Action::receive);
  }
}

TEST(ConsumerMachine, SkipsEmptyWindowsWithoutWaiting) {
  Machine machine{connected};
  for (int window = 0; window < 10; ++window) {
    EXPECT_EQ(machine.step(Outcome::nothing), Action::look_ahead);
    EXPECT_EQ(machine.step(Outcome::more_windows), Action::receive);
  }
  EXPECT_EQ(machine.step(Outcome::nothing), Action::look_ahead);
  EXPECT_EQ(machine.step(Outcome::drained), Action::wait);
  EXPECT_EQ(machine.step(Outcome::woken), Action::receive);
}

TEST(ConsumerMachine, HandlesEveryPageBeforeItFinishes) {
  Machine machine{connected};
  for (int page = 0; page < 4; ++page) {
    EXPECT_EQ(machine.step(Outcome::messages), Action::handle);
    EXPECT_EQ(machine.step(Outcome::page_handled), Action::next_page);
  }
  EXPECT_EQ(machine.step(Outcome::end_of_batch), Action::finish);
}

TEST(ConsumerMachine, NeverAcksWhenANackFailed) {
  Machine machine{handling};
  EXPECT_EQ(machine.step(Outcome::page_handled), Action::next_page);
  EXPECT_EQ(machine.step(Outcome::end_of_batch), Action::finish);
  EXPECT_EQ(machine.step(Outcome::abandoned), Action::pause);  // not finish, and not at once
  EXPECT_GE(machine.pause(), 50ms);
  EXPECT_EQ(machine.step(Outcome::paused), Action::receive);
}

TEST(ConsumerMachine, HoldsInsteadOfReceivingOrWaiting) {
  for (const auto& before : {connected, handling}) {
    for (const auto outcome : outcomes) {
      const auto free = Machine{before}.step(outcome);
      // A window that look_ahead has opened would be kept from other workers.
      const bool holds = outcome != Outcome::more_windows &&
                         (free == Action::receive || free == Action::look_ahead || free == Action::wait);
      EXPECT_EQ(Machine{before}.step(outcome, StopLevel::none, true), holds ? Action::hold : free)
          << to_string(outcome);
      for (const auto level : {StopLevel::drain, StopLevel::abandon}) {
        EXPECT_EQ(Machine{before}.step(outcome, level, true), Machine{before}.step(outcome, level))
            << to_string(outcome);
      }
    }
  }
}

TEST(ConsumerMachine, ConnectsAgainBeforeItHolds) {
  Machine machine{connected};
  EXPECT_EQ(machine.step(Outcome::connection_failed, StopLevel::none, true), Action::pause);
  EXPECT_EQ(machine.step(Outcome::paused, StopLevel::none, true), Action::connect);
  EXPECT_EQ(machine.step(Outcome::connected, StopLevel::none, true), Action::hold);
  EXPECT_EQ(machine.step(Outcome::resumed), Action::receive);
}

TEST(ConsumerMachine, RepeatsTheFinishAndNotTheHandlers) {
  for (const auto level : {StopLevel::none, StopLevel::drain}) {
    Machine machine{handling};
    EXPECT_EQ(machine.step(Outcome::end_of_batch, level), Action::finish);
    for (const auto grown : {100ms, 200ms, 400ms}) {
      EXPECT_EQ(machine.step(Outcome::finish_failed, level), Action::pause);
      EXPECT_GE(machine.pause(), grown / 2);
      EXPECT_LE(machine.pause(), grown);
      EXPECT_EQ(machine.step(Outcome::paused, level), Action::finish);
    }
    EXPECT_EQ(machine.step(Outcome::finished, level), level == StopLevel::none ? Action::receive : Action::stop);
  }
}

TEST(ConsumerMachine, AsksOnANewConnectionWhetherTheBatchIsStillItsOwn) {
  for (const auto level : {StopLevel::none, StopLevel::drain}) {
    Machine machine{handling};
    EXPECT_EQ(machine.step(Outcome::end_of_batch, level), Action::finish);
    for (int attempt = 0; attempt < 3; ++attempt) {
      EXPECT_EQ(machine.step(Outcome::finish_lost, level), Action::pause);
      EXPECT_EQ(machine.step(Outcome::paused, level), Action::connect);
    }
    EXPECT_EQ(machine.step(Outcome::connected, level), Action::confirm);
    EXPECT_EQ(machine.step(Outcome::end_of_batch, level), Action::finish);
    EXPECT_EQ(machine.step(Outcome::finish_lost, level), Action::pause);
    EXPECT_EQ(machine.step(Outcome::paused, level), Action::connect);
    EXPECT_EQ(machine.step(Outcome::connected, level), Action::confirm);
    EXPECT_EQ(machine.step(Outcome::lost, level), level == StopLevel::none ? Action::receive : Action::stop);
  }
}

TEST(ConsumerMachine, ForgetsTheFinishWithTheBatch) {
  for (const auto end : {Outcome::finished, Outcome::lost, Outcome::abandoned, Outcome::failed}) {
    Machine machine{handling};
    EXPECT_EQ(machine.step(Outcome::finish_lost), Action::pause);
    EXPECT_EQ(machine.step(Outcome::paused), Action::connect);
    EXPECT_EQ(machine.step(Outcome::connected), Action::confirm);
    machine.step(end);
    EXPECT_EQ(machine.step(Outcome::paused), Action::receive) << to_string(end);
    EXPECT_EQ(machine.step(Outcome::connected), Action::receive) << to_string(end);
  }
}

TEST(ConsumerMachine, GivesUpTheFinishWhenNoTimeIsLeft) {
  for (const auto outcome : {Outcome::paused, Outcome::connected}) {
    Machine machine{handling};
    EXPECT_EQ(machine.step(Outcome::finish_lost), Action::pause);
    EXPECT_EQ(machine.step(outcome, StopLevel::abandon), Action::stop) << to_string(outcome);
  }
}

TEST(ConsumerMachine, GoesOnWhenAnotherWorkerTookTheBatch) {
  Machine machine{handling};
  EXPECT_EQ(machine.step(Outcome::lost), Action::receive);
}

TEST(ConsumerMachine, PausesLongerAfterEachFailureInARow) {
  Machine machine{connected};
  for (const auto grown : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    EXPECT_EQ(machine.step(Outcome::failed), Action::pause);
    EXPECT_GE(machine.pause(), grown / 2);
    EXPECT_LE(machine.pause(), grown);
    EXPECT_EQ(machine.step(Outcome::paused), Action::receive);
  }
}

TEST(ConsumerMachine, PausesLongerWhenConnectingWorksButReceivingDoesNot) {
  // A connection by itself is no success.
  Machine machine{connected};
  for (const auto grown : {100ms, 200ms, 400ms}) {
    EXPECT_EQ(machine.step(Outcome::connection_failed), Action::pause);
    EXPECT_GE(machine.pause(), grown / 2);
    EXPECT_LE(machine.pause(), grown);
    EXPECT_EQ(machine.step(Outcome::paused), Action::connect);
    EXPECT_EQ(machine.step(Outcome::connected), Action::receive);
  }
}

TEST(ConsumerMachine, PausesLongerWhenTheSameBatchFailsAgainAndAgain) {
  Machine machine{connected};
  for (const auto grown : {100ms, 200ms, 400ms}) {
    EXPECT_EQ(machine.step(Outcome::messages), Action::handle);
    EXPECT_EQ(machine.step(Outcome::page_handled), Action::next_page);
    EXPECT_EQ(machine.step(Outcome::end_of_batch), Action::finish);
    EXPECT_EQ(machine.step(Outcome::abandoned), Action::pause);
    EXPECT_GE(machine.pause(), grown / 2);
    EXPECT_LE(machine.pause(), grown);
    EXPECT_EQ(machine.step(Outcome::paused), Action::receive);
  }
}

TEST(ConsumerMachine, StartsOverWithShortPausesAfterASuccess) {
  for (const auto success : {Outcome::finished, Outcome::lost, Outcome::drained, Outcome::postponed}) {
    Machine machine{connected};
    for (int i = 0; i < 5; ++i) machine.step(Outcome::failed);
    EXPECT_GT(machine.pause(), 100ms);
    machine.step(success);
    machine.step(Outcome::failed);
    EXPECT_LE(machine.pause(), 100ms) << to_string(success);
  }
}

TEST(ConsumerMachine, PausesOnlyWhereItSaysSo) {
  for (const auto outcome : outcomes) {
    for (const auto level : levels) {
      Machine machine{connected};
      const auto action = machine.step(outcome, level);
      EXPECT_EQ(action == Action::pause, machine.pause() > 0ms) << to_string(outcome);
    }
  }
}

TEST(ConsumerMachine, DrainsABatchAcrossItsPages) {
  Machine machine{handling};
  EXPECT_EQ(machine.step(Outcome::page_handled, StopLevel::drain), Action::next_page);
  EXPECT_EQ(machine.step(Outcome::messages, StopLevel::drain), Action::handle);
  EXPECT_EQ(machine.step(Outcome::page_handled, StopLevel::drain), Action::next_page);
  EXPECT_EQ(machine.step(Outcome::end_of_batch, StopLevel::drain), Action::finish);
  EXPECT_EQ(machine.step(Outcome::finished, StopLevel::drain), Action::stop);
}

TEST(ConsumerMachine, DoesNotBeginANewBatchWhenStopping) {
  Machine machine{connected};
  for (const auto outcome : {Outcome::messages, Outcome::page_handled, Outcome::end_of_batch, Outcome::finished}) {
    machine.step(outcome);
  }
  EXPECT_EQ(machine.step(Outcome::messages, StopLevel::drain), Action::stop);
}

TEST(ConsumerMachine, OfAWorkerDiffersOnlyInHandlingWhatItWasGivenBeforeAStop) {
  for (const auto& before : {connected, handling}) {
    for (const auto outcome : outcomes) {
      for (const auto level : levels) {
        for (const bool held : {false, true}) {
          auto expected = Machine{before}.step(outcome, level, held);
          if (outcome == Outcome::messages && level == StopLevel::drain) expected = Action::handle;
          if (outcome == Outcome::more_windows && level == StopLevel::drain) expected = Action::receive;
          EXPECT_EQ((Machine{before, true}.step(outcome, level, held)), expected) << to_string(outcome);
        }
      }
    }
  }
}

TEST(ConsumerMachine, OfAWorkerDrainsTheBatchThatItsLookAheadOpened) {
  Machine machine{connected, true};
  EXPECT_EQ(machine.step(Outcome::nothing), Action::look_ahead);
  EXPECT_EQ(machine.step(Outcome::more_windows, StopLevel::drain), Action::receive);
  EXPECT_EQ(machine.step(Outcome::messages, StopLevel::drain), Action::handle);
  EXPECT_EQ(machine.step(Outcome::page_handled, StopLevel::drain), Action::next_page);
  EXPECT_EQ(machine.step(Outcome::end_of_batch, StopLevel::drain), Action::finish);
  EXPECT_EQ(machine.step(Outcome::finished, StopLevel::drain), Action::stop);
}

TEST(ConsumerMachine, OfAWorkerBeginsNoFurtherBatchDuringAStop) {
  // The window that the look-ahead opened was empty.
  EXPECT_EQ((Machine{connected, true}.step(Outcome::nothing, StopLevel::drain)), Action::stop);
  EXPECT_EQ((Machine{handling, true}.step(Outcome::finished, StopLevel::drain)), Action::stop);
}

TEST(ConsumerMachine, DoesNotTakeAnAbandonedBatchForABegunOne) {
  for (const auto outcome : {Outcome::abandoned, Outcome::failed, Outcome::connection_failed, Outcome::lost}) {
    Machine machine{handling};
    machine.step(outcome);
    EXPECT_EQ(machine.step(Outcome::messages, StopLevel::drain), Action::stop) << to_string(outcome);
  }
}

TEST(ConsumerMachine, AbandonsTheBatchAtStopNow) {
  Machine machine{handling};
  EXPECT_EQ(machine.step(Outcome::page_handled, StopLevel::drain), Action::next_page);
  EXPECT_EQ(machine.step(Outcome::messages, StopLevel::abandon), Action::stop);
}

TEST(ConsumerMachine, AcksWorkThatIsDoneEvenAtStopNow) {
  Machine machine{handling};
  EXPECT_EQ(machine.step(Outcome::page_handled, StopLevel::abandon), Action::next_page);
  EXPECT_EQ(machine.step(Outcome::end_of_batch, StopLevel::abandon), Action::finish);
}

TEST(ConsumerMachine, NeverAcksAPageThatWasInterrupted) {
  Machine machine{handling};
  EXPECT_EQ(machine.step(Outcome::page_interrupted, StopLevel::drain), Action::stop);
}

template <class Enum>
void expect_distinct_names(const std::vector<Enum>& values) {
  std::set<std::string_view> names;
  for (const auto value : values) names.insert(to_string(value));
  EXPECT_EQ(names.size(), values.size());
  EXPECT_EQ(names.count("unknown"), 0u);
}

TEST(ConsumerMachine, NamesItsOutcomesAndActions) {
  expect_distinct_names(outcomes);
  expect_distinct_names(actions);
  EXPECT_EQ(to_string(Outcome::failed_for_good), "failed_for_good");
  EXPECT_EQ(to_string(Action::look_ahead), "look_ahead");
  EXPECT_EQ(to_string(static_cast<Outcome>(99)), "unknown");
  EXPECT_EQ(to_string(static_cast<Action>(99)), "unknown");
}

TEST(ConsumerMachine, StopsWhenDrainedIfToldTo) {
  ConsumerMachine machine{Backoff{{100ms, 1000ms}, 1}, true};
  machine.next(Outcome::begun, StopLevel::none);
  EXPECT_EQ(machine.next(Outcome::connected, StopLevel::none).action, Action::receive);
  EXPECT_EQ(machine.next(Outcome::nothing, StopLevel::none).action, Action::look_ahead);
  EXPECT_EQ(machine.next(Outcome::more_windows, StopLevel::none).action, Action::receive);
  EXPECT_EQ(machine.next(Outcome::drained, StopLevel::none).action, Action::stop);
}

}  // namespace
}  // namespace pgque::test
