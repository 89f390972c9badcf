#include "producer/loop.hpp"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "database/error_map.hpp"
#include "database/executor.hpp"
#include "database/verbs.hpp"
#include "support/backoff.hpp"
#include "support/checks.hpp"
#include "support/event_checks.hpp"
#include "support/headers.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

using std::chrono::milliseconds;

// PostgreSQL takes at most 1 GiB in one message and in one value. A batch is one of both: what counts for its limit, in
// binary form, where nothing is escaped, and four to eighteen bytes for each event. It stays well below, because a
// conversion may make it longer.
constexpr std::size_t most_bytes = std::size_t{512} << 20;
constexpr std::size_t most_events = std::size_t{16} << 20;

void check_size(std::string_view argument, std::size_t value) {
  if (value == 0) throw std::invalid_argument{std::string{argument} + ": must be at least 1, is 0"};
}

BufferedProducerOptions checked(BufferedProducerOptions options) {
  check_size("batch_messages", options.batch_messages);
  check_size("batch_bytes", options.batch_bytes);
  if (options.batch_bytes > most_bytes) {
    throw std::invalid_argument{"batch_bytes: must be at most " + std::to_string(most_bytes) + ", is " +
                                std::to_string(options.batch_bytes)};
  }
  check_duration("linger", options.linger, milliseconds{0}, longest_wait);
  check_size("buffer_messages", options.buffer_messages);
  check_size("buffer_bytes", options.buffer_bytes);
  check_duration("block_timeout", options.block_timeout, milliseconds{0}, longest_wait);
  check_duration("delivery_timeout", options.delivery_timeout, milliseconds{1}, longest_wait);
  check_duration("drain_timeout", options.drain_timeout, milliseconds{0}, longest_wait);
  check(options.reconnect);
  return options;
}

SendLimits send_limits(const BufferedProducerOptions& options) {
  return {std::min(options.batch_messages, most_events), options.batch_bytes, options.linger, options.buffer_messages,
          options.buffer_bytes};
}

std::string events(std::size_t count) {
  return std::to_string(count) + (count == 1 ? " event" : " events");
}

// Short enough for a string that needs no memory.
constexpr const char* out_of_memory = "out of memory";

std::exception_ptr error_without_memory(bool outcome_unknown) {
  Error::Facts facts;
  facts.operation = "send";
  facts.advice = std::string{out_of_memory} + (outcome_unknown ? "; the event may or may not be stored" : "");
  facts.retryable = !outcome_unknown;
  facts.outcome_unknown = outcome_unknown;
  return std::make_exception_ptr(Error{std::move(facts)});
}

Trouble trouble_of(const std::exception& error) noexcept {
  try {
    if (dynamic_cast<const std::bad_alloc*>(&error)) return {out_of_memory, {}};
    const auto* const ours = dynamic_cast<const Error*>(&error);
    return {error.what(), ours ? ours->sqlstate() : std::string{}};
  } catch (const std::bad_alloc&) {
    return {out_of_memory, {}};
  }
}

std::vector<verbs::EventRow> rows_of(const SendBatch& batch) {
  std::vector<verbs::EventRow> rows;
  rows.reserve(batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const auto& extras = batch.extras[i];
    rows.push_back({&batch.payloads[i], extras.type.empty() ? batch.type : extras.type, extras.key, extras.headers});
  }
  return rows;
}

[[noreturn]] void throw_closed() {
  throw std::logic_error{"BufferedProducer: it is closed"};
}

}  // namespace

Delivery delivery_after(const Error& error, bool connection_open, bool committing) {
  const std::string_view state{error.sqlstate()};
  // The server ends the session, although the session may look open until its next use.
  const bool ending = state == "57P01" || state == "57P02" || state == "57P03";
  const bool lost = !connection_open || ending || dynamic_cast<const ConnectionError*>(&error) != nullptr;
  if (error.outcome_unknown() || (lost && committing)) return Delivery::in_doubt;
  // A read-only server may be a former primary, and a pooler may lose prepared statements: a new connection helps in
  // both cases.
  return lost || state == "25006" || is_about_prepared_statement(state) ? Delivery::kept : Delivery::refused;
}

ProducerLoop::ProducerLoop(Dsn dsn, BufferedProducerOptions options)
    : dsn_{std::move(dsn)},
      options_{checked(std::move(options))},
      session_options_{session_options(options_)},
      log_{options_.log, {}, {}},
      not_stored_{error_without_memory(false)},
      in_doubt_{error_without_memory(true)},
      session_{Session::connect(dsn_, session_options_)},
      guard_{stopper_, options_.drain_timeout, milliseconds{0}},
      buffer_{send_limits(options_)},
      machine_{Backoff{options_.reconnect}, options_.delivery_timeout} {
  configure();
  log_(LogLevel::info, LogEvent::started, "producer started");
  log_(LogLevel::info, LogEvent::connected, "producer connected");
  sender_ = std::thread{[this] { run(); }};
}

ProducerLoop::~ProducerLoop() {
  close();
  sender_.join();
}

void ProducerLoop::configure() {
  if (options_.pooled) return;
  const milliseconds connect_timeout{options_.connect_timeout};
  const auto most =
      connect_timeout.count() == 0 ? options_.delivery_timeout : std::min(connect_timeout, options_.delivery_timeout);
  const auto guarded = guard(most);
  AutocommitExecutor executor{session_};
  verbs::configure_session(executor, {"configure the session"});
}

StatementGuard::Scope ProducerLoop::guard(milliseconds most) {
  return {guard_, session_, StatementGuard::OnStop::drain, Clock::now() + most};
}

std::future<EventId> ProducerLoop::send(std::string_view queue, Payload&& payload, std::string_view type) {
  if (options_.on_send) return send(queue, Event{std::move(payload), std::string{type}});
  check_queue(queue);
  check_text("type", type);
  if (payload.text()) check_text("payload", *payload.text());
  return add(queue, type, std::move(payload), {});
}

std::future<EventId> ProducerLoop::send(std::string_view queue, Event&& event) {
  check_queue(queue);
  if (options_.on_send) intercept(options_.on_send, event);
  check_event(event);
  Extras extras{std::move(event.key)};
  if (!event.headers.empty()) extras.headers = write_headers(event.headers);
  return add(queue, event.type, std::move(event.payload), std::move(extras));
}

std::future<EventId> ProducerLoop::add(std::string_view queue, std::string_view type, Payload&& payload,
                                       Extras&& extras) {
  if (type.empty()) type = "default";
  const auto bytes = bytes_of(type, payload, extras);
  const auto too_large = [&](const std::string& why) {
    return std::invalid_argument{(extras.empty() ? "payload: has " : "payload, type, key and headers: have ") +
                                 std::to_string(bytes) + " bytes, " + why};
  };
  if (bytes > options_.buffer_bytes) throw too_large("buffer_bytes is " + std::to_string(options_.buffer_bytes));
  if (bytes > most_bytes) {
    throw too_large((extras.empty() ? "must have at most " : "may have at most ") + std::to_string(most_bytes));
  }
  std::promise<EventId> promise;
  auto future = promise.get_future();

  Lock lock{mutex_};
  if (drain_end_ != SendBuffer::never) throw_closed();
  if (!room_.empty() || !buffer_.has_room(bytes)) wait_for_room(lock, queue, bytes);
  buffer_.add(queue, type, std::move(payload), std::move(extras), std::move(promise), Clock::now());
  // The sending thread need not wake for later events of a batch that is not full.
  if (idle_ && due() < idle_due_) {
    idle_ = false;
    lock.unlock();
    work_.notify_one();
  }
  return future;
}

void ProducerLoop::wait_for_room(Lock& lock, std::string_view queue, std::size_t bytes) {
  const auto me = room_.emplace(room_.end(), bytes);
  if (idle_ && due() < idle_due_) wake_sender();
  const auto closed = [&] { return drain_end_ != SendBuffer::never; };
  const auto my_turn = [&] { return me == room_.begin() && buffer_.has_room(bytes); };
  const bool in_time =
      me->woken.wait_until(lock, Clock::now() + options_.block_timeout, [&] { return closed() || my_turn(); });
  room_.erase(me);
  wake_waiter();  // there may be room for another event, or the next thread needs less
  if (closed()) throw_closed();
  if (in_time) return;
  buffer_.flush();  // so that there is room when the caller tries again
  wake_sender();
  Error::Facts facts;
  facts.operation = Call{"send", queue}.describe();
  facts.advice =
      "the buffer is full: " + events(buffer_.messages()) + ", " + std::to_string(buffer_.bytes()) + " bytes";
  if (!stats_.last_error.empty()) facts.advice += "; the latest error: " + stats_.last_error;
  facts.retryable = true;
  throw Error{std::move(facts)};
}

// Call this with the lock held, because the thread that wakes up may destroy the condition variable.
void ProducerLoop::wake_waiter() {
  if (!room_.empty()) room_.front().woken.notify_one();
}

void ProducerLoop::wake_sender() {
  if (std::exchange(idle_, false)) work_.notify_one();
}

ProducerLoop::Clock::time_point ProducerLoop::due() const noexcept {
  const bool in_the_way = !room_.empty() && !buffer_.empty() && !buffer_.has_room(room_.front().bytes);
  return in_the_way ? SendBuffer::at_once : buffer_.due();
}

bool ProducerLoop::flush(milliseconds timeout) {
  check_duration("timeout", timeout, milliseconds{0}, longest_wait);
  const auto deadline = Clock::now() + timeout;
  Lock lock{mutex_};
  buffer_.flush();
  const auto end = buffer_.next_number();
  wake_sender();
  return progress_.wait_until(lock, deadline, [&] { return std::min(buffer_.first_number(), sending_) >= end; });
}

bool ProducerLoop::close() noexcept {
  Lock lock{mutex_};
  if (drain_end_ == SendBuffer::never) {
    stopper_.stop();
    drain_end_ = stopper_.requested_at() + options_.drain_timeout;
    buffer_.flush();
    for (auto& waiter : room_) waiter.woken.notify_one();
    wake_sender();
  }
  if (sender_.get_id() == std::this_thread::get_id()) return false;
  progress_.wait(lock, [&] { return ended_; });
  return complete_;
}

BufferedProducerStats ProducerLoop::stats() const {
  const std::lock_guard lock{mutex_};
  auto stats = stats_;
  stats.buffered = buffer_.messages();
  stats.buffered_bytes = buffer_.bytes();
  return stats;
}

void ProducerLoop::run() noexcept {
  Lock lock{mutex_};
  for (;;) {
    if (!home().is_this()) return;  // the log sink called fork(), and returned in the child
    const auto now = Clock::now();
    const auto step = machine_.next({now, due(), buffer_.oldest(), drain_end_});
    switch (step.action) {
      case ProducerAction::wait:
      case ProducerAction::pause:
        wait(lock, step);
        break;
      case ProducerAction::connect:
        reconnect(lock);
        break;
      case ProducerAction::send:
        send_batch(lock);
        break;
      case ProducerAction::expire:
        machine_.expired(now);
        drop(lock, now - options_.delivery_timeout, "not sent within delivery_timeout");
        break;
      case ProducerAction::abandon:
        drop(lock, now, "not sent before the producer was closed");
        break;
      case ProducerAction::stop:
        lock.unlock();
        session_.reset();
        log_(LogLevel::info, LogEvent::stopped, "producer closed");
        lock.lock();
        stats_.state = ProducerState::closed;
        ended_ = true;
        progress_.notify_all();
        return;
    }
  }
}

void ProducerLoop::wait(Lock& lock, ProducerMachine::Step step) noexcept {
  stats_.state = step.action == ProducerAction::pause ? ProducerState::backing_off : ProducerState::waiting;
  idle_ = true;
  idle_due_ = due();
  const auto woken = [&] { return !idle_; };
  if (step.until == ProducerMachine::never) {
    work_.wait(lock, woken);
  } else {
    work_.wait_until(lock, step.until, woken);
  }
  idle_ = false;
}

void ProducerLoop::reconnect(Lock& lock) noexcept {
  stats_.state = ProducerState::connecting;
  lock.unlock();
  const auto trouble = connect();
  lock.lock();
  if (trouble) return lost(lock, *trouble);
  machine_.connected();
  ++stats_.reconnects;
}

std::optional<Trouble> ProducerLoop::connect() noexcept {
  try {
    session_ = Session::connect(dsn_, session_options_);
    configure();
    log_(LogLevel::info, LogEvent::connected, "producer connected");
    return std::nullopt;
  } catch (const std::exception& error) {
    return trouble_of(error);
  }
}

void ProducerLoop::lost(Lock& lock, const Trouble& trouble) noexcept {
  machine_.disconnected(Clock::now());
  remember(trouble);
  stats_.state = ProducerState::backing_off;
  lock.unlock();
  session_.reset();
  LogRecord record{LogLevel::warning, LogEvent::connection_lost, trouble.text};
  record.sqlstate = trouble.sqlstate;
  log_.write(record);
  lock.lock();
}

void ProducerLoop::remember(const Trouble& trouble) noexcept {
  try {
    stats_.last_error = trouble.text;
  } catch (const std::bad_alloc&) {
    stats_.last_error = out_of_memory;
  }
}

std::string ProducerLoop::with_latest_error(std::string_view why) const noexcept {
  try {
    std::string text{why};
    if (!stats_.last_error.empty()) text += "; the latest error: " + stats_.last_error;
    return text;
  } catch (const std::bad_alloc&) {
    return out_of_memory;
  }
}

void ProducerLoop::send_batch(Lock& lock) noexcept {
  stats_.state = ProducerState::sending;
  auto taken = buffer_.take(Clock::now());
  auto& batch = taken.front();
  sending_ = batch.waiting.front().number;
  lock.unlock();
  const auto result = deliver(batch);
  lock.lock();

  const bool answered = result.delivery == Delivery::sent || result.delivery == Delivery::refused;
  const bool on_this_connection = answered && result.session_good;
  if (on_this_connection) machine_.sent();
  if (result.error) remember(result.trouble);
  if (result.delivery == Delivery::kept) {
    buffer_.put_back(std::move(taken));
    sending_ = nothing;
    return lost(lock, result.trouble);
  }

  // When a future becomes ready, its event is already counted and its room is free.
  count_out(batch);
  if (result.delivery == Delivery::sent) {
    ++stats_.batches;
    stats_.sent += batch.size();
  } else {
    stats_.failed += batch.size();
  }
  if (result.delivery == Delivery::in_doubt) {
    stats_.unknown += batch.size();
    if (drain_end_ != SendBuffer::never) complete_ = false;
  }
  lock.unlock();
  switch (result.delivery) {
    case Delivery::sent:
      write(LogLevel::debug, LogEvent::batch_sent, batch, "sent");
      break;
    case Delivery::refused:
      write(LogLevel::error, LogEvent::batch_refused, batch, "refused", result.trouble);
      break;
    default:
      write(LogLevel::error, LogEvent::batch_in_doubt, batch, "may or may not be stored", result.trouble);
  }
  for (std::size_t i = 0; i < batch.size(); ++i) {
    auto& promise = batch.waiting[i].promise;
    if (result.error) {
      promise.set_exception(result.error);
    } else {
      promise.set_value(result.ids[i]);
    }
  }
  taken.clear();
  lock.lock();
  sending_ = nothing;
  progress_.notify_all();
  if (!on_this_connection || session_->worn_out()) lost(lock, result.trouble);
}

void ProducerLoop::count_out(const SendBatch& batch) noexcept {
  buffer_.release(batch);
  wake_waiter();
}

ProducerLoop::Result ProducerLoop::deliver(const SendBatch& batch) noexcept {
  Result result;
  bool committing = false;
  const auto failed = [&](const Error& error, const std::exception_ptr& as_thrown) {
    result.delivery = delivery_after(error, session_->is_open(), committing);
    const bool says_so = result.delivery != Delivery::in_doubt || error.outcome_unknown();
    if (says_so) result.error = as_thrown;
    result.trouble = {error.what(), error.sqlstate()};
    if (says_so) return;
    Error::Facts facts;
    facts.operation = error.operation();
    facts.server_message = error.server_message();
    facts.sqlstate = error.sqlstate();
    facts.advice = "the connection was lost during the commit, which may or may not have taken place";
    facts.outcome_unknown = true;
    result.error = std::make_exception_ptr(ConnectionError{std::move(facts)});
  };
  try {
    try {
      const auto guarded = guard(options_.delivery_timeout);
      // In a transaction, so that the outcome is unknown only if the connection is lost during the short commit.
      TransactionExecutor transaction{session_};
      result.ids = batch.extras.empty() ? verbs::send_batch(transaction, batch.queue, batch.type, batch.payloads)
                                        : verbs::send_events(transaction, batch.queue, rows_of(batch));
      if (result.ids.size() != batch.size()) {
        throw std::runtime_error{"the server returned " + std::to_string(result.ids.size()) + " ids for " +
                                 events(batch.size())};
      }
      const Call commit{"commit"};
      transaction.require_usable(commit);  // a loss that is known before the commit leaves no doubt
      committing = true;
      transaction.commit(commit);
    } catch (const Error& error) {
      failed(error, std::current_exception());
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      Error::Facts facts;
      facts.operation = Call{"send_batch", batch.queue}.describe();
      facts.advice = error.what();
      facts.outcome_unknown = committing;
      const Error wrapped{std::move(facts)};
      failed(wrapped, std::make_exception_ptr(wrapped));
    }
  } catch (const std::exception&) {
    // There was no memory, perhaps not even to say what else went wrong. If the connection is good, this batch fails
    // and does not hold up the others; it may be too large for the memory there is.
    if (result.delivery == Delivery::sent) {
      result.delivery = committing ? Delivery::in_doubt : session_->is_open() ? Delivery::refused : Delivery::kept;
    }
    if (!result.error) result.error = result.delivery == Delivery::in_doubt ? in_doubt_ : not_stored_;
    result.trouble = {out_of_memory, {}};
    result.session_good = false;
  }
  return result;
}

void ProducerLoop::drop(Lock& lock, Clock::time_point since, std::string_view why) noexcept {
  auto batches = buffer_.take_older(since);
  // flush() waits for these events until their futures are ready.
  for (const auto& batch : batches) {
    sending_ = std::min(sending_, batch.waiting.front().number);
    count_out(batch);
    stats_.failed += batch.size();
  }
  if (drain_end_ != SendBuffer::never && !batches.empty()) complete_ = false;
  const auto reason = with_latest_error(why);
  lock.unlock();
  for (auto& batch : batches) {
    write(LogLevel::error, LogEvent::events_dropped, batch, reason);
    const auto error = not_sent(batch, reason);
    for (auto& one : batch.waiting) one.promise.set_exception(error);
  }
  batches.clear();
  lock.lock();
  sending_ = nothing;
  progress_.notify_all();
}

std::exception_ptr ProducerLoop::not_sent(const SendBatch& batch, const std::string& reason) const noexcept {
  try {
    Error::Facts facts;
    facts.operation = Call{"send", batch.queue}.describe();
    facts.advice = reason;
    facts.retryable = true;
    return std::make_exception_ptr(Error{std::move(facts)});
  } catch (const std::bad_alloc&) {
    return not_stored_;
  }
}

void ProducerLoop::write(LogLevel level, LogEvent event, const SendBatch& batch, std::string_view what,
                         const Trouble& why) {
  std::string text;
  LogRecord record{level, event, what};
  record.queue = batch.queue;
  record.sqlstate = why.sqlstate;
  try {
    text = events(batch.size());
    text.append(1, ' ').append(what);
    if (!why.text.empty()) text.append(": ").append(why.text);
    record.message = text;
  } catch (const std::bad_alloc&) {
    // Then the line says what happened, and not how often and why.
  }
  log_.write(record);
}

}  // namespace pgque::detail
