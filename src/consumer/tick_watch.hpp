#pragma once

// Whether a queue gets ticks: no I/O, no clock.

#include <algorithm>
#include <chrono>
#include <optional>

#include "database/verbs.hpp"

namespace pgque::detail {

class TickWatch {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `after`: how long a queue may be without a tick; 0 if nobody wants to know.
  explicit TickWatch(std::chrono::milliseconds after) noexcept : after_{after} {}

  // Something has come, or may be expected only from now on.
  void expect(TimePoint now) noexcept {
    if (after_.count() != 0) next_ = now + after_;
  }
  // When to look at the latest tick; empty if its absence is reported already.
  const std::optional<TimePoint>& next() const noexcept { return next_; }
  bool is_due(TimePoint now) const noexcept { return next_ && now >= *next_; }

  // What was seen. True if there is no ticker at work, once.
  bool finds_silence(const verbs::LatestTick& tick, TimePoint now) noexcept {
    using std::chrono::microseconds;
    // How long it may still take.
    auto left = tick.longest_idle + slack - tick.age;
    if (tick.waiting) left = std::min(left, tick.longest_wait + slack - *tick.waiting);
    left = std::max<microseconds>(left, after_ - tick.age);
    if (left <= microseconds{0}) {
      next_.reset();
      return true;
    }
    // An event may come meanwhile, so not much later than usual.
    next_ = now + std::chrono::ceil<std::chrono::milliseconds>(std::min<microseconds>(left, after_ + slack));
    return false;
  }

 private:
  // Even a ticker that works may be a little late.
  static constexpr std::chrono::seconds slack{5};

  std::chrono::milliseconds after_;
  std::optional<TimePoint> next_;
};

}  // namespace pgque::detail
