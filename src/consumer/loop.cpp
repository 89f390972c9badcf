#include "consumer/loop.hpp"

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <utility>

#include "consumer/options.hpp"
#include "database/conninfo.hpp"
#include "database/error_map.hpp"
#include "database/sql.hpp"
#include "database/verbs.hpp"
#include "support/in_words.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

std::string consumer_label(const ConsumerOptions& options) {
  return options.subconsumer.empty() ? options.name : options.name + '.' + options.subconsumer;
}

std::unique_ptr<CrashGuardFile> open_crash_guard(const ConsumerOptions& options) {
  if (!options.crash_guard) return nullptr;
  return std::make_unique<CrashGuardFile>(*options.crash_guard, options.queue, consumer_label(options));
}

std::uint64_t callbacks_of(const std::vector<Deferred>& deferred) {
  std::uint64_t callbacks = 0;
  for (const auto& one : deferred) callbacks += one.callbacks.size();
  return callbacks;
}

// How long a statement may take when no time is left after a stop.
constexpr std::chrono::milliseconds finish_grace{1000};

// A stop cancels the running statement, so this error is expected then.
bool is_our_cancel(const Error& error, const Stopper& stopper) {
  return stopper.requested() && error.sqlstate() == "57014";
}

}  // namespace

ConsumerLoop::ConsumerLoop(Dsn dsn, ConsumerOptions options)
    : dsn_{std::move(dsn)},
      options_{std::move(options)},
      logger_{options_.log, options_.queue, consumer_label(options_)} {
  check(options_);
  session_options_ = session_options(options_);
  listen_session_options_ = listen_session_options(options_);
  check_fixed(dsn_);
  check_fixed(options_.listen_dsn);
}

Handlers& ConsumerLoop::handlers(const char* caller) {
  if (run_state_.running()) throw std::logic_error{std::string{caller} + ": the consumer is running"};
  return handlers_;
}

void ConsumerLoop::start(const RunWithin& within) {
  if (handlers_.empty()) {
    throw std::logic_error{
        "Consumer: no handler is registered, so nothing could be done with a message: call on(type, handler) before "
        "start(); the type \"*\" stands for all types"};
  }
  const auto body = [this] {
    // When a handler has returned in a child process, the threads and connections of the run are not there to be ended.
    const auto run = make_at_home<Run>(*this);
    (*run)();
  };
  run_state_.run("Consumer", body, within);
}

ConsumerStats ConsumerLoop::stats() const {
  const std::lock_guard lock{stats_mutex_};
  return stats_;
}

ConsumerLoop::Run::Run(ConsumerLoop& owner)
    : owner_{owner},
      options_{owner.options_},
      stopper_{owner.run_state_.stopper()},
      pause_{owner.pause_},
      log_{owner.logger_},
      guard_{stopper_, options_.drain_timeout, finish_grace},
      crash_guard_{open_crash_guard(options_)},
      watchdog_{make_watchdog()},
      failures_{options_, stopper_.home(), log_},
      dispatcher_{options_,     owner.handlers_,    stopper_,        claim_,   guard_,
                  constraints_, crash_guard_.get(), watchdog_.get(), failures_},
      deferred_writes_{stopper_, failures_, guard_, constraints_, crash_guard_.get(), watchdog_.get()},
      tick_watch_{options_.no_ticks_after} {
  if (!options_.subconsumer.empty()) {
    Heartbeat::Hooks hooks{[this] { return watchdog_ && watchdog_->handler_is_stuck(); },
                           [this](BatchId batch) { report_lost(batch); }};
    heartbeat_.emplace(owner.dsn_, options_, owner.session_options_, claim_, std::move(hooks), log_);
  }
}

ConsumerLoop::Run::~Run() {
  drop_batch();
  disconnect();
}

void ConsumerLoop::Run::operator()() {
  log_(LogLevel::info, LogEvent::started, "started");
  if (is_unbounded_by_default(options_)) {
    log_(LogLevel::warning, LogEvent::unbounded_batches,
         "batches are not read in pages, because there is no cursor through a pooler in split mode: a batch is held in "
         "memory as a whole, however large it is; set max_messages to std::nullopt if that is intended, use per_batch, "
         "or connect directly");
  }
  if (options_.key && cooperative()) {
    log_(LogLevel::warning, LogEvent::key_in_group,
         "key keeps messages of one key in order only within this worker: another worker of the group may handle one "
         "of them at the same time; for order among all of them use one consumer without subconsumer");
  }
  if (crash_guard_) report_suspects();
  struct Idle {
    Run& run;
    ~Idle() {
      if (run.stopper_.home().is_this()) run.set_state(ConsumerState::idle);
    }
  } const idle{*this};

  ConsumerMachine machine{Backoff{options_.reconnect}, options_.until_drained, cooperative()};
  auto outcome = Outcome::begun;
  for (;;) {
    stopper_.home().require("Consumer::start()");
    const auto step = machine.next(outcome, stop_level(), held());
    if (step.action == Action::stop || step.action == Action::fail) {
      if (has_batch_ || opened_) abandon("the consumer stops");
      log_(LogLevel::info, LogEvent::stopped, "stopped");
      if (step.action == Action::fail && error_) std::rethrow_exception(error_);
      return;
    }
    try {
      outcome = carry_out(step);
    } catch (const Error& error) {
      outcome = after_error(error);
    }
  }
}

void ConsumerLoop::Run::report_suspects() {
  for (const auto& suspect : crash_guard_->found()) {
    const auto text =
        "the process ended while this message was handled, " + times_in_words(suspect.crashes) + " so far";
    LogRecord record{LogLevel::warning, LogEvent::crash_suspected, text};
    record.msg_id = suspect.msg_id;
    log_.write(record);
  }
}

Outcome ConsumerLoop::Run::carry_out(const Step& step) {
  switch (step.action) {
    case Action::connect:
      return connect();
    case Action::receive:
      return receive();
    case Action::look_ahead:
      return look_ahead();
    case Action::handle:
      return handle();
    case Action::next_page:
      return next_page();
    case Action::finish:
      return finish();
    case Action::wait:
      return wait();
    case Action::pause:
      pause(step.pause);
      return Outcome::paused;
    case Action::hold:
      return hold();
    case Action::confirm:
      return confirm();
    case Action::stop:
    case Action::fail:
      break;
  }
  throw std::logic_error{"Consumer: internal error, an action that is not carried out"};
}

StopLevel ConsumerLoop::Run::stop_level() const noexcept {
  const auto level = stopper_.level();
  const bool drains = stopper_.may_begin_handler(options_.drain_timeout, Stopper::Clock::now());
  return level == StopLevel::drain && !drains ? StopLevel::abandon : level;
}

void ConsumerLoop::Run::pause(std::chrono::milliseconds time) {
  set_state(ConsumerState::backing_off);
  if (stopper_.requested()) {
    // A stop ends every pause, except those between attempts to finish a batch while it drains, which are short then.
    constexpr std::chrono::milliseconds longest{50};
    std::this_thread::sleep_for(std::min(time, longest));
  } else {
    stopper_.sleep_until(Stopper::Clock::now() + time);
  }
}

Outcome ConsumerLoop::Run::connect() {
  set_state(ConsumerState::connecting);
  disconnect();  // after an error halfway through
  session_ = Session::connect(owner_.dsn_, owner_.session_options_);
  if (!options_.pooled) {
    const StatementGuard::Scope scope{guard_, session_, on_stop()};
    AutocommitExecutor{session_}.run_plain(session_settings(options_), {"configure the session"});
  }
  may_give_up_.reset();
  tick_watch_.expect(Stopper::Clock::now());
  listen();
  if (std::exchange(ever_connected_, true)) {
    owner_.count([](ConsumerStats& stats) { ++stats.reconnects; });
  }
  log_(LogLevel::info, LogEvent::connected, "connected");
  return Outcome::connected;
}

void ConsumerLoop::Run::listen() {
  const Call call{"listen", options_.queue, options_.name};
  if (!options_.listen_dsn.empty()) {
    listen_session_ = Session::connect(options_.listen_dsn, owner_.listen_session_options_);
    const StatementGuard::Scope scope{guard_, listen_session_, on_stop()};
    AutocommitExecutor executor{listen_session_};
    verbs::configure_session(executor, {"configure the session for listening"});
  } else if (options_.pooled) {
    log_(LogLevel::warning, LogEvent::listen_unavailable,
         "there are no notifications through a pooler, so the consumer only polls; set listen_dsn to a direct "
         "connection");
    return;
  } else {
    listen_session_ = session_;
  }
  auto& connection = listen_session_->idle_connection(call);
  const StatementGuard::Scope scope{guard_, listen_session_, on_stop()};
  try {
    listener_.emplace(connection, "pgque_" + options_.queue, [this] { notified_ = true; });
  } catch (const std::exception& error) {
    if (!connection.is_open() || stopper_.requested()) {
      throw_mapped(error, {call, Role::none, connection.is_open()});
    }
    log_(LogLevel::warning, LogEvent::listen_unavailable,
         "there are no notifications, so the consumer only polls: " + primary_message(error.what()));
  }
}

void ConsumerLoop::Run::take_notifications() {
  const Call call{"wait for notifications", options_.queue, options_.name};
  // Even without notifications the consumer's own connection is watched, so that its loss is noticed here.
  auto& connection = (listen_session_ ? *listen_session_ : *session_).idle_connection(call);
  try {
    connection.get_notifs();
  } catch (const std::exception& error) {
    throw_mapped(error, {call, Role::none, connection.is_open()});
  }
}

void ConsumerLoop::Run::disconnect() {
  // No UNLISTEN is sent: libpqxx would wait for an answer, which a lost server never gives.
  if (listen_session_) listen_session_->shut_down();
  if (session_) session_->shut_down();
  listener_.reset();
  listen_session_.reset();
  session_.reset();
}

Outcome ConsumerLoop::Run::receive() {
  set_state(ConsumerState::receiving);
  retries_.clear();
  nacked_ = 0;
  dead_.clear();
  failures_.forget_given_up();
  // This receive covers all notifications that have come so far, but none that come from now on.
  take_notifications();
  notified_ = false;
  ripe_at_.reset();
  batch_.emplace(session_, options_);
  asked_at_ = Stopper::Clock::now();
  // Until it is finished. A worker may also be given another worker's batch.
  const bool again = std::exchange(again_, true) || options_.dead_interval.has_value();
  if (options_.convert && !converted_) convert();
  const auto open = [&](OnStop on_stop) {
    const StatementGuard::Scope scope{guard_, session_, on_stop};
    page_ = batch_->open(again, large_batches_);
  };
  try {
    open(opened_ ? OnStop::drain : OnStop::cancel);
  } catch (const Error& error) {
    if (cooperative() && batch_->is_given()) {
      opened_ = batch_->id();
      if (!batch_->taken_from().empty()) report_taken_over(*opened_);
    }
    if (!cancelled_too_late(error)) throw;
    drop_batch();
    batch_.emplace(session_, options_);
    open(OnStop::drain);
  }
  opened_.reset();
  if (!batch_->is_open()) {
    again_ = large_batches_ = false;
    return Outcome::nothing;
  }
  has_batch_ = true;
  tick_watch_.expect(Stopper::Clock::now());
  large_batches_ = batch_->has_more_pages();
  claim_.begin(batch_->id());
  notified_polls_.reset();
  if (!batch_->taken_from().empty()) report_taken_over(batch_->id());
  log_.write(batch_record(LogLevel::debug, LogEvent::batch_received, "batch received"));
  return page_.empty() ? Outcome::end_of_batch : Outcome::messages;
}

// Once in a run: if somebody makes a normal consumer of the group again, a worker that still runs does not undo that.
void ConsumerLoop::Run::convert() {
  const StatementGuard::Scope scope{guard_, session_, OnStop::cancel};
  AutocommitExecutor executor{session_, options_.pooled ? session_settings(options_) : std::string{}};
  verbs::subscribe_subconsumer(executor, {options_.queue, options_.name, options_.subconsumer}, true);
  converted_ = true;
}

// Whether a stop cancelled not the receive of a worker, which was given the batch, but a statement after it.
bool ConsumerLoop::Run::cancelled_too_late(const Error& error) {
  return cooperative() && batch_->is_given() && is_our_cancel(error, stopper_) && stop_level() == StopLevel::drain;
}

Outcome ConsumerLoop::Run::look_ahead() {
  std::optional<BatchId> next;
  {
    const StatementGuard::Scope scope{guard_, session_, OnStop::cancel};
    next = batch_->more_windows();
  }
  if (next && !batch_->taken_from().empty()) report_taken_over(*next);
  if (const auto ripens_in = batch_->ripens_in()) {
    ripe_at_ = Stopper::Clock::now() + std::min(*ripens_in, options_.poll_interval);
  }
  drop_batch();
  if (cooperative()) opened_ = next;
  return next ? Outcome::more_windows : Outcome::drained;
}

Outcome ConsumerLoop::Run::handle() {
  set_state(ConsumerState::handling);
  // Both until the batch is gone.
  if (heartbeat_ && !alive_) alive_.emplace(*heartbeat_, batch_->id(), asked_at_);
  if (watchdog_ && !watched_) watched_.emplace(*watchdog_, batch_->id(), asked_at_);
  auto page = dispatcher_.handle(page_, *batch_);
  const auto callbacks = callbacks_of(page.deferred);
  owner_.count([&](ConsumerStats& stats) {
    stats.messages += page.handled;
    stats.failures += page.failed;
    stats.unknown += page.unknown;
    stats.deferred += callbacks;
    if (!page.last_failure.empty()) stats.last_error = std::move(page.last_failure);
  });
  retries_.insert(retries_.end(), std::make_move_iterator(page.retries.begin()),
                  std::make_move_iterator(page.retries.end()));
  deferred_.insert(deferred_.end(), std::make_move_iterator(page.deferred.begin()),
                   std::make_move_iterator(page.deferred.end()));
  if (claim_.lost()) return leave_lost_batch();
  if (page.error) std::rethrow_exception(page.error);
  if (page.postponed) return postpone(*page.postponed);
  return page.interrupted ? Outcome::page_interrupted : Outcome::page_handled;
}

Outcome ConsumerLoop::Run::next_page() {
  // If the transaction of the ack is open, failed messages are nacked in it page by page, so that they do not
  // accumulate here.
  if (batch_->transaction()) {
    if (const auto outcome = write_deferred()) return *outcome;
    const auto failed = [&] {
      const StatementGuard::Scope scope{guard_, session_, OnStop::drain};
      decide_what_is_given_up();
      return batch_->nack(retries_, in_time());
    }();
    if (failed && failed->kind == Finish::Kind::interrupted) return Outcome::page_interrupted;
    if (failed) return refused(*failed->error);
    take_nacked();
  }
  auto next = [&] {
    const StatementGuard::Scope scope{guard_, session_, OnStop::drain};
    return batch_->next_page();
  }();
  if (next.empty()) return Outcome::end_of_batch;
  page_ = std::move(next);
  return Outcome::messages;
}

// After a stop, what has begun may go on for as long as the guard waits for an answer, less the time for a commit.
Batch::InTime ConsumerLoop::Run::in_time() const {
  return [this, late_since = std::optional<Stopper::Clock::time_point>{}]() mutable {
    const auto now = Stopper::Clock::now();
    if (stopper_.may_begin_handler(options_.drain_timeout, now)) return true;
    if (!late_since) late_since = now;
    return now - *late_since < finish_grace / 4;
  };
}

Outcome ConsumerLoop::Run::finish() {
  if (!claim_.end()) return leave_lost_batch();
  finishing_ = transaction_mode(options_) == TransactionMode::split;
  if (const auto outcome = write_deferred()) return *outcome;
  const auto finish = [&] {
    const StatementGuard::Scope scope{guard_, session_, OnStop::drain};
    decide_what_is_given_up();
    try {
      return batch_->finish(retries_, in_time());
    } catch (const Error& error) {
      in_doubt_ = in_doubt_ || error.outcome_unknown();
      throw;
    }
  }();
  return settle(finish);
}

// In per_batch mode for each page, because what the callbacks hold is not needed any more then. In split mode they may
// have to be run again, until they are committed. The outcome if the batch cannot be finished.
std::optional<Outcome> ConsumerLoop::Run::write_deferred() {
  if (deferred_.empty()) return std::nullopt;
  const auto failed_before = retries_.size();
  const auto write = [&] {
    {
      const StatementGuard::Scope scope{guard_, session_, OnStop::drain};
      batch_->begin_to_finish();
      if (batch_->is_gone()) return Written::gone;
    }
    return deferred_writes_.write(deferred_, *batch_, in_time(), retries_);
  };
  const auto count_failures = [&] {
    const auto failed = retries_.size() - failed_before;
    owner_.count([&](ConsumerStats& stats) {
      stats.failures += failed;
      stats.deferred = callbacks_of(deferred_);
      if (failed != 0) stats.last_error = retries_.back().reason;
    });
  };
  auto written = Written::all;
  try {
    written = write();
  } catch (const Error&) {
    count_failures();
    batch_->roll_back();
    throw;
  }
  count_failures();
  if (written == Written::all) {
    if (!finishing_) forget_deferred();
    return std::nullopt;
  }
  batch_->roll_back();
  if (written == Written::postponed) return postpone(deferred_writes_.postponement());
  if (written == Written::gone) return settle({cooperative() ? Finish::Kind::lost : Finish::Kind::stale});
  abandon("there was no time left for what its handlers have deferred by on_ack()");
  return Outcome::page_interrupted;
}

void ConsumerLoop::Run::forget_deferred() {
  deferred_.clear();
  owner_.count([](ConsumerStats& stats) { stats.deferred = 0; });
}

// After the connection was lost while the batch was finished.
Outcome ConsumerLoop::Run::confirm() {
  set_state(ConsumerState::handling);
  const auto id = batch_->id();
  batch_.emplace(session_, options_, id);
  const auto open = [&] {
    const StatementGuard::Scope scope{guard_, session_, OnStop::drain};
    return batch_->is_still_open();
  }();
  if (open) return Outcome::end_of_batch;
  return settle({cooperative() ? Finish::Kind::lost : Finish::Kind::stale});
}

Outcome ConsumerLoop::Run::settle(const Finish& finish) {
  // A batch that is not open any more was finished by the commit whose answer was lost. Otherwise somebody else has
  // finished it or has taken it over, and nothing is lost either.
  const bool gone = finish.kind == Finish::Kind::stale || finish.kind == Finish::Kind::lost;
  const bool by_commit = in_doubt_ && gone;
  const auto failed = retries_.size();
  switch (by_commit ? Finish::Kind::acked : finish.kind) {
    case Finish::Kind::acked:
      take_nacked();
      owner_.count([&](ConsumerStats& stats) {
        ++stats.batches;
        stats.retries += nacked_;
      });
      log_.write(batch_record(
          LogLevel::debug, LogEvent::batch_acked,
          !by_commit ? "batch acknowledged"
          : options_.subconsumer.empty()
              ? "batch acknowledged, although the answer to the commit was lost"
              : "batch acknowledged, although the answer to the commit was lost, or taken over by another worker"));
      report_dead(by_commit && cooperative());
      break;
    case Finish::Kind::stale: {
      owner_.count([](ConsumerStats& stats) { ++stats.stale_acks; });
      std::string text =
          "stale or double ack: the batch was finished already, so its messages may have been handled twice";
      if (!retries_.empty()) text += "; the messages that failed here are not delivered again";
      log_.write(batch_record(LogLevel::warning, LogEvent::stale_ack, text));
      break;
    }
    case Finish::Kind::lost:
      report_lost(batch_->id());
      return leave_lost_batch();
    case Finish::Kind::nack_failed:
      return refused(*finish.error);
    case Finish::Kind::interrupted:
      if (finish.nacked != 0) {
        retries_.resize(finish.nacked);
        take_nacked();
        owner_.count([&](ConsumerStats& stats) { stats.retries += nacked_; });
        report_dead(false);
      }
      abandon(finish.nacked == 0 ? std::string{"there was no time left for its nacks"}
                                 : "there was no time left for all of its nacks; " + std::to_string(finish.nacked) +
                                       " of its " + std::to_string(failed) + " failed messages are nacked");
      return Outcome::page_interrupted;
  }
  drop_batch();
  failures_.pardon_all();
  give_up_error_.reset();
  again_ = false;
  return Outcome::finished;
}

// After report_lost(). The other worker finishes the batch.
Outcome ConsumerLoop::Run::leave_lost_batch() {
  drop_batch();
  failures_.pardon_all();
  give_up_error_.reset();
  again_ = false;
  return Outcome::lost;
}

Outcome ConsumerLoop::Run::refused(const Error& error) {
  // Otherwise a batch for which this always fails would come for ever.
  if (error.operation().rfind("event_dead", 0) == 0) {
    if (error.sqlstate() == "42501") {
      may_give_up_ = false;
    } else if (!is_transient(error)) {
      give_up_error_ = error.what();
    }
  }
  auto record = batch_record(LogLevel::error, LogEvent::nack_failed, error.what());
  record.sqlstate = error.sqlstate();
  log_.write(record);
  owner_.count([&](ConsumerStats& stats) { stats.last_error = error.what(); });
  abandon("its nacks failed");
  return leave_worn_out_session() ? Outcome::connection_failed : Outcome::abandoned;
}

// Before nacks: what the role may not give up is nacked.
void ConsumerLoop::Run::decide_what_is_given_up() {
  const auto is_given_up = [](const Retry& retry) { return retry.given_up != nullptr; };
  if (std::none_of(retries_.begin(), retries_.end(), is_given_up)) return;
  if (!may_give_up_) may_give_up_ = batch_->may_give_up();
  if (*may_give_up_ && !give_up_error_) return;
  for (auto& retry : retries_) retry.given_up.reset();
  if (!*may_give_up_ && std::exchange(told_of_grant_, true)) return;
  if (*may_give_up_) {
    log_.write(batch_record(
        LogLevel::warning, LogEvent::give_up_refused,
        "what handlers gave up is nacked, because no dead letter could be made of it: " + *give_up_error_));
    return;
  }
  log_.write(batch_record(
      LogLevel::warning, LogEvent::give_up_refused,
      "a handler gave a message up, but this role cannot make a dead letter of it, so it is nacked and comes again; to "
      "allow that: grant execute on function pgque.event_dead to the consumer's role"));
}

// They are nacked.
void ConsumerLoop::Run::take_nacked() {
  for (auto& retry : retries_) {
    if (retry.dead) dead_.push_back({retry.msg_id, retry.retried + 1, std::move(retry.type)});
  }
  nacked_ += retries_.size();
  retries_.clear();
  failures_.forget_given_up();
}

// `in_doubt`: unless another worker took the batch over.
void ConsumerLoop::Run::report_dead(bool in_doubt) {
  owner_.count([&](ConsumerStats& stats) { stats.dead_letters += dead_.size(); });
  for (const auto& one : dead_) {
    auto record = batch_record(LogLevel::warning, LogEvent::dead_lettered,
                               in_doubt ? "the message has become a dead letter, unless another worker has taken its "
                                          "batch over"
                                        : "the message has become a dead letter and is not delivered again");
    record.msg_id = one.msg_id;
    record.attempt = one.attempt;
    record.type = one.type;
    log_.write(record);
  }
  dead_.clear();
}

// While nothing arrives: whether that may be for want of a ticker.
void ConsumerLoop::Run::look_for_ticks() {
  const auto now = Stopper::Clock::now();
  if (!tick_watch_.is_due(now)) return;
  tick_watch_.expect(now);  // a look that fails is not repeated at once
  std::optional<verbs::LatestTick> tick;
  try {
    const StatementGuard::Scope scope{guard_, session_, OnStop::cancel};
    AutocommitExecutor executor{session_, options_.pooled ? session_settings(options_) : std::string{}};
    tick = verbs::latest_tick(executor, options_.queue, {"look for ticks", options_.queue, options_.name});
  } catch (const Error& error) {
    // What is only for advice must not stop the consumer, for example where the role may not read the tables.
    if (!session_->is_open()) throw;
    return log_.error(LogLevel::info, LogEvent::failed, error);
  }
  if (!tick || !tick_watch_.finds_silence(*tick, now)) return;
  auto text = "the queue has had no tick for " + in_words(tick->age) + ", and nothing is delivered without ticks; ";
  if (tick->paused) {
    text += "its ticker is paused (ticker_paused): pgque queue set '" + options_.queue + "' --resume";
  } else if (tick->external) {
    text += "it has external_ticker, so look for what is to tick it";
  } else {
    text +=
        "run `pgque tick`, or a pgque::Ticker in a service; or, with pg_cron: select pgque.start(); `pgque doctor` "
        "says more";
  }
  log_(LogLevel::warning, LogEvent::no_ticks, text);
}

Outcome ConsumerLoop::Run::wait() {
  look_for_ticks();
  set_state(ConsumerState::waiting);
  auto deadline = ripe_at_.value_or(Stopper::Clock::now() + options_.poll_interval);
  if (tick_watch_.next()) deadline = std::min(deadline, *tick_watch_.next());
  auto& waited_for = listen_session_ ? *listen_session_ : *session_;
  for (;;) {
    // libpq may have read a notification along with an answer; then the socket does not become readable.
    take_notifications();
    // Until a tick is old enough, a later one is not either.
    if (notified_ && !ripe_at_) {
      tick_watch_.expect(Stopper::Clock::now());
      stopper_.sleep_until(notified_polls_.next());
      return Outcome::woken;
    }
    switch (stopper_.wait(waited_for.connection().sock(), deadline, pause_.descriptor())) {
      case Wakeup::Woken::signalled:
      case Wakeup::Woken::timeout:
        return Outcome::woken;
      case Wakeup::Woken::other:
        pause_.forget_changes();
        if (held()) return Outcome::woken;
        break;
      case Wakeup::Woken::socket:
        break;
    }
  }
}

Outcome ConsumerLoop::Run::postpone(const Postponement& postponement) {
  if (!claim_.end()) return leave_lost_batch();
  // First of all, because the log and the counters may make the program call resume().
  postponed_until_ = Stopper::Clock::now() + postponement.delay;
  resumes_before_ = pause_.resumes();
  auto text = "the batch is postponed for " + in_words(postponement.delay) + ", and nothing of it is acknowledged";
  if (!batch_->transaction()) text += "; messages that were handled come again";
  log_.write(batch_record(LogLevel::warning, LogEvent::batch_postponed, text + ": " + postponement.reason));
  owner_.count([](ConsumerStats& stats) { ++stats.postponed; });
  drop_batch();
  return Outcome::postponed;
}

bool ConsumerLoop::Run::postponed() const {
  return postponed_until_ && pause_.resumes() == resumes_before_ && Stopper::Clock::now() < *postponed_until_;
}

bool ConsumerLoop::Run::held() const {
  return pause_.requested() || postponed();
}

// Notifications are read all the time, because unread ones would pile up in the server.
Outcome ConsumerLoop::Run::hold() {
  drop_batch();  // a receive that found nothing has left its transaction open
  set_state(ConsumerState::paused);
  auto& waited_for = listen_session_ ? *listen_session_ : *session_;
  for (;;) {
    take_notifications();
    pause_.forget_changes();
    if (!held()) return Outcome::resumed;
    // resume() may come at any time, so what held() has just found may not hold any more.
    const bool for_a_time = !pause_.requested() && postponed_until_;
    const auto until = for_a_time ? *postponed_until_ : Stopper::Clock::time_point::max();
    const auto woken = stopper_.wait(waited_for.connection().sock(), until, pause_.descriptor());
    if (woken == Wakeup::Woken::signalled) return Outcome::resumed;
  }
}

Outcome ConsumerLoop::Run::after_error(const Error& error) {
  // A read-only server may be a former primary: only a new connection helps.
  const bool lost = !session_ || !session_->is_open() || (listen_session_ && !listen_session_->is_open()) ||
                    dynamic_cast<const ConnectionError*>(&error) != nullptr || error.sqlstate() == "25006";
  const bool permanent = is_permanent(error);
  const bool finish_again = finishing_ && !permanent && (lost || is_transient(error));
  const bool cancelled = !finishing_ && is_our_cancel(error, stopper_);
  if (!cancelled) owner_.count([&](ConsumerStats& stats) { stats.last_error = error.what(); });
  error_ = std::current_exception();
  constraints_.reset();  // those that are new may be the reason
  if (!finish_again) {
    if (has_batch_) abandon("an error came before it was finished");
    drop_batch();
  }

  if (lost) {
    disconnect();
    log_.error(LogLevel::warning, LogEvent::connection_lost, error);
  } else if (!cancelled) {
    log_.error(finish_again ? LogLevel::warning : LogLevel::error, LogEvent::failed, error);
  }
  if (permanent) {
    const auto action = options_.on_error ? options_.on_error(error) : ErrorAction::stop;
    if (action == ErrorAction::stop) return Outcome::failed_for_good;
  }
  const bool anew = lost || leave_worn_out_session();
  if (finish_again) return anew ? Outcome::finish_lost : Outcome::finish_failed;
  return anew ? Outcome::connection_failed : Outcome::failed;
}

bool ConsumerLoop::Run::leave_worn_out_session() {
  if (!session_->worn_out()) return false;
  disconnect();
  log_(LogLevel::warning, LogEvent::failed, "the same error came three times in a row: the consumer connects again");
  return true;
}

void ConsumerLoop::Run::abandon(const std::string& why) {
  if (has_batch_ && !claim_.end()) return drop_batch();
  owner_.count([](ConsumerStats& stats) { ++stats.abandoned; });
  const std::string what = in_doubt_ ? "it is not known whether the batch is acknowledged or will be delivered again: "
                           : cooperative()
                               ? "the batch is not acknowledged and will be delivered again, to this worker "
                                 "or after dead_interval to another: "
                               : "the batch is not acknowledged and will be delivered again: ";
  log_.write(batch_record(LogLevel::warning, LogEvent::batch_abandoned, what + why));
  opened_.reset();
  drop_batch();
}

void ConsumerLoop::Run::drop_batch() {
  alive_.reset();
  watched_.reset();
  {
    const StatementGuard::Scope scope{guard_, session_, OnStop::drain};  // the destructor may roll back
    batch_.reset();
  }
  page_.clear();
  if (!deferred_.empty()) forget_deferred();
  has_batch_ = finishing_ = in_doubt_ = false;
}

std::unique_ptr<Watchdog> ConsumerLoop::Run::make_watchdog() {
  Watchdog::Limits limits{options_.handler_timeout, std::nullopt};
  if (transaction_mode(options_) == TransactionMode::per_batch && options_.slow_batch_after.count() != 0) {
    limits.transaction = options_.slow_batch_after;
  }
  if (!limits.handler && !limits.transaction) return nullptr;
  return std::make_unique<Watchdog>(static_cast<std::size_t>(options_.concurrency), limits,
                                    Watchdog::Reports{[this](const RunningHandler& handler) { report_stuck(handler); },
                                                      [this](BatchId batch) { report_slow(batch); }});
}

void ConsumerLoop::Run::report_stuck(const RunningHandler& handler) {
  auto text = "the handler has been running for longer than handler_timeout, " + in_words(*options_.handler_timeout);
  if (!options_.subconsumer.empty()) {
    text += "; until it returns, no heartbeats are sent, so another worker may take the batch over";
  }
  LogRecord record{LogLevel::warning, LogEvent::handler_stuck, text};
  record.batch_id = handler.batch;
  record.msg_id = handler.message;
  record.attempt = handler.attempt;
  log_.write(record);
  // In a child process that the log sink made, the lock of the counters may be held for ever.
  if (stopper_.home().is_this()) owner_.count([](ConsumerStats& stats) { ++stats.stuck; });
}

void ConsumerLoop::Run::report_slow(BatchId batch) {
  const auto text = "the batch has kept its transaction open for " + in_words(options_.slow_batch_after) +
                    ": until it ends, PgQue's own tables are not pruned, no queue's tables can be rotated, and vacuum "
                    "is held back; use TransactionMode::split, or tick more often to make batches smaller";
  LogRecord record{LogLevel::warning, LogEvent::slow_batch, text};
  record.batch_id = batch;
  log_.write(record);
}

void ConsumerLoop::Run::report_lost(BatchId batch) {
  LogRecord record{LogLevel::warning, LogEvent::batch_lost,
                   "another worker took the batch over and handles its messages again"};
  record.batch_id = batch;
  log_.write(record);
  if (stopper_.home().is_this()) owner_.count([](ConsumerStats& stats) { ++stats.lost; });
}

void ConsumerLoop::Run::report_taken_over(BatchId batch) {
  const auto text = "took the batch over from the worker '" + batch_->taken_from() + "', which has been silent for " +
                    in_words(*options_.dead_interval) +
                    " (dead_interval); messages that it has handled are handled again";
  LogRecord record{LogLevel::warning, LogEvent::batch_taken_over, text};
  record.batch_id = batch;
  log_.write(record);
  owner_.count([](ConsumerStats& stats) { ++stats.takeovers; });
}

void ConsumerLoop::Run::set_state(ConsumerState state) {
  owner_.count([&](ConsumerStats& stats) { stats.state = state; });
}

LogRecord ConsumerLoop::Run::batch_record(LogLevel level, LogEvent event, std::string_view text) const {
  LogRecord record{level, event, text};
  if (batch_) record.batch_id = batch_->id();
  if (opened_) record.batch_id = opened_;
  return record;
}

}  // namespace pgque::detail
