#pragma once

/// @file
/// The consumer: a loop that receives batches, calls handlers and acknowledges.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <pgque/error.hpp>
#include <pgque/export.hpp>
#include <pgque/log.hpp>
#include <pgque/message.hpp>
#include <pgque/payload.hpp>
#include <pgque/reconnect.hpp>
#include <pgque/retry.hpp>

namespace pqxx {
class transaction_base;
}

namespace pgque {

namespace detail {
class ConsumerImpl;
struct Access;
struct ContextState;
}  // namespace detail

/// What happens to a message whose type has no handler when there is no "*" handler either.
enum class UnknownHandlerPolicy {
  nack,  ///< retried, and dead-lettered in the end: never silently dropped
  ack,   ///< acknowledged with a warning
};

/// How a batch, its handlers and its acknowledgement relate to database transactions.
enum class TransactionMode {
  /// One transaction around receive, handlers, nacks and ack. Handlers may write in it (`Context::transaction()`):
  /// those writes commit exactly once, together with the ack. It is open while handlers run.
  per_batch,
  /// The receive is committed first; no transaction is open while handlers run; nacks and ack commit together.
  split,
};

/// How a consumer works. Wrong or contradictory values make the constructor throw `std::invalid_argument`.
struct ConsumerOptions {
  /// The queue. Required; 1 to 57 bytes.
  std::string queue{};
  /// The consumer's name, as subscribed. Required. Two processes with one name do each other's work again; to share
  /// the work give each a `subconsumer`.
  std::string name{};
  /// How long to wait for a notification before asking anyway. Default 30 s; 1 ms to 30 days.
  std::chrono::milliseconds poll_interval{30'000};
  /// How many messages to hold in memory at once. Larger batches are read page by page, and acknowledged after their
  /// last message. In `split` mode the reasons of failures, at most 4000 bytes each, are held until then as well.
  /// Default: the whole batch. At least 1. Not in `split` mode with `pooled`.
  std::optional<std::int32_t> max_messages{};
  /// Delay before a failed or unknown message is delivered again. Default 60 s; 0 to 2147483647 s.
  std::chrono::seconds retry_after{60};
  /// Computes that delay per message instead; see `exponential_retry`. Default: `retry_after` for all.
  RetryDelay retry_delay{};
  /// What happens to messages whose type has no handler. Default: nack.
  UnknownHandlerPolicy unknown_handler_policy = UnknownHandlerPolicy::nack;
  /// This worker's name within the cooperative consumer `name`. Default: empty, a normal consumer. Workers register
  /// themselves. No dots in either name. Experimental in PgQue 0.2.
  std::string subconsumer{};
  /// Take over the batch of a sibling that has shown no sign of life for this long. Needs `subconsumer`. Default:
  /// never; 1 ms to 30 days. While its handlers run, a worker gives a sign of life every third of its own
  /// `dead_interval`, or every 10 s, whichever is shorter; so give all workers of a group the same value.
  std::optional<std::chrono::milliseconds> dead_interval{};
  /// How handlers relate to transactions. Default: `per_batch`; always `split` with `subconsumer` or `concurrency`
  /// above 1, where asking for `per_batch` is an error.
  std::optional<TransactionMode> transaction{};
  /// How many messages are handled at once, each on a thread of its own. Default 1: one after another, in order, on
  /// the thread that called `start()`. 1 to 1024. Above 1, one handler may be called from several threads at once.
  std::int32_t concurrency = 1;
  /// With `concurrency` above 1: messages with the same key are handled one after another, in order. Called on the
  /// loop's thread. Default: no order.
  std::function<std::string(const Message&)> key{};
  /// How long `stop()` lets the current batch go on; after that, the messages whose handlers have not begun are left
  /// for redelivery. Default 25 s; 0 abandons at once; up to 30 days. A running handler is never interrupted.
  std::chrono::milliseconds drain_timeout{25'000};
  /// Pauses after errors. Default: 100 ms, growing to 30 s.
  ReconnectOptions reconnect{};
  /// Asked about each error that trying again will not mend: no such queue or consumer, missing grants, no PgQue.
  /// Default: stop. Called on the loop's thread.
  std::function<ErrorAction(const Error&)> on_error{};
  /// Log lines and events. Default: warnings and errors to standard error.
  LogSink log{};
  /// How long connecting to one host may take, as in `ClientOptions`. Default 10 s; 0 waits as long as the operating
  /// system does; at most 30 days.
  std::chrono::seconds connect_timeout{10};
  /// Say true if the DSN leads through a connection pooler in transaction mode, such as PgBouncer's. Nothing is then
  /// prepared or set for the session, and LISTEN needs `listen_dsn`. Default false.
  bool pooled = false;
  /// A direct connection for LISTEN alone, beside a pooled one. Default: LISTEN on the consumer's own connection, or
  /// with `pooled` not at all: then `poll_interval` is how late a message may be noticed.
  std::string listen_dsn{};
  /// Limit for each statement of this consumer, handlers' statements included. Default 0: what the server says. At most
  /// 2147483647 ms.
  std::chrono::milliseconds statement_timeout{0};
  /// In `per_batch`: after how long the server ends a session whose handler keeps its transaction waiting. Default 0:
  /// never, whatever the server's own setting, because being ended there means handling the whole batch again. At most
  /// 2147483647 ms.
  std::chrono::milliseconds idle_in_transaction_timeout{0};
  /// Make `start()` return once nothing is left to receive, for jobs that run now and then, and for tests. Messages
  /// that were not ticked yet and retries that are not due do not count. Default false: wait for more.
  bool until_drained = false;
};

/// What a consumer is doing.
enum class ConsumerState {
  idle,         ///< `start()` is not running
  connecting,   ///< making its connections
  receiving,    ///< asking for a batch
  handling,     ///< running handlers, or finishing the batch
  waiting,      ///< for a notification, at most `poll_interval`
  backing_off,  ///< pausing after an error
};

/// The state's name, such as "waiting".
PGQUE_EXPORT std::string_view to_string(ConsumerState state) noexcept;

/// Counters since the consumer was made.
struct ConsumerStats {
  std::uint64_t batches = 0;                  ///< batches acknowledged
  std::uint64_t messages = 0;                 ///< messages whose handler returned, redeliveries included
  std::uint64_t failures = 0;                 ///< messages whose handler threw
  std::uint64_t unknown = 0;                  ///< messages without a handler
  std::uint64_t retries = 0;                  ///< messages put up for retry, in batches acknowledged
  std::uint64_t abandoned = 0;                ///< batches left for redelivery
  std::uint64_t stale_acks = 0;               ///< batches that somebody had finished by their ack
  std::uint64_t takeovers = 0;                ///< batches lost to another worker
  std::uint64_t reconnects = 0;               ///< connections made after the first
  ConsumerState state = ConsumerState::idle;  ///< what it is doing now
  std::string last_error{};                   ///< what() of the latest error; empty if there was none
};

/// What a handler may ask while it runs. Valid only during the call.
///
/// **Thread safety.** To be used on the thread of the call alone.
class PGQUE_EXPORT Context {
 public:
  /// The transaction that received this batch and will acknowledge it, wrapped in a savepoint for this handler alone:
  /// if the handler throws, only its own writes vanish. What is written here, and what is sent through
  /// `pgque::Transaction{context.transaction()}`, commits exactly once, together with the ack. Do not end it.
  /// @throws std::logic_error in `split` mode, where no transaction is open
  /// @throws ConnectionError
  /// SQL: `SAVEPOINT`, at the first call
  pqxx::transaction_base& transaction();

  /// Which delivery of the message this is, starting at 1.
  std::int32_t attempt() const noexcept;
  /// The batch the message came in.
  BatchId batch() const noexcept;
  /// True once `stop()` was called: a long handler may want to end early, by throwing.
  bool stop_requested() const noexcept;

  /// @cond
  explicit Context(detail::ContextState& state) noexcept : state_{state} {}
  /// @endcond
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  detail::ContextState& state_;
};

/// Receives the batches of one queue for one consumer, calls a handler per message by its type, and acknowledges.
///
/// **Guarantees.** Every message is handled at least once: a batch is acknowledged only after every message was
/// handled, nacked or acknowledged by policy, and after every nack succeeded. Whatever goes wrong before that, the
/// whole batch is delivered again. In `per_batch` mode the handlers' own writes happen exactly once. Order is that of
/// event ids within a batch, with retried messages coming later.
///
/// **Waking.** It LISTENs for PgQue's tick notifications and polls every `poll_interval` beside them. After a batch,
/// and across empty tick windows, it asks again at once.
///
/// **Thread safety.** `stop()` and `stats()` from any thread, `stop()` also from handlers and signal handlers. The
/// rest from one thread, and `on()` not while the consumer runs.
class PGQUE_EXPORT Consumer {
 public:
  /// Checks the options; connects only in `start()`.
  /// @throws std::invalid_argument naming the option
  Consumer(std::string_view dsn, ConsumerOptions options);

  /// A moved-from consumer can be destroyed; every other call but `stop()` throws `std::logic_error`.
  Consumer(Consumer&&) noexcept;
  Consumer& operator=(Consumer&&) = delete;
  /// Stops the consumer if it runs and waits until `start()` has returned, unless called from one of its handlers.
  ~Consumer();

  /// Registers the handler for a type, or with "*" for every type that has none, NULL included. It is called as
  /// `handler(const Message&)` or `handler(const Message&, Context&)`; it fails by throwing, whatever it throws.
  /// A later handler for the same type replaces the earlier one.
  /// @throws std::invalid_argument if the handler is an empty std::function or a null pointer
  /// @throws std::logic_error while the consumer runs
  template <class Handler>
  Consumer& on(std::string type, Handler handler) {
    if (is_empty(handler)) return add(std::move(type), {});
    if constexpr (std::is_invocable_v<Handler&, const Message&, Context&>) {
      return add(std::move(type), std::move(handler));
    } else {
      static_assert(std::is_invocable_v<Handler&, const Message&>,
                    "a handler takes (const Message&) or (const Message&, Context&)");
      return add(std::move(type),
                 [handler = std::move(handler)](const Message& message, Context&) mutable { handler(message); });
    }
  }

  /// Registers a handler for the decoded payload: `handler(const T&)` or `handler(const T&, Context&)`. A payload that
  /// is not a `T` counts as a failure of the handler. Needs `pgque/json.hpp` or a `PayloadDecoder<T>` of your own.
  template <class T, class Handler>
  Consumer& on(std::string type, Handler handler) {
    static_assert(std::is_invocable_v<Handler&, const T&, Context&> || std::is_invocable_v<Handler&, const T&>,
                  "a handler takes (const T&) or (const T&, Context&)");
    if (is_empty(handler)) return add(std::move(type), {});
    return add(std::move(type), [handler = std::move(handler)](const Message& message, Context& context) mutable {
      const T value = PayloadDecoder<T>::decode(message);
      if constexpr (std::is_invocable_v<Handler&, const T&, Context&>) {
        handler(value, context);
      } else {
        static_cast<void>(context);
        handler(value);
      }
    });
  }

  /// Runs until `stop()`: connects, listens, and handles what arrives. The first connection must succeed; later ones
  /// are tried again with growing pauses. Can be called again after it returned.
  /// @throws ConnectionError if the first connection fails
  /// @throws Error for what `on_error` decides to stop at, and whatever `on_error` itself throws
  /// @throws std::logic_error if it runs already
  /// @throws std::system_error, std::bad_alloc when out of threads, file descriptors or memory; the batch comes again
  /// SQL: `LISTEN`, `pgque.receive` or `pgque.receive_coop`, `pgque.next_batch`, `pgque.nack`, `pgque.ack`,
  /// `pgque.touch_subconsumer`
  void start();

  /// Makes `start()` return: at once when it waits; after the current batch, but at most `drain_timeout`, when it
  /// handles one; and at once after the running handlers when called a second time. Before `start()` it makes the
  /// next `start()` return immediately. Async-signal-safe.
  void stop() noexcept;

  /// A snapshot of the counters.
  ConsumerStats stats() const;

 private:
  friend struct detail::Access;
  template <class Handler>
  static bool is_empty(const Handler& handler) noexcept {
    if constexpr (std::is_assignable_v<Handler&, std::nullptr_t>) return handler == nullptr;
    return false;
  }
  Consumer& add(std::string type, std::function<void(const Message&, Context&)> handler);

  std::shared_ptr<detail::ConsumerImpl> impl_;
};

}  // namespace pgque
