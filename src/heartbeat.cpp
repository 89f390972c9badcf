#include "heartbeat.hpp"

#include <algorithm>

#include "consumer_options.hpp"
#include "executor.hpp"
#include "row.hpp"
#include "sql.hpp"

namespace pgque::detail {

Heartbeat::Heartbeat(const std::string& dsn, const ConsumerOptions& options, const SessionOptions& session_options,
                     Logger& logger)
    : dsn_{dsn},
      options_{options},
      session_options_{session_options},
      logger_{logger},
      interval_{heartbeat_interval(options)},
      thread_{[this] { run(); }} {}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock{mutex_};
    quit_ = true;
    if (beating_) beating_->shut_down();  // it may be waiting for an answer that never comes
  }
  changed_.notify_all();
  thread_.join();
}

void Heartbeat::set_active(bool active, Clock::time_point sign_of_life) {
  {
    const std::lock_guard lock{mutex_};
    active_ = active;
    due_ = sign_of_life + interval_;
  }
  changed_.notify_all();
}

void Heartbeat::run() {
  std::unique_lock lock{mutex_};
  while (!quit_) {
    changed_.wait(lock, [&] { return active_ || quit_; });
    const auto due = due_;
    if (changed_.wait_until(lock, due, [&] { return !active_ || quit_; })) continue;
    // The server dates a sign of life by when it was asked, however long it takes; so it is with the receive.
    const auto asked = Clock::now();
    lock.unlock();
    beat();
    lock.lock();
    due_ = std::max(due_, asked + interval_);
  }
}

Heartbeat::Beating::Beating(Heartbeat& heartbeat) : heartbeat_{heartbeat} {
  const std::lock_guard lock{heartbeat_.mutex_};
  if (!heartbeat_.quit_) heartbeat_.beating_ = heartbeat_.session_.get();
}

Heartbeat::Beating::~Beating() {
  const std::lock_guard lock{heartbeat_.mutex_};
  heartbeat_.beating_ = nullptr;
}

void Heartbeat::beat() {
  try {
    const bool anew = !session_ || !session_->is_open();
    if (anew) session_ = Session::connect(dsn_, session_options_);
    const Beating beating{*this};
    if (!beating) return;
    AutocommitExecutor executor{session_};
    if (anew && !options_.pooled)
      executor.run_plain(sql::last_as_long_as_wanted, {"configure the heartbeat's session"});
    const Operation operation{"touch_subconsumer", options_.queue, options_.name};
    const auto found = read_int64(
        executor.run(sql::touch_subconsumer, {options_.queue, options_.name, options_.subconsumer}, operation));
    if (found.value_or(0) == 0) {
      logger_(LogLevel::warning, LogEvent::failed, "heartbeat: this subconsumer is no longer registered");
    }
  } catch (const Error& error) {
    // The next beat tries again; should none get through in time, the batch is taken over and not acked here.
    logger_.error(LogLevel::warning, LogEvent::connection_lost, error);
    session_.reset();
  } catch (const std::exception& error) {
    logger_(LogLevel::error, LogEvent::failed, std::string{"heartbeat: "} + error.what());
    session_.reset();
  }
}

}  // namespace pgque::detail
