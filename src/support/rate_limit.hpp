#pragma once

// Limits how often something happens: immediately after a pause, and at a steady rate in the long run.

#include <algorithm>
#include <chrono>

namespace pgque::detail {

class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;

  // Allows `burst` times at once, and once per `interval` in the long run.
  RateLimit(std::chrono::milliseconds interval, int burst) : interval_{interval}, burst_{burst} {}

  // The next time at which it may happen. The caller must then let it happen, because it is counted.
  Clock::time_point next(Clock::time_point now = Clock::now()) {
    earliest_ = std::max(earliest_, now - interval_ * burst_) + interval_;
    return earliest_;
  }
  // Forgets everything that was counted so far.
  void reset() noexcept { earliest_ = {}; }

 private:
  std::chrono::milliseconds interval_;
  int burst_;
  Clock::time_point earliest_{};
};

}  // namespace pgque::detail
