#include "consumer/heartbeat.hpp"

#include <exception>
#include <utility>

#include "consumer/options.hpp"
#include "database/executor.hpp"
#include "database/verbs.hpp"

namespace pgque::detail {

Heartbeat::Heartbeat(const Dsn& dsn, const ConsumerOptions& options, const SessionOptions& session_options,
                     Claim& claim, Hooks hooks, Logger& logger)
    : dsn_{dsn},
      options_{options},
      session_options_{session_options},
      claim_{claim},
      hooks_{std::move(hooks)},
      logger_{logger},
      schedule_{heartbeat_interval(options)},
      thread_{[this] { run(); }} {}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock{mutex_};
    quit_ = true;
  }
  guard_.abort();  // the thread may be waiting for an answer that never comes
  changed_.notify_all();
  thread_.join();
}

void Heartbeat::begin(BatchId batch, Clock::time_point asked_for_batch) {
  {
    const std::lock_guard lock{mutex_};
    batch_ = batch;
    schedule_.begin(asked_for_batch);
  }
  changed_.notify_all();
}

void Heartbeat::end() {
  {
    const std::lock_guard lock{mutex_};
    schedule_.end();
  }
  changed_.notify_all();
}

bool Heartbeat::quitting() {
  const std::lock_guard lock{mutex_};
  return quit_;
}

void Heartbeat::run() {
  std::unique_lock lock{mutex_};
  while (!quit_) {
    changed_.wait(lock, [&] { return schedule_.active() || quit_; });
    const auto due = schedule_.due();
    if (changed_.wait_until(lock, due, [&] { return !schedule_.active() || quit_; })) continue;
    const auto asked = Clock::now();
    const auto batch = batch_;
    lock.unlock();
    const bool lost = beat(batch);
    if (!home_.is_this()) return;  // the log sink called fork(), and returned in the child
    lock.lock();
    if (lost && batch_ == batch) schedule_.end();
    schedule_.beaten(asked);
  }
}

// Returns whether it has found the batch lost.
bool Heartbeat::beat(BatchId batch) {
  try {
    if (still_has(batch) || !home_.is_this()) return false;
    return claim_.lose(batch, [&] { hooks_.batch_lost(batch); });
  } catch (const Error& error) {
    // The next heartbeat is another attempt. If none succeeds in time, another worker takes the batch over, and it is
    // not acked here.
    session_.reset();
    if (quitting()) return false;  // the destructor has shut the connection down
    LogRecord record{LogLevel::warning, LogEvent::connection_lost, {}};
    const auto text = std::string{"heartbeat: "} + error.what();
    record.message = text;
    record.sqlstate = error.sqlstate();
    logger_.write(record);
  } catch (const std::exception& error) {
    session_.reset();
    if (quitting()) return false;
    logger_(LogLevel::error, LogEvent::failed, std::string{"heartbeat: "} + error.what());
  }
  return false;
}

// Touches the worker's row, unless a handler is stuck.
bool Heartbeat::still_has(BatchId batch) {
  const bool anew = !session_ || !session_->is_open();
  if (anew) session_ = Session::connect(dsn_, session_options_);
  const StatementGuard::Scope guarded{guard_, session_, StatementGuard::OnStop::drain};
  AutocommitExecutor executor{session_};
  if (anew && !options_.pooled) verbs::configure_session(executor, {"configure the heartbeat's session"});
  const verbs::Receiver worker{options_.queue, options_.name, options_.subconsumer};
  if (hooks_.is_stuck()) {
    return verbs::batch_is_open(executor, worker, batch, {"find the batch", options_.queue, options_.name, batch});
  }
  const auto touched = verbs::touch_with_batch(executor, worker, batch);
  if (!touched.registered) {
    logger_(LogLevel::warning, LogEvent::failed, "heartbeat: this subconsumer is no longer registered");
  }
  return touched.has_batch;
}

}  // namespace pgque::detail
