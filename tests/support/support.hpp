#pragma once

// Waiting for conditions, consumers on threads, captured logs.

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <pgque/pgque.hpp>

namespace pgque::test {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// True as soon as the condition holds, false if it does not within the time. Polls; never a fixed sleep.
bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds patience = 20s);

// Records what is logged. Give `sink()` to the options; this object must outlive it.
class LogCapture {
 public:
  struct Line {
    LogLevel level;
    LogEvent event;
    std::string message;
    std::string queue;
    std::string consumer;
    std::optional<BatchId> batch_id;
    std::optional<EventId> msg_id;
    std::optional<std::int32_t> attempt;
    std::string sqlstate;
    std::string type;
    std::optional<std::chrono::seconds> retry_in;
  };

  LogSink sink();
  std::vector<Line> lines() const;
  std::vector<Line> lines(LogEvent event) const;
  std::size_t count(LogEvent event) const { return lines(event).size(); }

 private:
  mutable std::mutex mutex_;
  std::vector<Line> lines_;
};

// Runs start() of a consumer or ticker on a thread. Stops and joins in its destructor.
template <class Runnable>
class Running {
 public:
  explicit Running(Runnable& runnable) : runnable_{runnable}, thread_{[this] { run(); }} {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() { stop_and_join(); }

  // Returns how long it took.
  std::chrono::milliseconds stop_and_join() {
    const auto begin = Clock::now();
    if (thread_.joinable()) {
      if (!ended_) runnable_.stop();
      thread_.join();
    }
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
  }
  // Waits for start() to return by itself.
  bool wait_ended(std::chrono::milliseconds patience = 20s) {
    return wait_until([&] { return ended_.load(); }, patience);
  }
  bool ended() const { return ended_; }
  // What start() threw; null if it returned. Only after it ended.
  std::exception_ptr error() const { return error_; }

 private:
  void run() {
    try {
      runnable_.start();
    } catch (...) {
      error_ = std::current_exception();
    }
    ended_ = true;
  }

  Runnable& runnable_;
  std::exception_ptr error_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

// Called in SetUp(), skips the test; but fails it in CI, where everything has to be there.
void skip_outside_ci(const std::string& why);

// The text of the exception; fails the test if there is none.
std::string what(const std::exception_ptr& error);

}  // namespace pgque::test
