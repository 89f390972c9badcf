#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <pgque/ticker.hpp>

#include "database/session.hpp"
#include "database/statement_guard.hpp"
#include "support/logger.hpp"
#include "support/run_state.hpp"
#include "ticker/counters.hpp"
#include "ticker/duties.hpp"
#include "ticker/ticks.hpp"

namespace pgque::detail {

// The scheduler: while this ticker is the active one, the thread of start() ticks, and Duties do everything else.
class TickerLoop {
 public:
  TickerLoop(Dsn dsn, TickerOptions options);

  void start(const RunWithin& within);
  void stop() noexcept { run_state_.stopper().stop(); }
  void stop_now() noexcept { run_state_.stopper().stop_now(); }
  void stop_on_signals() { run_state_.stop_on_signals(); }
  void shut_down() { run_state_.shut_down(); }
  const HomeProcess& home() const noexcept { return run_state_.home(); }
  TickerStats stats() const { return counters_.snapshot(); }

 private:
  using Clock = Stopper::Clock;

  void run();
  // Ticks over one connection until stop() or an error, or until it is worn out. Calls `succeeded` after each round.
  void serve(const std::shared_ptr<Session>& session, StatementGuard& guard, Ticks& ticks, Duties& duties,
             const std::function<void()>& succeeded);
  // Waits until this session holds the lock by which the active ticker is known. False after a stop.
  bool await_lead(const std::shared_ptr<Session>& session, StatementGuard& guard,
                  const std::function<void()>& succeeded);
  // Records whether this ticker is active, and logs that when it changes and once per connection.
  void set_leader(bool leader);

  const Dsn dsn_;
  const TickerOptions options_;
  SessionOptions session_options_;
  Logger logger_;
  RunState run_state_;
  Counters counters_;
  bool announced_ = false;  // whether the log says so since the last connect
};

}  // namespace pgque::detail
