#include "ticker/duties.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "database/executor.hpp"
#include "database/pqxx_compat.hpp"
#include "database/session.hpp"
#include "database/sql.hpp"
#include "database/verbs.hpp"

namespace pgque::detail {

namespace {

using std::chrono::milliseconds;

// Less than PostgreSQL's deadlock_timeout of 1 s, after which whoever waits for an autovacuum cancels it. Others wait
// behind a lock that is waited for, too.
constexpr milliseconds for_a_lock{500};
constexpr TimeLimits limits_of_duty{for_a_lock, milliseconds{10'000}};
// Maintenance runs functions of the user's.
constexpr TimeLimits limits_of_maintenance{for_a_lock, milliseconds{60'000}};
// Then other duties have their turn.
constexpr milliseconds retries_at_a_time{500};

Error as_error(const std::exception& error) {
  Error::Facts facts;
  facts.operation = "maintenance";
  facts.server_message = error.what();
  return Error{std::move(facts)};
}

}  // namespace

Duties::Duties(Dsn dsn, const TickerOptions& options, const Stopper& stopper, Counters& counters, Logger& logger)
    : dsn_{std::move(dsn)},
      options_{options},
      session_options_{duties_session_options(options)},
      stopper_{stopper},
      counters_{counters},
      logger_{logger},
      guard_{stopper, milliseconds{0}, milliseconds{0}},
      connecting_{milliseconds{0}, options.reconnect} {
  if (options.ticker_max_lag) {
    duties_.push_back({&Duties::lower_max_lag, "until this works, no queue's ticker_max_lag is lowered",
                       &TickerStats::max_lag_errors, Schedule{options.maintenance_period, options.reconnect}});
  }
  duties_.push_back({&Duties::maintain, "until this works, nothing is maintained but the queues that can be rotated",
                     &TickerStats::maintenance_errors, Schedule{options.maintenance_period, options.reconnect}});
  duties_.push_back({&Duties::rotate, "until this works, no queue's tables are rotated again",
                     &TickerStats::rotation_errors, Schedule{options.rotation_period, options.reconnect}});
  duties_.push_back({&Duties::bring_retries_back, "until this works, the retries of all queues wait",
                     &TickerStats::retry_errors, Schedule{options.retry_period, options.reconnect}});
  thread_ = std::thread{[this] { run(); }};
}

Duties::~Duties() {
  {
    const std::lock_guard lock{mutex_};
    quit_ = true;
  }
  // After a stop the guard cancels the statement. Otherwise nobody does.
  if (!stopper_.requested()) guard_.abort();
  changed_.notify_all();
  thread_.join();
}

void Duties::lead(bool leading) {
  {
    const std::lock_guard lock{mutex_};
    if (std::exchange(leading_, leading) == leading) return;
  }
  changed_.notify_all();
}

bool Duties::interrupted() {
  if (!stopper_.home().is_this()) return true;
  const std::lock_guard lock{mutex_};
  return quit_ || !leading_ || stopper_.requested();
}

void Duties::run() {
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return leading_ || quit_; });
    if (quit_ || stopper_.requested()) return;
    if (changed_.wait_until(lock, next(), [&] { return !leading_ || quit_; })) continue;
    lock.unlock();
    work();
    if (!stopper_.home().is_this()) return;  // the log sink called fork(), and returned in the child
    lock.lock();
  }
}

Duties::Clock::time_point Duties::next() const {
  auto next = Clock::time_point::max();
  for (const auto& duty : duties_) next = std::min(next, duty.schedule.next());
  return session_ ? next : std::max(next, connecting_.next());
}

void Duties::work() {
  if (interrupted()) return;
  if (session_ && (!session_->is_open() || session_->worn_out())) session_.reset();
  if (!session_) connect();
  for (auto& duty : duties_) {
    if (!session_ || !session_->is_open() || interrupted()) return;
    if (duty.schedule.due(Clock::now())) perform(duty);
  }
}

void Duties::connect() {
  const auto failed = [&](const Error& error) {
    connecting_.failed(Clock::now());
    if (interrupted()) return;
    counters_.change([](TickerStats& stats) { ++stats.connection_errors; });
    log(error, "; maintenance and retries wait for a connection, ticks do not");
  };
  try {
    const auto session = Session::connect(dsn_, session_options_);
    if (!options_.pooled) {
      const StatementGuard::Scope scope{guard_, session, StatementGuard::OnStop::cancel};
      AutocommitExecutor executor{session};
      verbs::configure_session(executor, {"configure the session for maintenance"});
    }
    session_.emplace(session, guard_, options_.pooled ? std::optional{sql::duties_lock_object} : std::nullopt);
    connecting_.done(Clock::now());
  } catch (const Error& error) {
    failed(error);
  } catch (const std::exception& error) {
    failed(as_error(error));
  }
}

void Duties::perform(Duty& duty) {
  const auto begun = Clock::now();
  try {
    switch ((this->*duty.round)()) {
      case Outcome::done:
        return duty.schedule.done(begun);
      case Outcome::unfinished:
        return duty.schedule.unfinished(Clock::now());
      case Outcome::postponed:
        return duty.schedule.postponed(Clock::now(), options_.standby_period);
    }
  } catch (const Error& error) {
    failed(duty, error);
  } catch (const std::exception& error) {
    failed(duty, as_error(error));
    session_.reset();  // nothing is known about its state
  }
}

void Duties::failed(Duty& duty, const Error& error) {
  duty.schedule.failed(Clock::now());
  // After a stop, the statement was cancelled.
  if (stopper_.requested() || (!session_->is_open() && interrupted())) return;
  if (!session_->is_open()) {
    counters_.change([](TickerStats& stats) { ++stats.connection_errors; });
    return log(error, "; maintenance and retries wait for a new connection, ticks do not");
  }
  counters_.change([&](TickerStats& stats) { ++(stats.*duty.errors); });
  auto meaning = std::string{"; "} + duty.while_it_fails;
  if (error.server_message() == "Insert into queue disallowed") meaning += queues_that_refuse_retries();
  log(error, meaning);
}

void Duties::log(const Error& error, const std::string& what_follows, const std::string& queue) {
  counters_.change([&](TickerStats& stats) { stats.last_error = error.what(); });
  const bool lost = !session_ || !session_->is_open();
  const auto text = error.what() + what_follows;
  LogRecord record{lost || error.retryable() ? LogLevel::warning : LogLevel::error,
                   lost ? LogEvent::connection_lost : LogEvent::failed, text};
  record.queue = queue;
  record.sqlstate = error.sqlstate();
  logger_.write(record);
}

Duties::Outcome Duties::lower_max_lag() {
  return session_->run(sql::lower_max_lag, {std::int64_t{options_.ticker_max_lag->count()}}, {"lower ticker_max_lag"},
                       limits_of_duty)
             ? Outcome::done
             : Outcome::postponed;
}

// PgQue rotates the queues and then calls the users' functions, in one transaction. Until its end, no queue that is due
// for rotation can be ticked. So the queues are rotated before that, and maintenance is short if one is still due,
// because its consumer is behind.
Duties::Outcome Duties::maintain() {
  auto due = queues_to_rotate();
  if (due && !due->empty()) {
    rotate_one_by_one(*due);
    if (!interrupted()) due = queues_to_rotate();
  }
  if (!due || interrupted()) return Outcome::postponed;
  if (!session_->run(sql::maint, {}, {"maint"}, due->empty() ? limits_of_maintenance : limits_of_duty)) {
    return Outcome::postponed;
  }
  counters_.change([](TickerStats& stats) { ++stats.maintenance; });
  return Outcome::done;
}

std::optional<std::vector<std::string>> Duties::queues_to_rotate() {
  const auto listed = session_->run(sql::queues_to_rotate, {}, {"look for queues to rotate"}, limits_of_duty);
  if (!listed) return std::nullopt;
  std::vector<std::string> queues;
  for_each_row(*listed, [&](auto field) { queues.emplace_back(field->c_str()); });
  return queues;
}

// One queue that cannot be rotated keeps no other from it.
void Duties::rotate_one_by_one(const std::vector<std::string>& queues) {
  for (const auto& queue : queues) {
    if (interrupted()) return;
    try {
      session_->run(sql::rotate_step1, {queue}, {"maint_rotate_tables_step1", queue}, limits_of_maintenance);
    } catch (const Error& error) {
      if (!session_->is_open() || stopper_.requested()) throw;
      counters_.change([](TickerStats& stats) { ++stats.maintenance_errors; });
      log(error, "; until this works, the tables of this queue are not rotated, and grow", queue);
    }
  }
}

Duties::Outcome Duties::rotate() {
  return session_->run(sql::rotate_step2, {}, {"maint_rotate_tables_step2"}, limits_of_duty) ? Outcome::done
                                                                                             : Outcome::postponed;
}

// Asks first whether one is due: bringing them back locks the table, which cancels its autovacuum. One call brings ten
// back.
Duties::Outcome Duties::bring_retries_back() {
  const auto end = Clock::now() + retries_at_a_time;
  for (;;) {
    const auto moved = session_->ask(sql::retry_if_due, {}, {"maint_retry_events"}, limits_of_duty);
    if (!moved) return Outcome::postponed;
    if (*moved == 0) return Outcome::done;
    counters_.change([&](TickerStats& stats) { stats.retries += static_cast<std::uint64_t>(*moved); });
    if (interrupted() || Clock::now() >= end) return Outcome::unfinished;
  }
}

std::string Duties::queues_that_refuse_retries() {
  try {
    const auto refusing =
        session_->run(sql::queues_that_refuse_retries, {}, {"look for queues without inserts"}, limits_of_duty);
    std::string names;
    if (refusing) for_each_row(*refusing, [&](auto field) { names += field->c_str(); });
    if (!names.empty()) {
      return " behind those of " + names +
             ", where inserts are disabled (queue_disable_insert): enable them, or delete these retries";
    }
  } catch (const std::exception&) {
    // The error itself is known; only the names are missing.
  }
  return {};
}

}  // namespace pgque::detail
