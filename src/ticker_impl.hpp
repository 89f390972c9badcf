#pragma once

#include <memory>
#include <mutex>
#include <string>

#include <pgque/ticker.hpp>

#include "executor.hpp"
#include "logger.hpp"
#include "run_state.hpp"
#include "session.hpp"

namespace pgque::detail {

class TickerImpl {
 public:
  TickerImpl(std::string_view dsn, TickerOptions options);

  void start();
  void stop() noexcept { run_state_.stopper().stop(); }
  void stop_on_signals() { run_state_.stop_on_signals(); }
  void shut_down() { run_state_.shut_down(); }
  TickerStats stats() const;

 private:
  using Clock = Stopper::Clock;

  void run();
  // Works on one connection until stop() or an error. Calls `succeeded` after each round.
  void serve(const std::shared_ptr<Session>& session, const std::function<void()>& succeeded);
  static bool try_lead(Executor& executor);
  void lower_max_lag(Executor& executor);
  void bring_retries_back(Executor& executor);

  template <class Change>
  void count(const Change& change) {
    const std::lock_guard lock{stats_mutex_};
    change(stats_);
  }

  const std::string dsn_;
  const TickerOptions options_;
  SessionOptions session_options_;
  Logger logger_;
  RunState run_state_;
  mutable std::mutex stats_mutex_;
  TickerStats stats_;
};

}  // namespace pgque::detail
