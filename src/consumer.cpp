#include <pgque/consumer.hpp>

#include <stdexcept>
#include <utility>

#include "conninfo.hpp"
#include "consumer_impl.hpp"
#include "consumer_options.hpp"
#include "error_map.hpp"
#include "sql.hpp"
#include "text.hpp"

namespace pgque {

namespace detail {

namespace {

std::string consumer_label(const ConsumerOptions& options) {
  return options.subconsumer.empty() ? options.name : options.name + '.' + options.subconsumer;
}

// Another session's statement waits for a stop; that the server cancelled ours then is no error.
bool is_our_cancel(const Error& error, const Stopper& stopper) {
  return stopper.requested() && error.sqlstate() == "57014";
}

}  // namespace

ConsumerImpl::ConsumerImpl(std::string_view dsn, ConsumerOptions options)
    : dsn_{dsn}, options_{std::move(options)}, logger_{options_.log, options_.queue, consumer_label(options_)} {
  check(options_);
  session_options_.connect_timeout = options_.connect_timeout;
  session_options_.application_name = "pgque consumer";
  session_options_.prepared_statements = !options_.pooled;
  session_options_.stoppable = true;
  listen_session_options_ = session_options_;
  listen_session_options_.application_name = "pgque listener";
  // A malformed DSN is found here and now.
  complete_conninfo(dsn_, session_options_);
  complete_conninfo(options_.listen_dsn, listen_session_options_);
}

void ConsumerImpl::add(std::string type, Handler handler) {
  if (run_state_.running()) throw std::logic_error{"Consumer::on(): the consumer is running"};
  check_text("type", type);
  handlers_[std::move(type)] = std::move(handler);
}

void ConsumerImpl::start() {
  run_state_.run("Consumer", [&] { Run{*this}(); });
}

ConsumerStats ConsumerImpl::stats() const {
  const std::lock_guard lock{stats_mutex_};
  return stats_;
}

ConsumerImpl::Run::Run(ConsumerImpl& owner)
    : owner_{owner},
      options_{owner.options_},
      stopper_{owner.run_state_.stopper()},
      log_{owner.logger_},
      canceller_{stopper_, options_.drain_timeout},
      dispatcher_{options_, owner.handlers_, stopper_, canceller_, log_} {
  if (!options_.subconsumer.empty()) {
    heartbeat_.emplace(owner.dsn_, options_, owner.session_options_, log_);
  }
}

ConsumerImpl::Run::~Run() {
  drop_batch();
  disconnect();
}

void ConsumerImpl::Run::operator()() {
  log_(LogLevel::info, LogEvent::started, "started");
  struct Idle {
    Run& run;
    ~Idle() { run.set_state(ConsumerState::idle); }
  } const idle{*this};

  ConsumerMachine machine{Backoff{options_.reconnect}, options_.until_drained};
  auto outcome = Outcome::begun;
  for (;;) {
    const auto step = machine.next(outcome, stopper_.level());
    if (step.action == Action::stop || step.action == Action::fail) {
      if (batch_ && !page_.empty()) abandon("the consumer stops");
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

Outcome ConsumerImpl::Run::carry_out(const Step& step) {
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
      set_state(ConsumerState::backing_off);
      stopper_.sleep_until(Stopper::Clock::now() + step.pause);
      return Outcome::paused;
    case Action::stop:
    case Action::fail:
      break;
  }
  throw std::logic_error{"Consumer: an action without a deed"};
}

Outcome ConsumerImpl::Run::connect() {
  set_state(ConsumerState::connecting);
  disconnect();  // after an error halfway through
  session_ = Session::connect(owner_.dsn_, owner_.session_options_);
  const auto settings = options_.pooled ? std::string{} : session_settings(options_);
  if (!settings.empty()) {
    const ReceiveCanceller::Scope scope{canceller_, session_, OnStop::cancel};
    AutocommitExecutor{session_}.run_plain(settings, {"configure the session"});
  }
  listen();
  if (std::exchange(ever_connected_, true)) {
    owner_.count([](ConsumerStats& stats) { ++stats.reconnects; });
  }
  log_(LogLevel::info, LogEvent::connected, "connected");
  return Outcome::connected;
}

void ConsumerImpl::Run::listen() {
  const Operation operation{"listen", options_.queue, options_.name};
  if (!options_.listen_dsn.empty()) {
    listen_session_ = Session::connect(options_.listen_dsn, owner_.listen_session_options_);
    const ReceiveCanceller::Scope scope{canceller_, listen_session_, OnStop::cancel};
    AutocommitExecutor{listen_session_}.run_plain(sql::last_as_long_as_wanted, {"configure the session for listening"});
  } else if (options_.pooled) {
    log_(LogLevel::warning, LogEvent::listen_unavailable,
         "no notifications through a pooler, polling alone; set listen_dsn to a direct connection");
    return;
  } else {
    listen_session_ = session_;
  }
  auto& connection = listen_session_->idle_connection(operation);
  const ReceiveCanceller::Scope scope{canceller_, listen_session_, OnStop::cancel};
  try {
    listener_.emplace(connection, "pgque_" + options_.queue, [this] { notified_ = true; });
  } catch (const std::exception& error) {
    if (!connection.is_open() || stopper_.requested()) {
      throw_mapped(error, {operation, Role::none, connection.is_open()});
    }
    log_(LogLevel::warning, LogEvent::listen_unavailable,
         "no notifications, polling alone: " + primary_message(error.what()));
  }
}

void ConsumerImpl::Run::take_notifications() {
  const Operation operation{"wait for notifications", options_.queue, options_.name};
  // Without notifications the consumer's own connection is watched all the same: its loss is noticed here.
  auto& connection = (listen_session_ ? *listen_session_ : *session_).idle_connection(operation);
  try {
    connection.get_notifs();
  } catch (const std::exception& error) {
    throw_mapped(error, {operation, Role::none, connection.is_open()});
  }
}

void ConsumerImpl::Run::disconnect() {
  // Without a word to the server: libpqxx's UNLISTEN would wait for an answer, and there may be nobody to give one.
  if (listen_session_) listen_session_->shut_down();
  if (session_) session_->shut_down();
  listener_.reset();
  listen_session_.reset();
  session_.reset();
}

Outcome ConsumerImpl::Run::receive() {
  set_state(ConsumerState::receiving);
  retries_.clear();
  nacked_ = 0;
  // What was notified until here is covered by this receive; what comes from now on is not.
  take_notifications();
  notified_ = false;
  batch_.emplace(session_, options_);
  asked_at_ = Stopper::Clock::now();
  {
    const ReceiveCanceller::Scope scope{canceller_, session_, OnStop::cancel};
    page_ = batch_->open();
  }
  if (page_.empty()) return Outcome::nothing;
  notified_polls_.reset();
  log_.write(batch_record(LogLevel::debug, LogEvent::batch_received, "batch received"));
  return Outcome::messages;
}

Outcome ConsumerImpl::Run::look_ahead() {
  bool more = false;
  {
    const ReceiveCanceller::Scope scope{canceller_, session_, OnStop::cancel};
    more = batch_->more_windows();
  }
  drop_batch();
  return more ? Outcome::more_windows : Outcome::drained;
}

Outcome ConsumerImpl::Run::handle() {
  set_state(ConsumerState::handling);
  if (heartbeat_ && !alive_) alive_.emplace(*heartbeat_, asked_at_);  // until the batch is gone
  auto page = dispatcher_.handle(page_, *batch_);
  owner_.count([&](ConsumerStats& stats) {
    stats.messages += page.handled;
    stats.failures += page.failed;
    stats.unknown += page.unknown;
  });
  retries_.insert(retries_.end(), std::make_move_iterator(page.retries.begin()),
                  std::make_move_iterator(page.retries.end()));
  if (page.error) std::rethrow_exception(page.error);
  return page.interrupted ? Outcome::page_interrupted : Outcome::page_handled;
}

Outcome ConsumerImpl::Run::next_page() {
  // Where the transaction of the ack is open they are nacked in it page by page, lest they pile up here.
  if (batch_->transaction()) {
    const auto failed = [&] {
      const ReceiveCanceller::Scope scope{canceller_, session_, OnStop::drain};
      return batch_->nack(retries_);
    }();
    if (failed) return refused(*failed->error);
    nacked_ += retries_.size();
    retries_.clear();
  }
  auto next = [&] {
    const ReceiveCanceller::Scope scope{canceller_, session_, OnStop::drain};
    return batch_->next_page();
  }();
  if (next.empty()) return Outcome::end_of_batch;
  page_ = std::move(next);
  return Outcome::messages;
}

Outcome ConsumerImpl::Run::finish() {
  const auto finish = [&] {
    const ReceiveCanceller::Scope scope{canceller_, session_, OnStop::drain};
    return batch_->finish(retries_);
  }();
  switch (finish.kind) {
    case Finish::Kind::acked:
      owner_.count([&](ConsumerStats& stats) {
        ++stats.batches;
        stats.retries += nacked_ + retries_.size();
      });
      log_.write(batch_record(LogLevel::debug, LogEvent::batch_acked, "batch acknowledged"));
      break;
    case Finish::Kind::stale: {
      owner_.count([](ConsumerStats& stats) { ++stats.stale_acks; });
      std::string text =
          "stale or double ack: the batch was finished already, so its messages may have been handled twice";
      if (!retries_.empty()) text += "; those that failed here are not delivered again";
      log_.write(batch_record(LogLevel::warning, LogEvent::stale_ack, text));
      break;
    }
    case Finish::Kind::lost:
      owner_.count([](ConsumerStats& stats) { ++stats.takeovers; });
      log_.write(batch_record(LogLevel::warning, LogEvent::batch_lost,
                              "another worker took the batch over; its messages are handled again there"));
      drop_batch();
      return Outcome::lost;
    case Finish::Kind::nack_failed:
      return refused(*finish.error);
  }
  drop_batch();
  return Outcome::finished;
}

Outcome ConsumerImpl::Run::refused(const Error& error) {
  auto record = batch_record(LogLevel::error, LogEvent::nack_failed, error.what());
  record.sqlstate = error.sqlstate();
  log_.write(record);
  owner_.count([&](ConsumerStats& stats) { stats.last_error = error.what(); });
  abandon("its nacks failed");
  return Outcome::abandoned;
}

Outcome ConsumerImpl::Run::wait() {
  set_state(ConsumerState::waiting);
  const auto deadline = Stopper::Clock::now() + options_.poll_interval;
  auto& waited_for = listen_session_ ? *listen_session_ : *session_;
  for (;;) {
    // libpq may have read a notification along with an answer, and then the socket stays silent.
    take_notifications();
    if (notified_) {
      stopper_.sleep_until(notified_polls_.next());
      return Outcome::woken;
    }
    switch (stopper_.wakeup().wait(waited_for.connection().sock(), deadline)) {
      case Wakeup::Woken::signalled:
      case Wakeup::Woken::timeout:
        return Outcome::woken;
      case Wakeup::Woken::socket:
        break;
    }
  }
}

Outcome ConsumerImpl::Run::after_error(const Error& error) {
  const bool cancelled = is_our_cancel(error, stopper_);
  if (!cancelled) owner_.count([&](ConsumerStats& stats) { stats.last_error = error.what(); });
  error_ = std::current_exception();
  if (batch_ && !page_.empty()) abandon("an error came before its end");
  drop_batch();

  // A read-only server is a former primary: only another connection helps.
  const bool lost = !session_ || !session_->is_open() || (listen_session_ && !listen_session_->is_open()) ||
                    dynamic_cast<const ConnectionError*>(&error) != nullptr;
  if (lost || error.sqlstate() == "25006") {
    disconnect();
    log_.error(LogLevel::warning, LogEvent::connection_lost, error);
    return Outcome::connection_failed;
  }
  if (cancelled) return Outcome::failed;
  log_.error(LogLevel::error, LogEvent::failed, error);
  if (is_permanent(error)) {
    const auto action = options_.on_error ? options_.on_error(error) : ErrorAction::stop;
    if (action == ErrorAction::stop) return Outcome::failed_for_good;
  }
  return Outcome::failed;
}

void ConsumerImpl::Run::abandon(const char* why) {
  owner_.count([](ConsumerStats& stats) { ++stats.abandoned; });
  log_.write(batch_record(LogLevel::warning, LogEvent::batch_abandoned,
                          std::string{"the batch is not acknowledged and will be delivered again: "} + why));
  drop_batch();
}

void ConsumerImpl::Run::drop_batch() {
  alive_.reset();
  {
    const ReceiveCanceller::Scope scope{canceller_, session_, OnStop::drain};  // it may be rolled back now
    batch_.reset();
  }
  page_.clear();
}

void ConsumerImpl::Run::set_state(ConsumerState state) {
  owner_.count([&](ConsumerStats& stats) { stats.state = state; });
}

LogRecord ConsumerImpl::Run::batch_record(LogLevel level, LogEvent event, std::string_view text) const {
  LogRecord record{level, event, text};
  if (batch_) record.batch_id = batch_->id();
  return record;
}

}  // namespace detail

namespace {

detail::ConsumerImpl& required(const std::shared_ptr<detail::ConsumerImpl>& impl) {
  if (!impl) throw std::logic_error{"Consumer: use of a moved-from consumer"};
  return *impl;
}

}  // namespace

std::string_view to_string(ConsumerState state) noexcept {
  switch (state) {
    case ConsumerState::idle:
      return "idle";
    case ConsumerState::connecting:
      return "connecting";
    case ConsumerState::receiving:
      return "receiving";
    case ConsumerState::handling:
      return "handling";
    case ConsumerState::waiting:
      return "waiting";
    case ConsumerState::backing_off:
      return "backing_off";
  }
  return "unknown";
}

Consumer::Consumer(std::string_view dsn, ConsumerOptions options)
    : impl_{std::make_shared<detail::ConsumerImpl>(dsn, std::move(options))} {}

Consumer::Consumer(Consumer&&) noexcept = default;

Consumer::~Consumer() {
  if (impl_) impl_->shut_down();
}

Consumer& Consumer::add(std::string type, std::function<void(const Message&, Context&)> handler) {
  if (!handler) throw std::invalid_argument{"handler: must not be empty"};
  required(impl_).add(std::move(type), std::move(handler));
  return *this;
}

void Consumer::start() {
  required(impl_);
  // Keeps everything alive should a handler destroy the consumer.
  const auto impl = impl_;
  impl->start();
}

void Consumer::stop() noexcept {
  if (impl_) impl_->stop();
}

ConsumerStats Consumer::stats() const {
  return required(impl_).stats();
}

}  // namespace pgque
