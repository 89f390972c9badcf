#pragma once

// Sends the heartbeats of a cooperative worker while its handlers run, on a separate thread and connection.

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include <pgque/consumer_options.hpp>

#include "consumer/heartbeat_schedule.hpp"
#include "database/session.hpp"
#include "database/statement_guard.hpp"
#include "support/home_process.hpp"
#include "support/logger.hpp"

namespace pgque::detail {

class Heartbeat {
 public:
  using Clock = std::chrono::steady_clock;

  // All arguments must outlive the heartbeat. It connects when it is first needed.
  Heartbeat(const Dsn& dsn, const ConsumerOptions& options, const SessionOptions& session_options, Logger& logger);
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  ~Heartbeat();

  // While it lives, the worker counts as alive.
  class Scope {
   public:
    Scope(Heartbeat& heartbeat, Clock::time_point asked_for_batch) : heartbeat_{heartbeat} {
      heartbeat_.begin(asked_for_batch);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { heartbeat_.end(); }

   private:
    Heartbeat& heartbeat_;
  };

 private:
  void begin(Clock::time_point asked_for_batch);
  void end();
  void run();
  void beat();
  bool quitting();

  const Dsn& dsn_;
  const ConsumerOptions& options_;
  const SessionOptions& session_options_;
  Logger& logger_;
  StatementGuard guard_;
  const HomeProcess home_;
  std::shared_ptr<Session> session_;  // of the thread alone

  std::mutex mutex_;
  std::condition_variable changed_;
  HeartbeatSchedule schedule_;
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace pgque::detail
