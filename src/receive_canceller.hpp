#pragma once

// Lets stop() end a receive that waits for a lock: another process with the same consumer name may hold it for as
// long as its handlers run. Nothing but a rollback follows a receive that stop() has met, so a cancel that comes late
// does no harm.

#include <condition_variable>
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
  explicit ReceiveCanceller(const Stopper& stopper) : stopper_{stopper}, thread_{[this] { run(); }} {}
  ReceiveCanceller(const ReceiveCanceller&) = delete;
  ReceiveCanceller& operator=(const ReceiveCanceller&) = delete;
  ~ReceiveCanceller();

  // While it lives, stop() cancels what the session is executing.
  class Scope {
   public:
    Scope(ReceiveCanceller& canceller, std::shared_ptr<Session> session) : canceller_{canceller} {
      canceller_.set(std::move(session));
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { canceller_.set(nullptr); }

   private:
    ReceiveCanceller& canceller_;
  };

 private:
  void set(std::shared_ptr<Session> session);
  void run();

  const Stopper& stopper_;
  Wakeup quit_wakeup_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Session> session_;
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace pgque::detail
