#pragma once

// How often something may happen: at once after a pause, and at a steady rate when it is asked for without end.

#include <algorithm>
#include <chrono>

namespace pgque::detail {

class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;

  // `burst` times at once, and once per `interval` in the long run.
  RateLimit(std::chrono::milliseconds interval, int burst) : interval_{interval}, burst_{burst} {}

  // When it may happen the next time, which then counts as having happened.
  Clock::time_point next(Clock::time_point now = Clock::now()) {
    earliest_ = std::max(earliest_, now - interval_ * burst_) + interval_;
    return earliest_;
  }
  // It was worth it: what has happened so far does not count.
  void reset() noexcept { earliest_ = {}; }

 private:
  std::chrono::milliseconds interval_;
  int burst_;
  Clock::time_point earliest_{};
};

}  // namespace pgque::detail
