#include "ticker/loop.hpp"

#include <algorithm>
#include <utility>

#include "database/conninfo.hpp"
#include "database/error_map.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"
#include "database/verbs.hpp"
#include "support/backoff.hpp"
#include "support/checks.hpp"

namespace pgque::detail {

namespace {

using std::chrono::milliseconds;

void check(const TickerOptions& options) {
  check_duration("tick_period", options.tick_period, milliseconds{1}, longest_wait);
  check_duration("retry_period", options.retry_period, milliseconds{1}, longest_wait);
  check_duration("maintenance_period", options.maintenance_period, milliseconds{1}, longest_wait);
  check_duration("rotation_period", options.rotation_period, milliseconds{1}, longest_wait);
  check_duration("standby_period", options.standby_period, milliseconds{1}, longest_wait);
  if (options.ticker_max_lag) check_duration("ticker_max_lag", *options.ticker_max_lag, milliseconds{1}, longest_wait);
  detail::check(options.reconnect);
}

// A task that is due regularly: at once at first, then one period after it was last begun.
class Periodic {
 public:
  using Clock = Stopper::Clock;
  explicit Periodic(milliseconds period) : period_{period} {}
  bool due(Clock::time_point now) {
    if (now < next_) return false;
    next_ = now + period_;
    return true;
  }
  // It is due again at once.
  void reset() noexcept { next_ = {}; }
  Clock::time_point next() const noexcept { return next_; }

 private:
  milliseconds period_;
  Clock::time_point next_{};
};

}  // namespace

TickerLoop::TickerLoop(Dsn dsn, TickerOptions options)
    : dsn_{std::move(dsn)}, options_{std::move(options)}, logger_{options_.log, {}, {}} {
  check(options_);
  session_options_ = session_options(options_);
  check_fixed(dsn_);
}

void TickerLoop::start(const RunWithin& within) {
  run_state_.run(
      "Ticker", [&] { run(); }, within);
}

TickerStats TickerLoop::stats() const {
  const std::lock_guard lock{stats_mutex_};
  return stats_;
}

void TickerLoop::run() {
  auto& stopper = run_state_.stopper();
  logger_(LogLevel::info, LogEvent::started, "ticker started");
  Backoff backoff{options_.reconnect};
  bool ever_connected = false;
  while (!stopper.requested()) {
    std::shared_ptr<Session> session;
    announced_ = false;
    try {
      session = Session::connect(dsn_, session_options_);
      if (std::exchange(ever_connected, true)) count([](TickerStats& stats) { ++stats.reconnects; });
      logger_(LogLevel::info, LogEvent::connected, "ticker connected");
      serve(session, [&] { backoff.reset(); });
    } catch (const Error& error) {
      count([&](TickerStats& stats) {
        stats.last_error = error.what();
        stats.leader = false;
      });
      const bool lost = !session || !session->is_open();
      logger_.error(lost ? LogLevel::warning : LogLevel::error, lost ? LogEvent::connection_lost : LogEvent::failed,
                    error);
      if (!ever_connected) throw;
      // No statement here names a queue, so a missing queue was dropped while the statement ran.
      const bool permanent = is_permanent(error) && !dynamic_cast<const QueueNotFound*>(&error);
      if (permanent && (!options_.on_error || options_.on_error(error) == ErrorAction::stop)) {
        throw;
      }
      // The session and its lock end now, so that a standby can take over while this ticker pauses.
      session.reset();
      stopper.sleep_until(Clock::now() + backoff.next());
    }
  }
  count([](TickerStats& stats) { stats.leader = false; });
  logger_(LogLevel::info, LogEvent::stopped, "ticker stopped");
}

void TickerLoop::serve(const std::shared_ptr<Session>& session, const std::function<void()>& succeeded) {
  auto& stopper = run_state_.stopper();
  AutocommitExecutor executor{session};
  if (!options_.pooled) {
    // Without this, a machine that has vanished would keep the lock until the server notices.
    verbs::configure_session(executor, {"configure the session"});
    while (!try_lead(executor)) {
      set_leader(false);
      succeeded();
      if (!stopper.sleep_until(Clock::now() + options_.standby_period)) return;
    }
    set_leader(true);
  }

  Periodic tick{options_.tick_period};
  Periodic retry{options_.retry_period};
  Periodic maintenance{options_.maintenance_period};
  Periodic rotation{options_.rotation_period};
  while (!stopper.requested()) {
    const auto now = Clock::now();
    bool leading = true;
    // Each duty is a separate transaction. A duty that another ticker kept this one from stays due.
    const auto duty = [&](Periodic& period, std::uint64_t TickerStats::*counter, const auto& work) {
      std::int64_t done = 0;
      if (!leading || !period.due(now)) return done;
      leading = as_leader(session, executor, [&](Executor& running) { done = work(running); });
      if (!leading) period.reset();
      if (leading && counter) count([&](TickerStats& stats) { stats.*counter += static_cast<std::uint64_t>(done); });
      return done;
    };
    duty(maintenance, &TickerStats::maintenance, [&](Executor& running) {
      lower_max_lag(running);
      verbs::maint(running);
      return 1;
    });
    duty(rotation, nullptr, [](Executor& running) { return verbs::rotate_step2(running), 0; });
    // Retries come before the tick that makes them visible. One call brings ten back, so it is repeated.
    while (duty(retry, &TickerStats::retries, verbs::maint_retry_events) != 0 && leading && !stopper.requested()) {
      retry.reset();
    }
    duty(tick, &TickerStats::ticks, [](Executor& running) { return verbs::ticker_all(running, {"ticker"}); });
    set_leader(leading);
    succeeded();
    const auto next = std::min({tick.next(), retry.next(), maintenance.next(), rotation.next()});
    stopper.sleep_until(leading ? next : Clock::now() + options_.standby_period);
  }
}

bool TickerLoop::try_lead(Executor& executor) {
  return read_int64(executor.run(sql::try_lead, {sql::leader_lock_class, sql::leader_lock_object},
                                 {"become the active ticker"})) == 1;
}

void TickerLoop::set_leader(bool leader) {
  bool changed = false;
  count([&](TickerStats& stats) { changed = std::exchange(stats.leader, leader) != leader || !announced_; });
  announced_ = true;
  if (!changed) return;
  if (leader) {
    logger_(LogLevel::info, LogEvent::leader, "this ticker is active");
  } else {
    logger_(LogLevel::info, LogEvent::standby, "another ticker is active, this one stands by");
  }
}

template <class Work>
bool TickerLoop::as_leader(const std::shared_ptr<Session>& session, AutocommitExecutor& executor, const Work& work) {
  if (!options_.pooled) {
    work(executor);
    return true;
  }
  TransactionExecutor transaction{session};
  try {
    transaction.run_plain(sql::lead_transaction(), {"become the active ticker"});
  } catch (const Error& error) {
    if (error.sqlstate() != "55P03") throw;  // lock_not_available
    return false;
  }
  work(transaction);
  transaction.commit({"commit"});
  return true;
}

void TickerLoop::lower_max_lag(Executor& executor) {
  if (!options_.ticker_max_lag) return;
  executor.run(sql::lower_max_lag, {std::int64_t{options_.ticker_max_lag->count()}}, {"lower ticker_max_lag"});
}

}  // namespace pgque::detail
