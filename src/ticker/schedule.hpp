#pragma once

// When a ticker's work is due: no I/O, no clock, no threads.

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "support/backoff.hpp"

namespace pgque::detail {

// Of one thing that is done again and again. It is due at once at first.
class Schedule {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  Schedule(std::chrono::milliseconds period, const ReconnectOptions& pauses) : period_{period}, backoff_{pauses} {}

  bool due(TimePoint now) const noexcept { return now >= next_; }
  TimePoint next() const noexcept { return next_; }

  // A round that began then has done all there was to do.
  void done(TimePoint begun) {
    backoff_.reset();
    next_ = begun + period_;
  }
  // The round ended with work left, so that what else is due has its turn first.
  void unfinished(TimePoint now) {
    backoff_.reset();
    next_ = now;
  }
  // What failed may have held locks for long, so the next round is no sooner than it would have been otherwise.
  void failed(TimePoint now) { next_ = now + std::max(period_, backoff_.next()); }
  // Another ticker had the turn.
  void postponed(TimePoint now, std::chrono::milliseconds pause) { next_ = now + pause; }

 private:
  std::chrono::milliseconds period_;
  Backoff backoff_;
  TimePoint next_{};
};

// The queues that cannot be ticked at the moment. Each has pauses of its own.
class FailingQueues {
 public:
  using TimePoint = Schedule::TimePoint;

  explicit FailingQueues(const ReconnectOptions& pauses) : pauses_{pauses} {}

  bool empty() const noexcept { return schedules_.empty(); }
  void failed(const std::string& queue, TimePoint now) {
    schedules_.try_emplace(queue, std::chrono::milliseconds{0}, pauses_).first->second.failed(now);
  }
  void succeeded(const std::string& queue) { schedules_.erase(queue); }

  // Which of these queues to tick now: all that work, and then the failing one that has been due for longest, because
  // each attempt may take some time. Forgets failing queues that are not among these.
  std::vector<std::string> to_tick(const std::vector<std::string>& queues, TimePoint now) {
    std::map<std::string, Schedule> kept;
    std::vector<std::string> out;
    const std::string* first = nullptr;
    for (const auto& queue : queues) {
      auto failing = schedules_.extract(queue);
      if (failing.empty()) {
        out.push_back(queue);
        continue;
      }
      const auto& schedule = kept.insert(std::move(failing)).position->second;
      if (schedule.due(now) && (!first || schedule.next() < kept.at(*first).next())) first = &queue;
    }
    if (first) out.push_back(*first);
    schedules_ = std::move(kept);
    return out;
  }

 private:
  ReconnectOptions pauses_;
  std::map<std::string, Schedule> schedules_;
};

}  // namespace pgque::detail
