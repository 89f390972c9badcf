#pragma once

// Ends a statement that must not be waited for any longer: libpqxx waits for an answer for ever.
//
// A receive may wait for a lock: another process with the same consumer name holds it for as long as its handlers run.
// A cancel may come too late for the statement that it is meant for. So that it hits no later one, the cancels of a
// scope have arrived when the scope ends. A statement that keeps handlers' work, stores a batch or finishes one is not
// cancelled but waited for, within limits.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "database/session.hpp"
#include "support/stopper.hpp"
#include "support/wakeup.hpp"

namespace pgque::detail {

class StatementGuard {
 public:
  using Clock = Stopper::Clock;
  static constexpr auto never = Clock::time_point::max();

  // Only abort() ends statements; deadlines are ignored.
  StatementGuard() = default;
  // The stopper ends statements as well. A statement that may drain has `grace` after the drain timeout, or after
  // stop_now().
  StatementGuard(const Stopper& stopper, std::chrono::milliseconds drain_timeout, std::chrono::milliseconds grace);
  StatementGuard(const StatementGuard&) = delete;
  StatementGuard& operator=(const StatementGuard&) = delete;
  ~StatementGuard();

  // What a stop does to a statement: it cancels the statement, and shuts the connection down a second later; or it lets
  // the statement drain, and shuts the connection down after that.
  enum class OnStop { cancel, drain };

  // While a scope exists, its session may be executing a statement. At the deadline, if there is one, the session is
  // shut down even without a stop.
  class Scope {
   public:
    Scope(StatementGuard& guard, std::shared_ptr<Session> session, OnStop on_stop, Clock::time_point deadline = never);
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

   private:
    StatementGuard& guard_;
  };

  // Shuts down the session of the statement that is running, and of each that begins from now on.
  void abort() noexcept;

 private:
  // Watches the stopper and the deadlines, on a separate thread.
  struct Watch {
    const Stopper& stopper;
    const std::chrono::milliseconds drain_timeout;
    const std::chrono::milliseconds grace;
    Wakeup wakeup{};
    std::thread thread{};
  };

  void set(std::shared_ptr<Session> session, OnStop on_stop, Clock::time_point deadline);
  void run();
  bool wait_for_stop(std::unique_lock<std::mutex>& lock);
  void end_after_stop(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Session> session_;  // while there is a scope
  OnStop on_stop_{};
  Clock::time_point deadline_ = never;
  Clock::time_point looks_at_ = never;      // when the thread looks at the deadline by itself
  std::uint64_t scope_ = 0;                 // distinguishes consecutive scopes
  std::vector<std::future<void>> cancels_;  // those that were sent in this scope, ready when they have arrived
  bool aborted_ = false;
  bool quit_ = false;
  std::unique_ptr<Watch> watch_;
};

}  // namespace pgque::detail
