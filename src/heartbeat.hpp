#pragma once

// Signs of life of a cooperative worker while its handlers run, from a thread and a connection of their own.

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include <pgque/consumer.hpp>

#include "logger.hpp"
#include "session.hpp"

namespace pgque::detail {

class Heartbeat {
 public:
  using Clock = std::chrono::steady_clock;

  // All arguments must outlive the heartbeat. It connects when it is first needed.
  Heartbeat(const std::string& dsn, const ConsumerOptions& options, const SessionOptions& session_options,
            Logger& logger);
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  ~Heartbeat();

  // While it lives, the worker counts as alive.
  class Scope {
   public:
    // `sign_of_life`: when it gave the last one, by asking for its batch.
    Scope(Heartbeat& heartbeat, Clock::time_point sign_of_life) : heartbeat_{heartbeat} {
      heartbeat_.set_active(true, sign_of_life);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { heartbeat_.set_active(false, {}); }

   private:
    Heartbeat& heartbeat_;
  };

 private:
  // Marks the session as waiting for an answer, so that the destructor can end that.
  class Beating {
   public:
    explicit Beating(Heartbeat& heartbeat);
    Beating(const Beating&) = delete;
    Beating& operator=(const Beating&) = delete;
    ~Beating();
    explicit operator bool() const noexcept { return heartbeat_.beating_ != nullptr; }  // false: about to quit

   private:
    Heartbeat& heartbeat_;
  };

  void set_active(bool active, Clock::time_point sign_of_life);
  void run();
  void beat();

  const std::string& dsn_;
  const ConsumerOptions& options_;
  const SessionOptions& session_options_;
  Logger& logger_;
  const std::chrono::milliseconds interval_;
  std::shared_ptr<Session> session_;  // of the thread alone

  std::mutex mutex_;
  std::condition_variable changed_;
  Session* beating_ = nullptr;
  bool active_ = false;
  Clock::time_point due_{};  // the next beat, while active
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace pgque::detail
