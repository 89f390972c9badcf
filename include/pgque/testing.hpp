#pragma once

/// @file
/// Opt-in: tests of handlers, on a real database with PgQue or without one. No test framework is needed: what goes
/// wrong is thrown. Link `pgque::testing`.
///
/// GoogleTest has a namespace `testing`, too, so do not write `using namespace pgque` beside it.

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <pgque/admin.hpp>
#include <pgque/consumer.hpp>
#include <pgque/export.hpp>
#include <pgque/payload.hpp>

namespace pgque {

namespace detail {
class QueueUnderTest;
struct TestAccess;
}  // namespace detail

namespace testing {

/// What the names of the queues begin with that `Queue` makes.
inline constexpr const char* default_prefix = "pgque_test";

/// How a `Queue` is made. Wrong values make its constructor throw `std::invalid_argument`.
struct QueueOptions {
  /// The other queues that the handlers send to. Those that do not exist are created, and dropped when no object of
  /// any process uses them any more. Default: none.
  std::vector<std::string> others{};
  /// The consumer that the constructor subscribes, and the `ConsumerOptions::name` of a `deliver()` that names none.
  /// Default "test".
  std::string consumer = "test";
  /// What the queue's name begins with, for `sweep()`: 1 to 36 bytes. Default `default_prefix`.
  std::string prefix = default_prefix;
  /// The queue's settings, such as `max_retries`. Default: PgQue's.
  QueueSettings settings{};
};

/// What `Queue::deliver()` does not leave to the consumer's own options.
struct DeliverOptions {
  /// How long the consumer may take until nothing is left to receive. Default 30 s; 1 ms to 30 days. A handler that is
  /// running then is waited for.
  std::chrono::milliseconds limit{30'000};
};

/// A log record of the consumer under test; see `LogRecord`.
struct LogLine {
  LogLevel level = LogLevel::info;        ///< how much it matters
  LogEvent event = LogEvent::failed;      ///< what happened
  std::string message{};                  ///< the same in words; for `handler_failed`, the reason
  std::optional<EventId> msg_id{};        ///< if it is about a message
  std::optional<std::int32_t> attempt{};  ///< which delivery of the message this was, starting at 1
};

/// What happened in one `Queue::deliver()`.
struct Run {
  std::int64_t handled = 0;        ///< messages whose handler returned, even if what it gave to `on_ack()` failed
  std::int64_t failed = 0;         ///< messages whose handler or `on_ack()` threw
  std::int64_t unknown = 0;        ///< messages without a handler
  std::int64_t retried = 0;        ///< messages put up for another delivery, or made dead letters
  std::int64_t dead_lettered = 0;  ///< messages that have become dead letters, of all consumers of the queue
  std::int64_t batches = 0;        ///< batches acknowledged
  std::int64_t postponed = 0;      ///< batches left because a handler threw `NotNow`
  std::int64_t abandoned = 0;      ///< batches left for any other reason
  std::vector<LogLine> log{};      ///< everything that the consumer has logged
};

/// The numbers, and the warnings and errors of the log, for a failed assertion's text.
PGQUE_EXPORT std::ostream& operator<<(std::ostream& out, const Run& run);

/// The consumer of a `Queue::deliver()` had not drained its queue when the time was over: a handler threw `NotNow`, or
/// a batch was abandoned again and again. The text names what was logged last. **Thread safety.** Immutable; may be
/// read from any thread.
class PGQUE_EXPORT NotDrained : public std::runtime_error {
 public:
  /// Made by `deliver()`.
  NotDrained(const std::string& text, Run run);
  ~NotDrained() override;
  /// What had happened until then.
  const Run& run() const noexcept { return *run_; }

 private:
  std::shared_ptr<const Run> run_;
};

/// A new queue in a real database with PgQue, for one test. The destructor drops it with its consumers, retries and
/// dead letters; it writes a line to standard error if it cannot, for example because a transaction of the test still
/// uses the queue. What a killed process leaves behind, `sweep()` drops.
///
/// The DSN has to lead to the server itself or to a pooler in session mode, because advisory locks tell which queues
/// are in use. The role needs `pgque_admin`.
///
/// **Thread safety.** One thread at a time. Several objects, of one process or of many, can use one database at once.
///
/// **After `fork()`** it belongs to the parent process: in the child every call throws `std::logic_error`, and the
/// destructor does nothing.
class PGQUE_EXPORT Queue {
 public:
  /// Connects, makes the queue and subscribes the consumer.
  /// @throws ConnectionError
  /// @throws Error with SQLSTATE 42501 if the role lacks `pgque_admin`
  /// @throws std::invalid_argument for wrong options
  /// SQL: `pgque.create_queue(text)`, `pgque.set_queue_config(text, text, text)`, `pgque.subscribe(text, text)`
  explicit Queue(const Dsn& dsn, const QueueOptions& options = {});
  /// A moved-from object can be destroyed; every other use throws `std::logic_error`.
  Queue(Queue&&) noexcept;
  Queue& operator=(Queue&&) = delete;
  /// Drops the queue, after at most 30 s of waiting for transactions that use it.
  /// SQL: `pgque.drop_queue(text, bool)`, `pgque.unregister_subconsumer(text, text, text, int4)`
  ~Queue();

  /// Its name.
  const std::string& name() const;

  /// Stores one event, as `Client::send()` does, and returns its id. The next `deliver()` delivers it.
  EventId send(const Payload& payload, std::string_view type = "default");
  /// The same for an `Event`, which may have a key and headers.
  EventId send(const Event& event);

  /// Makes what was sent so far visible to consumers, as a ticker does in production. `deliver()` does this itself.
  /// @throws Error if the queue is paused or gets its ticks from elsewhere
  /// SQL: `pgque.force_next_tick(text)`, `pgque.ticker(text)`
  void tick();

  /// Makes a consumer, ticks, and runs the consumer until nothing is left to receive.
  ///
  /// These options are replaced: `queue` and `name`, if they are empty, by this queue and `QueueOptions::consumer`;
  /// `until_drained` by true; `min_lag` by 0. A consumer of another `name`, or a group, is subscribed at its first
  /// delivery, from the queue's beginning. A consumer that has been normal becomes a group if there is a
  /// `subconsumer`. Without an `options.log`, what is logged goes to `Run::log` alone.
  /// @param register_handlers called with the consumer, before it starts
  /// @throws NotDrained
  /// @throws Error as `Consumer::start()` does
  /// @throws std::invalid_argument for wrong options, also for an `options.queue` that is another one
  Run deliver(ConsumerOptions options, const std::function<void(Consumer&)>& register_handlers,
              const DeliverOptions& deliver_options = {});

  /// Brings all waiting retries of this queue back, whenever they are due, for the next `deliver()`. Those of other
  /// queues stay. Needs the rights of `pgque_admin` on the table `pgque.retry_queue`.
  /// @return how many there were
  /// SQL: the table `pgque.retry_queue`, `pgque.insert_event_raw(text, int8, timestamptz, int4, int4, text, ...)`
  std::int64_t make_retries_due();

  /// The dead letters of this queue, in the order in which their messages were sent.
  /// SQL: `pgque.dlq_inspect(text, int4)`
  std::vector<DeadLetter> dead_letters();

  /// The events that were sent to a queue, and committed, since this object was made, in the order of their ids. It
  /// needs no consumer and no tick. Other tests' events are among them if they send to the same queue at the same time.
  /// What a rotation of the queue's tables has removed is no longer among them. `Message::batch_id` is 0.
  /// @throws QueueNotFound
  /// SQL: the tables of the queue's events
  std::vector<Message> sent(std::string_view queue);

 private:
  std::unique_ptr<detail::QueueUnderTest> queue_;
};

/// Drops what killed processes have left behind: queues that a `Queue` with this prefix has made at least `older_than`
/// ago, those for its handlers' sends as well, and that no living object uses. A test program may call it before its
/// tests.
/// @param older_than at least 0, at most 100 years
/// @param prefix as `QueueOptions::prefix`
/// @return the names of the queues that were dropped
/// @throws ConnectionError
/// @throws Error with SQLSTATE 42501 if the role lacks `pgque_admin`
/// **Thread safety.** May be called from any thread, and while others make and use queues.
/// SQL: `pgque.drop_queue(text, bool)`, `pgque.unregister_subconsumer(text, text, text, int4)`
PGQUE_EXPORT std::vector<std::string> sweep(const Dsn& dsn, std::chrono::seconds older_than = std::chrono::hours{1},
                                            std::string_view prefix = default_prefix);

/// A message as a consumer would receive it at its first delivery: the text of the payload as given, an id of its own,
/// and sent now. Change its members for anything else, such as `retry_count`.
PGQUE_EXPORT Message message(std::string_view type, const Payload& payload);
/// The same with the event's type, key and headers.
PGQUE_EXPORT Message message(const Event& event);

/// An event that a handler has sent by its context.
struct Sent {
  std::string queue;  ///< the queue that it goes to
  Event event;        ///< what goes there
};

/// What a handler has done with a message, see `handle()`. **Thread safety.** A value type; distinct objects may be
/// used by distinct threads.
class PGQUE_EXPORT Outcome {
 public:
  /// Whether it returned.
  bool handled() const noexcept { return kind_ == Kind::handled; }
  /// What its exception says; empty if it returned. With a dead letter it is stored behind the words "handler error: "
  /// unless the handler threw `RetryAfter` or `GiveUp`.
  const std::string& reason() const noexcept { return reason_; }
  /// The delay of the `RetryAfter` that it threw; otherwise empty, which leaves the delay to the consumer's options.
  std::optional<std::chrono::seconds> retry_after() const noexcept { return retry_after_; }
  /// Whether it threw `GiveUp`.
  bool gave_up() const noexcept { return kind_ == Kind::gave_up; }
  /// Whether it threw `NotNow`.
  bool postponed() const noexcept { return kind_ == Kind::postponed; }
  /// The delay of that.
  std::optional<std::chrono::milliseconds> postponed_for() const noexcept { return postponed_for_; }
  /// How many callbacks of `Context::on_ack()` wait for the ack: 0 if the handler threw. None of them is called.
  std::int64_t deferred() const noexcept { return deferred_; }
  /// What it has sent by its context and what would be committed with the ack: nothing if the handler threw.
  const std::vector<Sent>& sent() const noexcept { return sent_; }

 private:
  friend struct detail::TestAccess;
  enum class Kind { handled, failed, gave_up, postponed };

  Kind kind_ = Kind::handled;
  std::string reason_;
  std::optional<std::chrono::seconds> retry_after_;
  std::optional<std::chrono::milliseconds> postponed_for_;
  std::int64_t deferred_ = 0;
  std::vector<Sent> sent_;
};

/// Such as "failed: no such product", for a failed assertion's text.
PGQUE_EXPORT std::ostream& operator<<(std::ostream& out, const Outcome& outcome);

/// @cond
// A consumer that is never started, and a call of the handler that it has for the message.
PGQUE_EXPORT Consumer unconnected_consumer();
PGQUE_EXPORT Outcome handle_with(const Consumer& consumer, const Message& message);
/// @endcond

/// Calls a handler once, without a database: any callable that `Consumer::on()` takes. Its `Context::transaction()`
/// throws `std::logic_error`, because a fake would teach wrong semantics: test such a handler with a `Queue`.
/// @throws std::invalid_argument if the handler is an empty std::function or a null pointer
template <class Handler, std::enable_if_t<std::is_invocable_v<Handler&, const Message&, Context&> ||
                                              std::is_invocable_v<Handler&, const Message&>,
                                          int> = 0>
Outcome handle(const Message& message, Handler handler) {
  auto consumer = unconnected_consumer();
  consumer.on("*", std::move(handler));
  return handle_with(consumer, message);
}

/// The same for a handler of the decoded payload, as `Consumer::on<T>()` takes it: `handle<Order>(message, handler)`. A
/// payload that is not a `T` is a failure, whatever `ConsumerOptions::give_up_on_bad_payload` is.
/// @throws std::invalid_argument if the handler is an empty std::function or a null pointer
template <class T, class Handler>
Outcome handle(const Message& message, Handler handler) {
  auto consumer = unconnected_consumer();
  consumer.on<T>("*", std::move(handler));
  return handle_with(consumer, message);
}

}  // namespace testing

}  // namespace pgque
