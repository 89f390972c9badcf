#pragma once

// Lets stop() end a receive that waits for a lock: another process with the same consumer name may hold it for as
// long as its handlers run. Nothing but a rollback follows a receive that stop() has met, so a cancel that comes late
// does no harm. What keeps handlers' work or finishes a batch is not cancelled but waited for, within limits, should
// nobody answer.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "session.hpp"
#include "stopper.hpp"
#include "wakeup.hpp"

namespace pgque::detail {

class ReceiveCanceller {
 public:
  ReceiveCanceller(const Stopper& stopper, std::chrono::milliseconds drain_timeout)
      : stopper_{stopper}, drain_timeout_{drain_timeout}, thread_{[this] { run(); }} {}
  ReceiveCanceller(const ReceiveCanceller&) = delete;
  ReceiveCanceller& operator=(const ReceiveCanceller&) = delete;
  ~ReceiveCanceller();

  // What stop() does to a statement: it cancels it; or it drops the connection if the statement is still at it a second
  // after no handler may begin any more.
  enum class OnStop { cancel, drain };

  // While it lives, the session may be executing something.
  class Scope {
   public:
    Scope(ReceiveCanceller& canceller, std::shared_ptr<Session> session, OnStop on_stop) : canceller_{canceller} {
      canceller_.set(std::move(session), on_stop);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { canceller_.set(nullptr, {}); }

   private:
    ReceiveCanceller& canceller_;
  };

 private:
  void set(std::shared_ptr<Session> session, OnStop on_stop);
  void run();

  const Stopper& stopper_;
  const std::chrono::milliseconds drain_timeout_;
  Wakeup quit_wakeup_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Session> session_;
  OnStop on_stop_{};
  std::uint64_t scope_ = 0;  // tells one from the next
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace pgque::detail
