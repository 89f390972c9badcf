// The consumer's machine in a world that answers each action in any way it can, as src/consumer/loop.cpp does.

#include "consumer/machine.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "properties.hpp"

namespace pgque::test {
namespace {

using detail::Action;
using detail::Backoff;
using detail::ConsumerMachine;
using detail::Outcome;
using detail::Step;
using detail::StopLevel;

// Which outcome of those that are possible, whether a stop becomes more urgent before it, and whether the consumer is
// held.
using Turn = std::tuple<int, int, bool>;

enum class BatchState {
  none,
  given,     // the server has opened it in look_ahead()
  open,      // its messages are here, and no handler has been called
  handling,  // handlers have been called
  handled,   // for all of its messages
};

class World {
 public:
  World(bool until_drained, bool cooperative)
      : machine_{Backoff{{initial, maximum}, 1}, until_drained, cooperative},
        until_drained_{until_drained},
        cooperative_{cooperative} {}

  bool ended() const { return ended_; }
  Action action() const { return action_; }

  // The first turn is the outcome of start().
  void turn(const Turn& turn) {
    const auto [choice, stop, held] = turn;
    if (stop == 1 && stop_ == StopLevel::none) stop_ = StopLevel::drain;
    if (stop == 2) stop_ = StopLevel::abandon;
    const auto possible = begun_ ? outcomes() : std::vector{Outcome::begun};
    begun_ = true;
    const auto outcome = possible[static_cast<std::size_t>(choice) % possible.size()];
    RC_LOG() << to_string(outcome) << (held ? " (held)" : "") << (stopping() ? " (stopping)" : "");
    happen(outcome);
    const auto step = machine_.next(outcome, stop_, held);
    RC_LOG() << " -> " << to_string(step.action) << "\n";
    check(outcome, step, held);
    action_ = step.action;
    ended_ = action_ == Action::stop || action_ == Action::fail;
  }

  // The world is kind from now on: each action succeeds. How many of them there are until it is `wanted`.
  int actions_until(Action wanted, StopLevel stop) {
    stop_ = std::max(stop_, stop);
    int actions = 0;
    while ((!begun_ || action_ != wanted) && !ended_ && actions < 100) {
      turn({0, 0, false});
      ++actions;
    }
    return actions;
  }

 private:
  static constexpr auto initial = 100ms;
  static constexpr auto maximum = 1000ms;

  bool stopping() const { return stop_ != StopLevel::none; }

  // What may become of the action, the best first.
  std::vector<Outcome> outcomes() const {
    using O = Outcome;
    const bool finishing = batch_ == BatchState::handled;
    std::vector<O> all;
    switch (action_) {
      case Action::connect:
        if (finishing) return {O::connected, O::finish_lost, O::failed_for_good};
        return {O::connected, O::connected, O::connected, O::connection_failed, O::failed, O::failed_for_good};
      case Action::receive:
        return {O::nothing, O::messages, O::end_of_batch, O::failed, O::connection_failed, O::failed_for_good};
      case Action::look_ahead:
        return {O::drained, O::more_windows, O::failed, O::connection_failed};
      case Action::handle:
        all = {O::page_handled, O::lost, O::postponed, O::failed, O::connection_failed, O::failed_for_good};
        break;
      case Action::next_page:
        all = {O::end_of_batch, O::messages, O::abandoned, O::failed, O::connection_failed, O::failed_for_good};
        break;
      case Action::finish:
        all = {O::finished, O::lost,        O::abandoned,         O::finish_failed,
               O::failed,   O::finish_lost, O::connection_failed, O::failed_for_good};
        break;
      case Action::wait:
        return {O::woken, O::connection_failed, O::failed};
      case Action::pause:
        return {O::paused};
      case Action::hold:
        return {O::resumed, O::connection_failed};
      case Action::confirm:
        return {O::end_of_batch, O::finished, O::lost, O::finish_failed, O::finish_lost, O::failed_for_good};
      case Action::stop:
      case Action::fail:
        break;
    }
    if (stopping()) all.push_back(O::page_interrupted);
    return all;
  }

  void happen(Outcome outcome) {
    switch (outcome) {
      case Outcome::connected:
        connected_ = ever_connected_ = true;
        break;
      case Outcome::messages:
        if (batch_ != BatchState::handling) batch_ = BatchState::open;
        break;
      case Outcome::more_windows:
        if (cooperative_) batch_ = BatchState::given;
        break;
      case Outcome::page_handled:
        batch_ = BatchState::handling;
        break;
      case Outcome::end_of_batch:
        batch_ = BatchState::handled;
        break;
      case Outcome::nothing:
        batch_ = BatchState::none;
        break;
      case Outcome::finished:
      case Outcome::lost:
      case Outcome::postponed:
        batch_ = BatchState::none;
        failures_ = 0;
        break;
      case Outcome::drained:
        failures_ = 0;
        break;
      case Outcome::abandoned:
      case Outcome::failed:
      case Outcome::failed_for_good:
        batch_ = BatchState::none;
        break;
      case Outcome::connection_failed:
        batch_ = BatchState::none;
        connected_ = false;
        break;
      case Outcome::finish_lost:
        connected_ = false;
        break;
      default:
        break;
    }
    const bool failed_to_finish = outcome == Outcome::finish_failed || outcome == Outcome::finish_lost;
    if (failed_to_finish) finish_failed_ = true;
    if (batch_ != BatchState::handled) finish_failed_ = false;
    if (outcome == Outcome::connected) new_connection_ = true;
    if (action_ == Action::confirm && connected_) new_connection_ = false;
  }

  // What must hold for each action.
  void check(Outcome outcome, const Step& step, bool held) {
    const bool without_batch = batch_ == BatchState::none;
    const bool abandoning = stop_ == StopLevel::abandon;
    switch (step.action) {
      case Action::connect:
        RC_ASSERT(!connected_);
        RC_ASSERT(!stopping() || (finish_failed_ && !abandoning));
        break;
      case Action::receive:
        RC_ASSERT(connected_);
        RC_ASSERT(without_batch || batch_ == BatchState::given);
        RC_ASSERT(!stopping() || (batch_ == BatchState::given && !abandoning));
        RC_ASSERT(!held || batch_ == BatchState::given || outcome == Outcome::more_windows);
        break;
      case Action::look_ahead:
        RC_ASSERT(connected_ && without_batch && !stopping() && !held);
        break;
      case Action::handle:
        RC_ASSERT(connected_);
        RC_ASSERT(batch_ == BatchState::open || batch_ == BatchState::handling);
        // A stop lets only go on what has begun, or what nobody else would be given.
        RC_ASSERT(!abandoning);
        RC_ASSERT(!stopping() || batch_ == BatchState::handling || cooperative_);
        if (batch_ == BatchState::open) batch_ = BatchState::handling;
        break;
      case Action::next_page:
        RC_ASSERT(connected_ && batch_ == BatchState::handling);
        break;
      case Action::finish:
        RC_ASSERT(connected_ && batch_ == BatchState::handled);
        // On another connection, it is asked first whether the batch is still there.
        RC_ASSERT(!finish_failed_ || !new_connection_);
        new_connection_ = false;
        break;
      case Action::confirm:
        RC_ASSERT(connected_ && finish_failed_ && !abandoning);
        break;
      case Action::wait:
        RC_ASSERT(connected_ && without_batch && !stopping() && !held && !until_drained_);
        break;
      case Action::hold:
        RC_ASSERT(connected_ && without_batch && !stopping() && held);
        break;
      case Action::pause:
        check_pause(step.pause);
        RC_ASSERT(!stopping() || (finish_failed_ && !abandoning));
        break;
      case Action::stop:
        RC_ASSERT(stopping() || (until_drained_ && outcome == Outcome::drained));
        // While it drains, a batch whose handlers have run is finished, and a worker's is not left.
        RC_ASSERT(abandoning || !finish_failed_);
        RC_ASSERT(abandoning || batch_ != BatchState::given);
        RC_ASSERT(abandoning || !cooperative_ || batch_ != BatchState::open);
        break;
      case Action::fail:
        RC_ASSERT(outcome == Outcome::failed_for_good || !ever_connected_);
        break;
    }
  }

  void check_pause(std::chrono::milliseconds pause) {
    auto grown = initial;
    for (int i = 0; i < failures_ && grown < maximum; ++i)
      grown = std::min(grown * 2, std::chrono::milliseconds{maximum});
    ++failures_;
    RC_ASSERT(pause >= grown / 2);
    RC_ASSERT(pause <= grown);
  }

  ConsumerMachine machine_;
  const bool until_drained_;
  const bool cooperative_;
  Action action_ = Action::stop;
  bool begun_ = false;
  bool ended_ = false;
  StopLevel stop_ = StopLevel::none;
  bool connected_ = false;
  bool ever_connected_ = false;
  BatchState batch_ = BatchState::none;
  bool finish_failed_ = false;   // the handled batch could not be finished yet
  bool new_connection_ = false;  // since the last attempt
  int failures_ = 0;             // pauses since something succeeded
};

struct Walk {
  World world;
  std::vector<Turn> turns;
};

Walk any_walk(bool with_stops) {
  const auto until_drained = *rc::gen::arbitrary<bool>();
  const auto cooperative = *rc::gen::arbitrary<bool>();
  // A stop is rare, so that there is something to stop.
  const auto stop = with_stops ? rc::gen::weightedElement<int>({{30, 0}, {2, 1}, {1, 2}}) : rc::gen::just(0);
  const auto held = rc::gen::weightedElement<bool>({{5, false}, {1, true}});
  // Most actions succeed, so that it does not end before anything has happened.
  const auto choice =
      rc::gen::weightedOneOf<int>({{3, rc::gen::inRange(0, 3)}, {2, rc::gen::just(0)}, {1, rc::gen::inRange(0, 840)}});
  return {World{until_drained, cooperative},
          *rc::gen::container<std::vector<Turn>>(rc::gen::tuple(choice, stop, held))};
}

void go(Walk& walk) {
  for (const auto& turn : walk.turns) {
    if (walk.world.ended()) return;
    walk.world.turn(turn);
  }
}

RC_GTEST_PROP(ConsumerMachineProperties, NeverDoesWhatTheWorldDoesNotAllow, ()) {
  auto walk = any_walk(true);
  go(walk);
}

RC_GTEST_PROP(ConsumerMachineProperties, ComesToItsEndSoonAfterAStopWhateverHappenedBefore, ()) {
  auto walk = any_walk(true);
  const auto abandon = *rc::gen::arbitrary<bool>();
  go(walk);
  const auto stop = abandon ? StopLevel::abandon : StopLevel::drain;
  if (!walk.world.ended()) RC_ASSERT(walk.world.actions_until(Action::stop, stop) <= 12);
  RC_ASSERT(walk.world.ended());
}

RC_GTEST_PROP(ConsumerMachineProperties, ReceivesAgainSoonWhenTheWorldIsKind, ()) {
  auto walk = any_walk(false);
  go(walk);
  if (!walk.world.ended()) RC_ASSERT(walk.world.actions_until(Action::receive, StopLevel::none) <= 12);
  RC_ASSERT(walk.world.ended() || walk.world.action() == Action::receive);
}

}  // namespace
}  // namespace pgque::test
