#pragma once

// Lets stop() end a receive that waits for a lock: another process with the same consumer name may hold it for as
// long as its handlers run. Nothing but a rollback follows a receive that stop() has met, so a cancel that comes late
// does no harm. What finishes a batch is not cancelled but waited for, within limits, should nobody answer.

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
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

  // While it lives, stop() cancels what the session is executing; or, with a drain timeout, drops the connection if
  // the session is still at it a second after no handler may begin any more.
  class Scope {
   public:
    Scope(ReceiveCanceller& canceller, std::shared_ptr<Session> session,
          std::optional<std::chrono::milliseconds> drain_timeout = std::nullopt)
        : canceller_{canceller} {
      canceller_.set(std::move(session), drain_timeout);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { canceller_.set(nullptr, std::nullopt); }

   private:
    ReceiveCanceller& canceller_;
  };

 private:
  void set(std::shared_ptr<Session> session, std::optional<std::chrono::milliseconds> drain_timeout);
  void run();

  const Stopper& stopper_;
  Wakeup quit_wakeup_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Session> session_;
  std::optional<std::chrono::milliseconds> drain_timeout_;
  int scope_ = 0;  // tells one from the next
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace pgque::detail
