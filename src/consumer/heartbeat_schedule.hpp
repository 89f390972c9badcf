#pragma once

// When the next heartbeat of a cooperative worker is due: no I/O, no clock, no threads.

#include <algorithm>
#include <chrono>

namespace pgque::detail {

class HeartbeatSchedule {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit HeartbeatSchedule(std::chrono::milliseconds interval) : interval_{interval} {}

  // The worker has a batch. The server dates its last heartbeat to the time when it gave out the batch, at some time
  // after it was asked: the answer may have taken long.
  void begin(TimePoint asked_for_batch) noexcept {
    active_ = true;
    due_ = asked_for_batch + interval_;
  }
  // The worker has no batch any more.
  void end() noexcept { active_ = false; }
  // A heartbeat was sent at that time. A batch that began meanwhile may have put the next one off further.
  void beaten(TimePoint asked) noexcept { due_ = std::max(due_, asked + interval_); }

  bool active() const noexcept { return active_; }
  // When the next one is due; only while active.
  TimePoint due() const noexcept { return due_; }

 private:
  std::chrono::milliseconds interval_;
  bool active_ = false;
  TimePoint due_{};
};

}  // namespace pgque::detail
