#include "ticker/loop.hpp"

#include <optional>
#include <utility>

#include "database/conninfo.hpp"
#include "database/error_map.hpp"
#include "database/executor.hpp"
#include "database/pooler.hpp"
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

// The session's lock would stay with the pooler, and nobody would tick for as long as that keeps the session.
Error pooler_in_between() {
  Error::Facts facts;
  facts.operation = "become the active ticker";
  facts.advice =
      "there is a connection pooler in transaction mode in between, which gives the session that holds the ticker's "
      "lock to other clients: connect directly or through a pooler in session mode, or set TickerOptions::pooled "
      "(pgque tick --pooled)";
  return Error{std::move(facts)};
}

// A ticker that stands by would find out only when it has to take over.
void require_grant(const std::shared_ptr<Session>& session, StatementGuard& guard) {
  const StatementGuard::Scope scope{guard, session, StatementGuard::OnStop::cancel};
  const Call call{"ticker"};
  if (read_int64(AutocommitExecutor{session}.run(sql::may_tick, {}, call)) != 0) return;
  Error::Facts facts;
  facts.operation = call.describe();
  facts.server_message = "permission denied for function ticker";
  facts.sqlstate = "42501";
  throw_server_error(std::move(facts), sql::may_tick.role);
}

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

void TickerLoop::run() {
  auto& stopper = run_state_.stopper();
  logger_(LogLevel::info, LogEvent::started, "ticker started");
  const auto guard = make_at_home<StatementGuard>(stopper, milliseconds{0}, milliseconds{0});
  const auto duties = make_at_home<Duties>(dsn_, options_, stopper, counters_, logger_);
  Ticks ticks{options_.reconnect, stopper, counters_, logger_};
  Backoff backoff{options_.reconnect};
  bool ever_connected = false;
  while (!stopper.requested()) {
    std::shared_ptr<Session> session;
    bool refused = false;
    announced_ = false;
    try {
      session = Session::connect(dsn_, session_options_);
      if (std::exchange(ever_connected, true)) counters_.change([](TickerStats& stats) { ++stats.reconnects; });
      logger_(LogLevel::info, LogEvent::connected, "ticker connected");
      refused = !options_.pooled && shares_sessions(session, dsn_, session_options_, *guard);
      if (refused) throw pooler_in_between();
      serve(session, *guard, ticks, *duties, [&] { backoff.reset(); });
    } catch (const Error& error) {
      if (stopper.requested()) break;  // it was the stop that ended a statement
      duties->lead(false);
      const bool lost = !session || !session->is_open();
      counters_.change([&](TickerStats& stats) {
        stats.last_error = error.what();
        stats.leader = false;
        ++(lost ? stats.connection_errors : stats.tick_errors);
      });
      logger_.error(lost ? LogLevel::warning : LogLevel::error, lost ? LogEvent::connection_lost : LogEvent::failed,
                    error);
      if (!ever_connected) throw;
      const bool permanent = refused || is_permanent(error);
      if (permanent && (!options_.on_error || options_.on_error(error) == ErrorAction::stop)) {
        throw;
      }
      // The session and its lock end now, so that a standby can take over while this ticker pauses.
      session.reset();
      stopper.sleep_until(Clock::now() + backoff.next());
    }
  }
  counters_.change([](TickerStats& stats) { stats.leader = false; });
  logger_(LogLevel::info, LogEvent::stopped, "ticker stopped");
}

void TickerLoop::serve(const std::shared_ptr<Session>& session, StatementGuard& guard, Ticks& ticks, Duties& duties,
                       const std::function<void()>& succeeded) {
  auto& stopper = run_state_.stopper();
  require_grant(session, guard);
  if (!options_.pooled && !await_lead(session, guard, succeeded)) return;
  TickerSession ticking{session, guard, options_.pooled ? std::optional{sql::leader_lock_object} : std::nullopt};
  while (!stopper.requested()) {
    const auto begun = Clock::now();
    const bool leading = ticks.round(ticking);
    set_leader(leading);   // not before the first ticks, which may be denied
    duties.lead(leading);  // ticks come first
    succeeded();
    if (session->worn_out()) {
      logger_(LogLevel::warning, LogEvent::failed,
              "the same error came three times in a row: the ticker connects again");
      // The lead ends with the session.
      duties.lead(false);
      counters_.change([](TickerStats& stats) { stats.leader = false; });
      return;
    }
    stopper.sleep_until(leading ? begun + options_.tick_period : Clock::now() + options_.standby_period);
  }
}

bool TickerLoop::await_lead(const std::shared_ptr<Session>& session, StatementGuard& guard,
                            const std::function<void()>& succeeded) {
  auto& stopper = run_state_.stopper();
  AutocommitExecutor executor{session};
  const auto guarded = [&](const auto& statement) {
    const StatementGuard::Scope scope{guard, session, StatementGuard::OnStop::cancel};
    return statement();
  };
  // Without this, a machine that has vanished would keep the lock until the server notices.
  guarded([&] { verbs::configure_session(executor, {"configure the session"}); });
  const auto try_lead = [&] {
    return read_int64(executor.run(sql::try_lead, {sql::leader_lock_class, sql::leader_lock_object},
                                   {"become the active ticker"})) == 1;
  };
  while (!guarded(try_lead)) {
    set_leader(false);
    succeeded();
    if (!stopper.sleep_until(Clock::now() + options_.standby_period)) return false;
  }
  return true;
}

void TickerLoop::set_leader(bool leader) {
  bool changed = false;
  counters_.change([&](TickerStats& stats) { changed = std::exchange(stats.leader, leader) != leader || !announced_; });
  announced_ = true;
  if (!changed) return;
  if (leader) {
    logger_(LogLevel::info, LogEvent::leader, "this ticker is active");
  } else {
    logger_(LogLevel::info, LogEvent::standby, "another ticker is active, this one stands by");
  }
}

}  // namespace pgque::detail
