#pragma once

// Sends the heartbeats of a cooperative worker while its handlers run, on a separate thread and connection, and finds
// out when another worker has taken the batch over.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include <pgque/consumer_options.hpp>

#include "consumer/claim.hpp"
#include "consumer/heartbeat_schedule.hpp"
#include "database/session.hpp"
#include "database/statement_guard.hpp"
#include "support/home_process.hpp"
#include "support/logger.hpp"

namespace pgque::detail {

class Heartbeat {
 public:
  using Clock = std::chrono::steady_clock;

  // Both are called on the heartbeat's thread.
  struct Hooks {
    std::function<bool()> is_stuck;           // whether a handler is; then the worker does not count as alive
    std::function<void(BatchId)> batch_lost;  // reports it, once for a batch
  };

  // All references must outlive the heartbeat. It connects when it is first needed.
  Heartbeat(const Dsn& dsn, const ConsumerOptions& options, const SessionOptions& session_options, Claim& claim,
            Hooks hooks, Logger& logger);
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  ~Heartbeat();

  // While it lives, the worker has the batch and counts as alive.
  class Scope {
   public:
    Scope(Heartbeat& heartbeat, BatchId batch, Clock::time_point asked_for_batch) : heartbeat_{heartbeat} {
      heartbeat_.begin(batch, asked_for_batch);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { heartbeat_.end(); }

   private:
    Heartbeat& heartbeat_;
  };

 private:
  void begin(BatchId batch, Clock::time_point asked_for_batch);
  void end();
  void run();
  bool beat(BatchId batch);
  bool still_has(BatchId batch);
  bool quitting();

  const Dsn& dsn_;
  const ConsumerOptions& options_;
  const SessionOptions& session_options_;
  Claim& claim_;
  const Hooks hooks_;
  Logger& logger_;
  StatementGuard guard_;
  const HomeProcess home_;
  std::shared_ptr<Session> session_;  // of the thread alone

  std::mutex mutex_;
  std::condition_variable changed_;
  HeartbeatSchedule schedule_;
  BatchId batch_{};  // while the schedule is active
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace pgque::detail
