#include <pgque/ticker.hpp>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "backoff.hpp"
#include "conninfo.hpp"
#include "error_map.hpp"
#include "limits.hpp"
#include "row.hpp"
#include "ticker_impl.hpp"

namespace pgque {

namespace detail {

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
  check_duration("connect_timeout", options.connect_timeout, milliseconds{0}, longest_wait);
}

// Something to be done every so often: at once at first, then a period after it was last begun.
class Periodic {
 public:
  using Clock = Stopper::Clock;
  explicit Periodic(milliseconds period) : period_{period} {}
  bool due(Clock::time_point now) {
    if (now < next_) return false;
    next_ = now + period_;
    return true;
  }
  Clock::time_point next() const noexcept { return next_; }

 private:
  milliseconds period_;
  Clock::time_point next_{};
};

}  // namespace

TickerImpl::TickerImpl(std::string_view dsn, TickerOptions options)
    : dsn_{dsn}, options_{std::move(options)}, logger_{options_.log, {}, {}} {
  check(options_);
  session_options_.connect_timeout = options_.connect_timeout;
  session_options_.application_name = "pgque ticker";
  complete_conninfo(dsn_, session_options_);  // a malformed DSN is found here and now
}

void TickerImpl::start() {
  run_state_.run("Ticker", [&] { run(); });
}

TickerStats TickerImpl::stats() const {
  const std::lock_guard lock{stats_mutex_};
  return stats_;
}

void TickerImpl::run() {
  auto& stopper = run_state_.stopper();
  logger_(LogLevel::info, LogEvent::started, "ticker started");
  Backoff backoff{options_.reconnect};
  bool ever_connected = false;
  while (!stopper.requested()) {
    std::shared_ptr<Session> session;
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
      // No statement here names a queue, so one that is missing was dropped in between.
      const bool permanent = is_permanent(error) && !dynamic_cast<const QueueNotFound*>(&error);
      if (!lost && permanent && (!options_.on_error || options_.on_error(error) == ErrorAction::stop)) {
        throw;
      }
      // The session and its lock go now, so that a standby can take over while this one pauses.
      session.reset();
      stopper.sleep_until(Clock::now() + backoff.next());
    }
  }
  count([](TickerStats& stats) { stats.leader = false; });
  logger_(LogLevel::info, LogEvent::stopped, "ticker stopped");
}

void TickerImpl::serve(const std::shared_ptr<Session>& session, const std::function<void()>& succeeded) {
  auto& stopper = run_state_.stopper();
  AutocommitExecutor executor{session};
  // Or the lead stays with a machine that vanished for as long as the server takes it to be there.
  executor.run_plain(sql::last_as_long_as_wanted, {"configure the session"});
  for (bool announced = false; !try_lead(executor); announced = true) {
    if (!announced) logger_(LogLevel::info, LogEvent::standby, "another ticker is active, this one stands by");
    succeeded();
    if (!stopper.sleep_until(Clock::now() + options_.standby_period)) return;
  }
  logger_(LogLevel::info, LogEvent::leader, "this ticker is active");
  count([](TickerStats& stats) { stats.leader = true; });

  Periodic tick{options_.tick_period};
  Periodic retry{options_.retry_period};
  Periodic maintenance{options_.maintenance_period};
  Periodic rotation{options_.rotation_period};
  while (!stopper.requested()) {
    const auto now = Clock::now();
    // Each of these is a transaction of its own. Retries come before the tick that makes them visible.
    if (maintenance.due(now)) {
      lower_max_lag(executor);
      executor.run(sql::maint, {}, {"maint"});
      count([](TickerStats& stats) { ++stats.maintenance; });
    }
    if (rotation.due(now)) executor.run(sql::rotate_step2, {}, {"maint_rotate_tables_step2"});
    if (retry.due(now)) bring_retries_back(executor);
    if (tick.due(now)) {
      const auto ticked = read_int64(executor.run(sql::ticker_all, {}, {"ticker"})).value_or(0);
      count([&](TickerStats& stats) { stats.ticks += static_cast<std::uint64_t>(ticked); });
    }
    succeeded();
    stopper.sleep_until(std::min({tick.next(), retry.next(), maintenance.next(), rotation.next()}));
  }
}

bool TickerImpl::try_lead(Executor& executor) {
  return read_int64(executor.run(sql::try_leader_lock, {sql::leader_lock_class, sql::leader_lock_object},
                                 {"become the active ticker"})) == 1;
}

void TickerImpl::lower_max_lag(Executor& executor) {
  if (!options_.ticker_max_lag) return;
  executor.run(sql::lower_max_lag, {std::int64_t{options_.ticker_max_lag->count()}}, {"lower ticker_max_lag"});
}

void TickerImpl::bring_retries_back(Executor& executor) {
  // One call moves ten messages at most, over all queues.
  while (!run_state_.stopper().requested()) {
    const auto moved = read_int64(executor.run(sql::maint_retry_events, {}, {"maint_retry_events"})).value_or(0);
    if (moved == 0) return;
    count([&](TickerStats& stats) { stats.retries += static_cast<std::uint64_t>(moved); });
  }
}

}  // namespace detail

namespace {

detail::TickerImpl& required(const std::shared_ptr<detail::TickerImpl>& impl) {
  if (!impl) throw std::logic_error{"Ticker: use of a moved-from ticker"};
  return *impl;
}

}  // namespace

Ticker::Ticker(std::string_view dsn, TickerOptions options)
    : impl_{std::make_shared<detail::TickerImpl>(dsn, std::move(options))} {}

Ticker::Ticker(Ticker&&) noexcept = default;

Ticker::~Ticker() {
  if (impl_) impl_->shut_down();
}

void Ticker::start() {
  required(impl_);
  const auto impl = impl_;
  impl->start();
}

void Ticker::stop() noexcept {
  if (impl_) impl_->stop();
}

TickerStats Ticker::stats() const {
  return required(impl_).stats();
}

}  // namespace pgque
