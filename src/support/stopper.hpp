#pragma once

// The request to stop: how it is made, how urgent it is, and how it wakes threads that wait.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "support/home_process.hpp"
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

  // Both are async-signal-safe, change nothing when called again, and do nothing in a child process.
  void stop() noexcept { request(StopLevel::drain); }
  void stop_now() noexcept { request(StopLevel::abandon); }

  StopLevel level() const noexcept { return static_cast<StopLevel>(request_.load() & level_mask); }
  bool requested() const noexcept { return request_.load() != 0; }

  // When a stop was first requested. Only after requested().
  Clock::time_point requested_at() const noexcept {
    return Clock::time_point{Clock::duration{static_cast<Clock::rep>(request_.load() >> level_bits)}};
  }

  bool may_begin_handler(std::chrono::milliseconds drain_timeout, Clock::time_point now) const noexcept {
    return detail::may_begin_handler(level(), requested_at(), drain_timeout, now);
  }

  // Blocks until a stop is requested (Woken::signalled), until `socket` or `other` (unless negative) can be read or has
  // failed, or until the deadline. Throws std::logic_error in a child process, which would take the parent's wake-ups
  // away.
  Wakeup::Woken wait(int socket, Clock::time_point deadline, int other = -1) const {
    home_.require("start()");
    while (!requested()) {
      const auto woken = wakeup_.wait(socket, deadline, other);
      if (woken != Wakeup::Woken::signalled) return woken;
      if (requested()) break;
      // This byte is stale: the stop that wrote it was forgotten at the end of a run. If it stayed, nobody could wait
      // any more. The byte of a new stop may have been taken out together with it, and others wait for that.
      wakeup_.reset();
      if (requested()) wakeup_.signal();
    }
    return Wakeup::Woken::signalled;
  }
  // Sleeps until the deadline; false if stopped before it.
  bool sleep_until(Clock::time_point deadline) const { return wait(-1, deadline) != Wakeup::Woken::signalled; }

  // Forgets the request, when the run that it ended is over.
  void reset() noexcept {
    request_.store(0);
    wakeup_.reset();
  }

  // The process in which it can stop something.
  const HomeProcess& home() const noexcept { return home_; }

 private:
  static constexpr int level_bits = 2;
  static constexpr std::uint64_t level_mask = (1U << level_bits) - 1;

  void request(StopLevel level) noexcept {
    if (!home_.is_this()) return;
    const auto now = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
    auto before = request_.load();
    for (;;) {
      const auto since = before == 0 ? now : before >> level_bits;
      const auto after = since << level_bits | std::max(before & level_mask, static_cast<std::uint64_t>(level));
      if (request_.compare_exchange_weak(before, after)) break;
    }
    wakeup_.signal();
  }

  static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "stop() is called from signal handlers");
  // 0, or the time of the first request and the level: in one word, so that no other thread sees half of them.
  std::atomic<std::uint64_t> request_{0};
  mutable Wakeup wakeup_;
  HomeProcess home_;
};

}  // namespace pgque::detail
