#include <pgque/consumer.hpp>

#include <stdexcept>
#include <utility>

#include "conninfo.hpp"
#include "consumer_impl.hpp"
#include "consumer_options.hpp"
#include "error_map.hpp"
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
  complete_conninfo(dsn_, session_options_);  // a malformed DSN is found here and now
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
      dispatcher_{options_, owner.handlers_, stopper_, log_},
      canceller_{stopper_} {
  if (!options_.subconsumer.empty()) {
    heartbeat_.emplace(owner.dsn_, options_, owner.session_options_, log_);
  }
}

void ConsumerImpl::Run::operator()() {
  log_(LogLevel::info, LogEvent::started, "started");
  struct Idle {
    Run& run;
    ~Idle() { run.set_state(ConsumerState::idle); }
  } const idle{*this};

  ConsumerMachine machine{Backoff{options_.reconnect}};
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
  session_ = Session::connect(owner_.dsn_, owner_.session_options_);
  std::string settings;
  if (transaction_mode(options_) == TransactionMode::per_batch) {
    settings +=
        "set idle_in_transaction_session_timeout = " + std::to_string(options_.idle_in_transaction_timeout.count()) +
        ';';
  }
  if (options_.statement_timeout.count() > 0) {
    settings += "set statement_timeout = " + std::to_string(options_.statement_timeout.count()) + ';';
  }
  if (!settings.empty()) AutocommitExecutor{session_}.run_plain(settings, {"configure the session"});
  listen();
  if (std::exchange(ever_connected_, true)) {
    owner_.count([](ConsumerStats& stats) { ++stats.reconnects; });
  }
  log_(LogLevel::info, LogEvent::connected, "connected");
  return Outcome::connected;
}

void ConsumerImpl::Run::listen() {
  const Operation operation{"listen", options_.queue, options_.name};
  auto& connection = session_->idle_connection(operation);
  try {
    listener_.emplace(connection, "pgque_" + options_.queue, [this] { notified_ = true; });
  } catch (const std::exception& error) {
    if (!connection.is_open()) throw_mapped(error, {operation, Role::none, false});
    listener_.reset();
    log_(LogLevel::warning, LogEvent::listen_unavailable,
         "no notifications, polling alone: " + primary_message(error.what()));
  }
}

void ConsumerImpl::Run::take_notifications() {
  const Operation operation{"wait for notifications", options_.queue, options_.name};
  auto& connection = session_->idle_connection(operation);
  try {
    connection.get_notifs();
  } catch (const std::exception& error) {
    throw_mapped(error, {operation, Role::none, connection.is_open()});
  }
}

Outcome ConsumerImpl::Run::receive() {
  set_state(ConsumerState::receiving);
  result_ = {};
  // What was notified until here is covered by this receive; what comes from now on is not.
  take_notifications();
  notified_ = false;
  batch_.emplace(session_, options_);
  {
    const ReceiveCanceller::Scope scope{canceller_, *session_};
    page_ = batch_->open();
  }
  if (page_.empty()) return Outcome::nothing;
  log_.write(batch_record(LogLevel::debug, LogEvent::batch_received, "batch received"));
  return Outcome::messages;
}

Outcome ConsumerImpl::Run::look_ahead() {
  bool more = false;
  {
    const ReceiveCanceller::Scope scope{canceller_, *session_};
    more = batch_->more_windows();
  }
  batch_.reset();
  return more ? Outcome::more_windows : Outcome::drained;
}

Outcome ConsumerImpl::Run::handle() {
  set_state(ConsumerState::handling);
  const Heartbeat::Scope alive{heartbeat_ ? &*heartbeat_ : nullptr};
  auto page = dispatcher_.handle(page_, *batch_);
  owner_.count([&](ConsumerStats& stats) {
    stats.messages += page.handled;
    stats.failures += page.failed;
    stats.unknown += page.unknown;
  });
  result_.retries.insert(result_.retries.end(), std::make_move_iterator(page.retries.begin()),
                         std::make_move_iterator(page.retries.end()));
  return page.interrupted ? Outcome::page_interrupted : Outcome::page_handled;
}

Outcome ConsumerImpl::Run::next_page() {
  auto next = batch_->next_page();
  if (next.empty()) return Outcome::end_of_batch;
  page_ = std::move(next);
  return Outcome::messages;
}

Outcome ConsumerImpl::Run::finish() {
  const auto finish = batch_->finish(result_.retries);
  switch (finish.kind) {
    case Finish::Kind::acked:
      owner_.count([&](ConsumerStats& stats) {
        ++stats.batches;
        stats.retries += result_.retries.size();
      });
      log_.write(batch_record(LogLevel::debug, LogEvent::batch_acked, "batch acknowledged"));
      break;
    case Finish::Kind::stale:
      owner_.count([](ConsumerStats& stats) { ++stats.stale_acks; });
      log_.write(batch_record(LogLevel::warning, LogEvent::stale_ack,
                              "stale or double ack: the batch was finished already, so its messages may have been "
                              "handled twice"));
      break;
    case Finish::Kind::lost:
      owner_.count([](ConsumerStats& stats) { ++stats.takeovers; });
      log_.write(batch_record(LogLevel::warning, LogEvent::batch_lost,
                              "another worker took the batch over; its messages are handled again there"));
      batch_.reset();
      page_.clear();
      return Outcome::lost;
    case Finish::Kind::nack_failed: {
      auto record = batch_record(LogLevel::error, LogEvent::nack_failed, finish.error->what());
      record.sqlstate = finish.error->sqlstate();
      log_.write(record);
      owner_.count([&](ConsumerStats& stats) { stats.last_error = finish.error->what(); });
      abandon("its nacks failed");
      return Outcome::abandoned;
    }
  }
  batch_.reset();
  page_.clear();
  return Outcome::finished;
}

Outcome ConsumerImpl::Run::wait() {
  set_state(ConsumerState::waiting);
  const auto deadline = Stopper::Clock::now() + options_.poll_interval;
  for (;;) {
    // libpq may have read a notification along with an answer, and then the socket stays silent.
    take_notifications();
    if (notified_) return Outcome::woken;
    switch (stopper_.wakeup().wait(session_->connection().sock(), deadline)) {
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
  batch_.reset();
  page_.clear();

  // A read-only server is a former primary: only another connection helps.
  if (!session_ || !session_->is_open() || error.sqlstate() == "25006") {
    listener_.reset();
    session_.reset();
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
  batch_.reset();
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
