#pragma once

// The counters of a ticker: its threads change them, and any thread reads them.

#include <mutex>

#include <pgque/ticker.hpp>

namespace pgque::detail {

class Counters {
 public:
  template <class Change>
  void change(const Change& change) {
    const std::lock_guard lock{mutex_};
    change(stats_);
  }
  TickerStats snapshot() const {
    const std::lock_guard lock{mutex_};
    return stats_;
  }

 private:
  mutable std::mutex mutex_;
  TickerStats stats_;
};

}  // namespace pgque::detail
