#pragma once

// Reports handlers that run for too long, and batches whose transaction is open for too long, from a separate thread:
// the consumer's own may be inside such a handler.

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <pgque/message.hpp>

#include "consumer/handler_slot.hpp"
#include "consumer/overdue.hpp"
#include "support/home_process.hpp"

namespace pgque::detail {

class Watchdog {
 public:
  using Clock = std::chrono::steady_clock;
  // What is too long; what has no limit is not watched.
  struct Limits {
    std::optional<std::chrono::milliseconds> handler;
    std::optional<std::chrono::milliseconds> transaction;
  };
  // Called on the watchdog's thread, each once for a handler or a batch.
  struct Reports {
    std::function<void(const RunningHandler&)> stuck_handler;
    std::function<void(BatchId)> slow_batch;
  };

  // `threads`: how many threads run handlers.
  Watchdog(std::size_t threads, const Limits& limits, Reports reports);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  // While it lives, the batch is handled. Handlers are watched only then. `begun` is when its transaction began.
  class Scope {
   public:
    Scope(Watchdog& watchdog, BatchId batch, Clock::time_point begun) : watchdog_{watchdog} {
      watchdog_.begin(batch, begun);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { watchdog_.end(); }

   private:
    Watchdog& watchdog_;
  };

  // Where the thread, by its number, tells which handler it runs; null if handlers are not watched.
  HandlerSlot* slot(std::size_t thread) noexcept { return slots_.empty() ? nullptr : &slots_[thread]; }

  // Whether a handler has been running for too long. May be called from any thread.
  bool handler_is_stuck() const noexcept;

 private:
  static constexpr auto never = Clock::time_point::max();

  void begin(BatchId batch, Clock::time_point begun);
  void end();
  void run();
  bool look(std::unique_lock<std::mutex>& lock);

  const Limits limits_;
  const Reports reports_;
  const HomeProcess home_;
  std::vector<HandlerSlot> slots_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<BatchId> batch_;  // while it is handled
  Clock::time_point begun_{};     // its transaction
  Clock::time_point looks_at_ = never;
  bool quit_ = false;

  // Of the thread alone.
  std::vector<Overdue> handlers_;
  std::optional<Overdue> transaction_;
  std::thread thread_;
};

}  // namespace pgque::detail
