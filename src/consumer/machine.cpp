#include "consumer/machine.hpp"

namespace pgque::detail {

Step ConsumerMachine::next(Outcome outcome, StopLevel stop, bool held) {
  const bool stopping = stop != StopLevel::none;
  const auto unless_stopping = [&](Action action) { return Step{stopping ? Action::stop : action}; };
  const auto unless_held = [&](Action action) { return unless_stopping(held ? Action::hold : action); };
  switch (outcome) {
    case Outcome::begun:
      return unless_stopping(Action::connect);
    case Outcome::connected:
      ever_connected_ = connected_ = true;
      if (finishing_ && stop != StopLevel::abandon) return {Action::confirm};
      return unless_held(Action::receive);
    case Outcome::messages:
      // A batch of which no handler has run can wait for the next start, unless it is a worker's: perhaps there is no
      // next start under this name. Otherwise the batch continues within the drain timeout, because leaving it would
      // repeat what its handlers did.
      if (stop == StopLevel::abandon || (stopping && !handling_ && !cooperative_)) return {Action::stop};
      handling_ = true;
      return {Action::handle};
    case Outcome::nothing:
      return unless_held(Action::look_ahead);
    case Outcome::more_windows:
      // The server has opened the batch. A worker that pauses or stops would keep it from the other workers.
      if (cooperative_ && stop == StopLevel::drain) return {Action::receive};
      return unless_stopping(Action::receive);
    case Outcome::drained:
      backoff_.reset();
      return until_drained_ ? Step{Action::stop} : unless_held(Action::wait);
    case Outcome::page_handled:
      return {Action::next_page};
    case Outcome::page_interrupted:
      return {Action::stop};
    case Outcome::end_of_batch:
      return {Action::finish};  // even after stop(), because all messages are handled
    case Outcome::finished:
    case Outcome::lost:
    case Outcome::postponed:
      handling_ = finishing_ = false;
      backoff_.reset();
      return unless_held(Action::receive);
    case Outcome::woken:
    case Outcome::resumed:
      return unless_held(Action::receive);
    case Outcome::paused:
      if (finishing_ && stop != StopLevel::abandon) return {connected_ ? Action::finish : Action::connect};
      return connected_ ? unless_held(Action::receive) : unless_stopping(Action::connect);
    case Outcome::connection_failed:
      connected_ = false;
      [[fallthrough]];
    case Outcome::abandoned:
    case Outcome::failed:
      handling_ = finishing_ = false;
      if (stopping) return {Action::stop};
      return ever_connected_ ? pause() : Step{Action::fail};  // a first connection that fails would fail for ever
    case Outcome::failed_for_good:
      return {Action::fail};
    case Outcome::finish_lost:
      connected_ = false;
      [[fallthrough]];
    case Outcome::finish_failed:
      // The handlers are not called again for this, and a stop lets it go on within the drain timeout.
      finishing_ = true;
      return stop == StopLevel::abandon ? Step{Action::stop} : pause();
  }
  return {Action::fail};
}

std::string_view to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::begun:
      return "begun";
    case Outcome::connected:
      return "connected";
    case Outcome::messages:
      return "messages";
    case Outcome::nothing:
      return "nothing";
    case Outcome::more_windows:
      return "more_windows";
    case Outcome::drained:
      return "drained";
    case Outcome::page_handled:
      return "page_handled";
    case Outcome::page_interrupted:
      return "page_interrupted";
    case Outcome::end_of_batch:
      return "end_of_batch";
    case Outcome::finished:
      return "finished";
    case Outcome::lost:
      return "lost";
    case Outcome::abandoned:
      return "abandoned";
    case Outcome::postponed:
      return "postponed";
    case Outcome::woken:
      return "woken";
    case Outcome::resumed:
      return "resumed";
    case Outcome::paused:
      return "paused";
    case Outcome::failed:
      return "failed";
    case Outcome::connection_failed:
      return "connection_failed";
    case Outcome::failed_for_good:
      return "failed_for_good";
    case Outcome::finish_failed:
      return "finish_failed";
    case Outcome::finish_lost:
      return "finish_lost";
  }
  return "unknown";
}

std::string_view to_string(Action action) noexcept {
  switch (action) {
    case Action::connect:
      return "connect";
    case Action::receive:
      return "receive";
    case Action::look_ahead:
      return "look_ahead";
    case Action::handle:
      return "handle";
    case Action::next_page:
      return "next_page";
    case Action::finish:
      return "finish";
    case Action::wait:
      return "wait";
    case Action::pause:
      return "pause";
    case Action::hold:
      return "hold";
    case Action::confirm:
      return "confirm";
    case Action::stop:
      return "stop";
    case Action::fail:
      return "fail";
  }
  return "unknown";
}

}  // namespace pgque::detail
