#pragma once

// The request to stop: how it is made, how urgent it is, and how it wakes threads that wait.

#include <atomic>
#include <chrono>
#include <cstdint>

#include "support/wakeup.hpp"

namespace pgque::detail {

enum class StopLevel : int {
  none = 0,
  drain = 1,    // finish what has begun
  abandon = 2,  // begin nothing more
};

// Whether another handler may begin: always, until stop() was called; then until the drain timeout is over.
inline bool may_begin_handler(StopLevel stop, std::chrono::steady_clock::time_point requested_at,
                              std::chrono::milliseconds drain_timeout,
                              std::chrono::steady_clock::time_point now) noexcept {
  if (stop == StopLevel::none) return true;
  return stop == StopLevel::drain && now - requested_at < drain_timeout;
}

class Stopper {
 public:
  using Clock = std::chrono::steady_clock;

  // Async-signal-safe.
  void stop() noexcept {
    auto none = std::int64_t{0};
    requested_at_.compare_exchange_strong(none, Clock::now().time_since_epoch().count());
    requests_.fetch_add(1);
    wakeup_.signal();
  }

  StopLevel level() const noexcept {
    const int requests = requests_.load();
    return requests == 0 ? StopLevel::none : requests == 1 ? StopLevel::drain : StopLevel::abandon;
  }
  bool requested() const noexcept { return requests_.load() != 0; }

  // When stop() was first called. Only after requested().
  Clock::time_point requested_at() const noexcept { return Clock::time_point{Clock::duration{requested_at_.load()}}; }

  bool may_begin_handler(std::chrono::milliseconds drain_timeout, Clock::time_point now) const noexcept {
    return detail::may_begin_handler(level(), requested_at(), drain_timeout, now);
  }

  // Sleeps until the deadline; false if stopped before it.
  bool sleep_until(Clock::time_point deadline) const { return wakeup_.wait(-1, deadline) != Wakeup::Woken::signalled; }
  const Wakeup& wakeup() const noexcept { return wakeup_; }

  // Forgets the request, when the run that it ended is over.
  void reset() noexcept {
    requests_.store(0);
    requested_at_.store(0);
    wakeup_.reset();
  }

 private:
  static_assert(std::atomic<std::int64_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
                "stop() is called from signal handlers");
  std::atomic<int> requests_{0};
  std::atomic<std::int64_t> requested_at_{0};
  Wakeup wakeup_;
};

}  // namespace pgque::detail
