#pragma once

/// @file
/// How a consumer works: its options.

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <pgque/crash_guard.hpp>
#include <pgque/dsn.hpp>
#include <pgque/error.hpp>
#include <pgque/export.hpp>
#include <pgque/log.hpp>
#include <pgque/message.hpp>
#include <pgque/on_send.hpp>
#include <pgque/reconnect.hpp>
#include <pgque/retry.hpp>

namespace pgque {

class Context;

/// Code around each call of a handler; see `ConsumerOptions::around`.
using Around = std::function<void(const Message& message, Context& context, const std::function<void()>& next)>;

/// One that calls all of these, each around those after it. Empty ones are left out.
PGQUE_EXPORT Around chain(std::vector<Around> arounds);
/// The same for a list in braces: two plain functions could be a vector's begin and end, too.
inline Around chain(std::initializer_list<Around> arounds) {
  return chain(std::vector<Around>{arounds});
}

/// What happens to a message whose type has no handler when there is no "*" handler either.
enum class UnknownHandlerPolicy {
  nack,  ///< retried, and dead-lettered in the end: never silently dropped
  ack,   ///< acknowledged with a warning
};

/// How a batch, its handlers and its acknowledgement relate to database transactions.
enum class TransactionMode {
  /// One transaction around receive, handlers, nacks and ack. Handlers may write in it (`Context::transaction()`):
  /// those writes commit exactly once, together with the ack. The transaction is open while handlers run.
  per_batch,
  /// The receive is committed first; no transaction is open while handlers run; nacks and ack commit together.
  split,
};

/// How many messages a consumer holds in memory at once, unless its options say something else.
inline constexpr std::int32_t default_max_messages = 10'000;

/// How a consumer that is behind catches up: with batches of several tick windows.
struct CatchUp {
  /// Windows are merged until the batch has about this many events, by the numbers that PgQue gives to events; retries
  /// are not counted. Default 500; at least 1. `max_messages` still bounds how many are in memory at once.
  std::int32_t events = 500;
};

/// How a consumer works. Wrong or contradictory values make the constructor throw `std::invalid_argument`.
struct ConsumerOptions {
  /// The queue. Required; 1 to 57 bytes.
  std::string queue{};
  /// The name with which the consumer is subscribed. Required. Two processes of one name take turns in `per_batch`
  /// mode, and both handle every message in `split` mode; to share the messages, give each process a `subconsumer`.
  /// Avoid `#` in the name, which PgQue 0.3 reserves.
  std::string name{};
  /// How long to wait for a notification before asking the server anyway. Default 30 s; 1 ms to 30 days.
  std::chrono::milliseconds poll_interval{30'000};
  /// How many messages to hold in memory at once. Larger batches are read page by page, and acknowledged after their
  /// last message. In `split` mode the reasons of failures, at most 4000 bytes each, are held until then as well.
  /// Default 10,000; at least 1; `std::nullopt` reads every batch as a whole, however large it is. In `split` mode with
  /// `pooled` there can be no pages: the default then means the whole batch, with a warning at each start, and any
  /// other number is an error.
  std::optional<std::int32_t> max_messages{default_max_messages};
  /// While there is a backlog of two tick windows or more: merge them until so many events are in one batch. No message
  /// is later for it, because a single window is received at once. Default: each window is a batch.
  std::optional<CatchUp> catch_up{};
  /// Deliver no message before the tick that made it visible is at least so old. Messages that are too young do not
  /// count for `until_drained`. What a worker takes over from another is delivered as it is. Default 0; at most 30
  /// days.
  std::chrono::milliseconds min_lag{0};
  /// Delay before a failed or unknown message is delivered again. Default 60 s; 0 to 2147483647 s.
  std::chrono::seconds retry_after{60};
  /// Computes the delay for each message, in place of `retry_after`; see `exponential_retry`. Default: `retry_after`
  /// for all messages.
  RetryDelay retry_delay{};
  /// Whether a handler that ends with a `PayloadError`, as `on<T>()` and `payload_as<T>()` throw it for a payload that
  /// is not a `T`, has given the message up as by `GiveUp`. Not one of `on_batch()` with several messages, because it
  /// is not known which of them is meant. Default false: it is retried, because another version of the program may be
  /// able to read it.
  bool give_up_on_bad_payload = false;
  /// What happens to messages whose type has no handler. Default: nack.
  UnknownHandlerPolicy unknown_handler_policy = UnknownHandlerPolicy::nack;
  /// This worker's name within the cooperative consumer `name`. Default: empty, a normal consumer. Workers register
  /// themselves. Neither name may contain a dot. Avoid `#` as well: in PgQue 0.3 a subconsumer `worker#1` can receive
  /// but never ack. Cooperative consumers are experimental in PgQue 0.2.
  std::string subconsumer{};
  /// Take over the batch of another worker of the group if that worker has sent no heartbeat for this long. Needs
  /// `subconsumer`. Default: never; 1 ms to 30 days. While its handlers run, a worker sends a heartbeat every third of
  /// its `dead_interval`, but at least every 10 s; so give all workers of a group the same value. With each heartbeat
  /// it finds out whether the batch is still its own.
  std::optional<std::chrono::milliseconds> dead_interval{};
  /// If `name` is subscribed as a normal consumer, make it a cooperative one, at the first receive of each start: it
  /// keeps its position, its pending retries and its dead letters, and processes that run it as a normal consumer fail
  /// from then on. A batch that it has open must be finished first, or the conversion fails. Needs `subconsumer`.
  /// Default false: a normal consumer stays one, which is an error here. SQL: `pgque.subscribe_subconsumer(text, text,
  /// text, bool)`.
  bool convert = false;
  /// How handlers relate to transactions. Default: `per_batch`; always `split` with `subconsumer` or `concurrency`
  /// above 1, where asking for `per_batch` is an error.
  std::optional<TransactionMode> transaction{};
  /// How many messages are handled at once, each on a separate thread. Default 1: one after another, in order, on the
  /// thread that called `start()`. 1 to 1024. Above 1, one handler may be called from several threads at once.
  std::int32_t concurrency = 1;
  /// With `concurrency` above 1: messages with the same key are handled one after another, in order. That holds within
  /// one process and among first deliveries: a message that failed comes again after those behind it, and workers of a
  /// group know nothing of each other's keys, of which a warning tells at the start (`LogEvent::key_in_group`). Called
  /// on the thread of `start()`, and not with `concurrency` 1, where all messages are in order. Default: no order.
  std::function<std::string(const Message&)> key{};
  /// Code around each call of a handler, for traces, metrics or log contexts: it calls `next()`, on the same thread and
  /// at most once, which calls the handler and throws what that throws. `next` is valid only during the call.
  /// What it throws itself counts as the handler's exception, so pass on what it catches: `NotNow`, `RetryAfter` and
  /// the errors of deadlocks mean something. A message for which it does not call `next()` is a failure, and one whose
  /// handler's exception it catches stays one. For a handler of `on_batch()` it is called once for each call, with the
  /// first message; `context` has all of them. It must be callable from several threads at once where the handlers are.
  /// Messages without a handler, and the callbacks of `Context::on_ack()`, do not pass through it. Default: none.
  /// `chain()` makes one of several.
  Around around{};
  /// How long `stop()` lets the current batch go on; after that, the messages whose handlers have not begun are left
  /// for redelivery. Default 25 s; 0 leaves them at once; at most 30 days. A running handler is never interrupted.
  std::chrono::milliseconds drain_timeout{25'000};
  /// A handler that runs for longer than this is logged once (`LogEvent::handler_stuck`) and counted
  /// (`ConsumerStats::stuck`). It is not interrupted. Until it returns, a worker of a group sends no heartbeats, so
  /// that a worker with a `dead_interval` may take the batch over. Default: none; 1 ms to 30 days.
  std::optional<std::chrono::milliseconds> handler_timeout{};
  /// Pauses after errors. Default: 100 ms, growing to 30 s.
  ReconnectOptions reconnect{};
  /// Warn once (`LogEvent::no_ticks`) when the queue has had no tick for this long while nothing arrives, because
  /// nothing is ever delivered without a ticker. A queue without new events that is ticked less often gets more time
  /// (`ticker_idle_period`). Default 60 s; 0 never does; at most 30 days.
  std::chrono::milliseconds no_ticks_after{60'000};
  /// Called with each event that a handler sends by `Context::send()`, as `ClientOptions::on_send`. It must be callable
  /// from several threads at once where handlers are. Default: none.
  OnSend on_send{};
  /// Asked about each error that a retry cannot fix: no such queue or consumer, missing grants, no PgQue. Default:
  /// stop. Called on the thread of `start()`.
  std::function<ErrorAction(const Error&)> on_error{};
  /// Log lines and events. Default: warnings and errors to standard error.
  LogSink log{};
  /// How long connecting to one host may take, as in `ClientOptions`. Default 10 s; 0 waits as long as the operating
  /// system does; at most 30 days.
  std::chrono::seconds connect_timeout{10};
  /// Set to true if the DSN points to a connection pooler in transaction mode, as in `ClientOptions`. Then nothing is
  /// prepared or set for the session, and LISTEN needs `listen_dsn`. Default false.
  bool pooled = false;
  /// The DSN of a direct connection for LISTEN only, beside a pooled one. Default: LISTEN on the consumer's own
  /// connection. With `pooled`, the default is no LISTEN, so a message may be noticed as late as `poll_interval`.
  Dsn listen_dsn{};
  /// Time limit for each statement of this consumer and of its handlers. Default 0: none for the consumer's own, the
  /// server's setting for those that handlers send through `Context::transaction()`. At most 2147483647 ms.
  std::chrono::milliseconds statement_timeout{0};
  /// How long a handler in `per_batch` mode, or a callback of `Context::on_ack()`, may leave its transaction idle
  /// before the server ends the session, whatever limit the server has itself. In `per_batch` mode the whole batch is
  /// then handled again; elsewhere its callbacks run again. Default 15 min; 0: for ever; at most 2147483647 ms.
  std::chrono::milliseconds idle_in_transaction_timeout{std::chrono::minutes{15}};
  /// In `per_batch` mode: a batch whose transaction has been open for this long is logged once
  /// (`LogEvent::slow_batch`), because an open transaction slows down all queues of the database. Default 10 s; 0 never
  /// does; at most 30 days.
  std::chrono::milliseconds slow_batch_after{10'000};
  /// Make `start()` return once nothing is left to receive, for jobs that run now and then, and for tests. Messages
  /// that were not ticked yet and retries that are not due do not count. Default false: wait for more.
  bool until_drained = false;
  /// Nacks a message during which the process has ended several times, instead of handling it again. Default: none, so
  /// that a message that crashes the process does so for ever.
  std::optional<CrashGuard> crash_guard{};
};

}  // namespace pgque
