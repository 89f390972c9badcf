#include "producer/machine.hpp"

#include <algorithm>

namespace pgque::detail {

ProducerMachine::Step ProducerMachine::next(const View& view) const {
  const bool empty = view.oldest == never;
  const bool closing = view.drain_end != never;
  if (empty && closing) return {ProducerAction::stop};
  if (view.now >= view.drain_end) return {ProducerAction::abandon};

  const auto expiry = empty ? never : std::max(view.oldest + delivery_timeout_, no_expiry_before_);
  if (view.now >= expiry) return {ProducerAction::expire};
  const auto interrupted = std::min(expiry, view.drain_end);
  if (!connected_) {
    if (view.now >= pause_end_) return {ProducerAction::connect};
    return {ProducerAction::pause, std::min(pause_end_, interrupted)};
  }
  if (view.now >= view.due) return {ProducerAction::send};
  return {ProducerAction::wait, std::min(view.due, interrupted)};
}

void ProducerMachine::disconnected(Clock::time_point now) {
  connected_ = false;
  pause_end_ = now + backoff_.next();
}

void ProducerMachine::expired(Clock::time_point now) noexcept {
  constexpr std::chrono::milliseconds longest{1'000};
  no_expiry_before_ = now + std::min(delivery_timeout_ / 10, longest);
}

std::string_view to_string(ProducerAction action) noexcept {
  switch (action) {
    case ProducerAction::wait:
      return "wait";
    case ProducerAction::pause:
      return "pause";
    case ProducerAction::connect:
      return "connect";
    case ProducerAction::send:
      return "send";
    case ProducerAction::expire:
      return "expire";
    case ProducerAction::abandon:
      return "abandon";
    case ProducerAction::stop:
      return "stop";
  }
  return "unknown";
}

}  // namespace pgque::detail
