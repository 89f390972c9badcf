#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include <pgque/ticker.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"
#include "support/logger.hpp"
#include "support/run_state.hpp"

namespace pgque::detail {

// The scheduler: calls the functions that PgQue needs called regularly, while this ticker is the active one.
class TickerLoop {
 public:
  TickerLoop(Dsn dsn, TickerOptions options);

  void start(const RunWithin& within);
  void stop() noexcept { run_state_.stopper().stop(); }
  void stop_now() noexcept { run_state_.stopper().stop_now(); }
  void stop_on_signals() { run_state_.stop_on_signals(); }
  void shut_down() { run_state_.shut_down(); }
  const HomeProcess& home() const noexcept { return run_state_.home(); }
  TickerStats stats() const;

 private:
  using Clock = Stopper::Clock;

  void run();
  // Works on one connection until stop() or an error. Calls `succeeded` after each round.
  void serve(const std::shared_ptr<Session>& session, const std::function<void()>& succeeded);
  static bool try_lead(Executor& executor);
  // Records whether this ticker is active, and logs that when it changes and once per connection.
  void set_leader(bool leader);
  // Does the work, unless another ticker is the active one. The session of the active ticker holds the lock; behind a
  // pooler, where a session's lock would stay with the pooler, each transaction takes the lock for itself.
  template <class Work>
  bool as_leader(const std::shared_ptr<Session>& session, AutocommitExecutor& executor, const Work& work);
  void lower_max_lag(Executor& executor);

  template <class Change>
  void count(const Change& change) {
    const std::lock_guard lock{stats_mutex_};
    change(stats_);
  }

  const Dsn dsn_;
  const TickerOptions options_;
  SessionOptions session_options_;
  Logger logger_;
  RunState run_state_;
  mutable std::mutex stats_mutex_;
  TickerStats stats_;
  bool announced_ = false;  // whether the log says so since the last connect
};

}  // namespace pgque::detail
