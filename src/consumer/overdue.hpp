#pragma once

// Which things run for too long: no clock, no threads.

#include <chrono>
#include <optional>

namespace pgque::detail {

// Of things that run one after another, somebody looks now and then at the one that is running. Each is found overdue
// once at most. No two of them begin at the same time.
class Overdue {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit Overdue(std::chrono::milliseconds limit) : limit_{limit} {}

  // When the thing that runs now began; empty if nothing runs. True if it is found overdue.
  bool look(std::optional<TimePoint> begun, TimePoint now) {
    // What begins from now on is overdue later than this.
    next_ = now + limit_;
    if (!begun || *begun == found_) return false;
    if (now - *begun < limit_) {
      next_ = *begun + limit_;
      return false;
    }
    found_ = *begun;
    return true;
  }

  // When to look again; before that, nothing can be overdue that was not found.
  TimePoint next() const noexcept { return next_; }

 private:
  std::chrono::milliseconds limit_;
  TimePoint found_ = TimePoint::min();  // when what was found last began
  TimePoint next_{};
};

}  // namespace pgque::detail
