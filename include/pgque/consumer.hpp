#pragma once

/// @file
/// The consumer: a loop that receives batches, calls handlers and acknowledges.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>
#if __cplusplus >= 202002L
#include <version>
#endif
#if defined(__cpp_lib_jthread)
#include <stop_token>
#endif

#include <pgque/consumer_options.hpp>
#include <pgque/context.hpp>
#include <pgque/dsn.hpp>
#include <pgque/export.hpp>
#include <pgque/message.hpp>
#include <pgque/payload.hpp>

namespace pgque {

namespace detail {

class ConsumerLoop;
struct Access;

// Whether it is a handler for a T, with or without the context.
template <class Handler, class T>
constexpr bool takes() {
  return std::is_invocable_v<Handler&, const T&, Context&> || std::is_invocable_v<Handler&, const T&>;
}
// A generic handler must not be asked about a type that it is not meant for.
template <class Handler, class T, class Other>
constexpr bool takes_instead() {
  if constexpr (takes<Handler, T>()) return false;
  return takes<Handler, Other>();
}

}  // namespace detail

/// What a consumer is doing.
enum class ConsumerState {
  idle,         ///< `start()` is not running
  connecting,   ///< making its connections
  receiving,    ///< asking for a batch
  handling,     ///< running handlers, or finishing the batch
  waiting,      ///< waiting for a notification, at most `poll_interval`
  backing_off,  ///< pausing after an error
  paused,       ///< between `pause()` and `resume()`, or after a handler threw `NotNow`
};

/// The state's name, such as "waiting".
PGQUE_EXPORT std::string_view to_string(ConsumerState state) noexcept;

/// Counters since the consumer was made.
struct ConsumerStats {
  std::uint64_t batches = 0;       ///< batches acknowledged
  std::uint64_t messages = 0;      ///< messages whose handler returned, redeliveries included
  std::uint64_t failures = 0;      ///< messages whose handler or `on_ack()` threw, or that the `CrashGuard` refused
  std::uint64_t unknown = 0;       ///< messages without a handler
  std::uint64_t retries = 0;       ///< messages nacked, in batches acknowledged; `dead_letters` are among them
  std::uint64_t dead_letters = 0;  ///< messages that became dead letters: after their last attempt, or by `GiveUp`
  std::uint64_t abandoned = 0;     ///< batches left for redelivery
  std::uint64_t postponed = 0;     ///< batches left for redelivery because a handler threw `NotNow`
  std::uint64_t stale_acks = 0;    ///< batches that were already finished when they were acknowledged
  std::uint64_t takeovers = 0;     ///< batches that this worker took over from another
  std::uint64_t lost = 0;          ///< batches that this worker lost: another took them over, or it was unregistered
  std::uint64_t stuck = 0;         ///< handlers that ran for longer than `handler_timeout`
  std::uint64_t reconnects = 0;    ///< connections made after the first
  std::uint64_t deferred = 0;      ///< callbacks of `Context::on_ack()` that wait now for their batch's ack
  ConsumerState state = ConsumerState::idle;  ///< what it is doing now
  std::string last_error{};  ///< the latest error's text, also of a handler that failed; empty if there was none
};

/// How a handler of `Consumer::on_batch` gets its messages.
struct OnBatchOptions {
  /// The most messages of one call. Default: all those of a page, which `ConsumerOptions::max_messages` limits. At
  /// least 1.
  std::optional<std::int32_t> chunk{};
};

/// Receives the batches of one queue for one consumer, calls the handler for each message's type, and acknowledges the
/// batches.
///
/// **Guarantees.** Every message is handled at least once: a batch is acknowledged only after every message was
/// handled, nacked or acknowledged by policy, and after every nack succeeded. If anything goes wrong before that, the
/// whole batch is delivered again. In `per_batch` mode, what handlers write through `Context::transaction()` is
/// committed exactly once, and in every mode what they defer by `Context::on_ack()`. Within a batch, messages come in
/// the order of their ids; a retried message comes again in a later batch.
///
/// **Waking.** The consumer LISTENs for PgQue's tick notifications, and also polls every `poll_interval`. After a batch
/// or an empty tick window it asks for the next one at once.
///
/// **Thread safety.** `stop()`, `stop_now()`, `pause()`, `resume()` and `stats()` may be called from any thread and
/// from handlers, the first two also from signal handlers. All other functions must be called from one thread, and
/// `on()` not while the consumer runs.
///
/// **After `fork()`** a child process must make a new consumer. With the parent's, `stop()` and `stop_now()` do
/// nothing, every other call throws `std::logic_error`, and the destructor leaves the parent's threads and connections
/// alone. If a handler calls `fork()`, the child must not return from the handler: `start()` would throw
/// `std::logic_error` there, and a concurrent consumer would call `std::terminate()`.
class PGQUE_EXPORT Consumer {
 public:
  /// Checks the options; connects only in `start()`.
  /// @throws std::invalid_argument naming the option
  Consumer(Dsn dsn, ConsumerOptions options);

  /// A moved-from consumer can be destroyed; every other call but `stop()` and `stop_now()` throws `std::logic_error`.
  Consumer(Consumer&&) noexcept;
  Consumer& operator=(Consumer&&) = delete;
  /// Stops the consumer if it runs and waits until `start()` has returned, unless called from one of its handlers.
  ~Consumer();

  /// Registers the handler for a type. A type that ends with `*` is a prefix: "order.*" stands for all types that begin
  /// with "order.", and "*" for all types, NULL included. A message goes to the handler of its exact type, otherwise to
  /// that of the longest prefix. The handler is called as `handler(const Message&)` or
  /// `handler(const Message&, Context&)`; any exception that it throws counts as a failure; `RetryAfter`, `GiveUp` and
  /// `NotNow` say what is to become of the message.
  /// @throws std::invalid_argument if the handler is an empty std::function or a null pointer, or if the type has a
  ///   handler already, by this function or by `on_batch()`
  /// @throws std::logic_error while the consumer runs
  template <class Handler>
  Consumer& on(const std::string& type, Handler handler) {
    if (is_empty(handler)) return add(type, {});
    if constexpr (std::is_invocable_v<Handler&, const Message&, Context&>) {
      return add(type, std::move(handler));
    } else {
      static_assert(std::is_invocable_v<Handler&, const Message&>,
                    "pgque: a handler of on() takes (const Message&) or (const Message&, Context&). For one that takes "
                    "(const T&), write on<T>().");
      return add(type, [handler = std::move(handler)](const Message& message, Context&) mutable { handler(message); });
    }
  }

  /// Registers a handler for the decoded payload: `handler(const T&)` or `handler(const T&, Context&)`. A payload that
  /// is not a `T` counts as a failure of the handler, or as `GiveUp` (see `ConsumerOptions::give_up_on_bad_payload`).
  /// Needs `pgque/json.hpp` or your own `PayloadDecoder<T>`.
  ///
  /// With `pgque/json.hpp` this is `payload_as<T>()`, which refuses numbers that a `T` cannot hold, but only where `T`
  /// is a number or consists of such by the standard's containers. A `from_json()` of yours is not checked: read by
  /// `json.at("id").get_to(id)` into a `std::int64_t`, 2^63 from Python becomes -2^63 (see `payload_as`).
  template <class T, class Handler>
  Consumer& on(const std::string& type, Handler handler) {
    constexpr bool fits = detail::takes<Handler, T>();
    constexpr bool takes_message = detail::takes_instead<Handler, T, Message>();
    static_assert(!takes_message,
                  "pgque: a handler of on<T>() takes (const T&) or (const T&, Context&). For one that takes "
                  "(const Message&), write on() without <T>; in a typed handler, context.message() is the message.");
    static_assert(fits || takes_message, "pgque: a handler of on<T>() takes (const T&) or (const T&, Context&).");
    static_assert(detail::has_decoder<T>,
                  "pgque: no T can be made of a payload. Include <pgque/json.hpp>, and for a type of yours write "
                  "from_json(const nlohmann::json&, T&), beside it and in its namespace, and give it a default "
                  "constructor. Or specialise pgque::PayloadDecoder.");
    if constexpr (fits && detail::has_decoder<T>) {
      if (is_empty(handler)) return add(type, {});
      return add(type, [handler = std::move(handler)](const Message& message, Context& context) mutable {
        const T value = PayloadDecoder<T>::decode(message);
        if constexpr (std::is_invocable_v<Handler&, const T&, Context&>) {
          handler(value, context);
        } else {
          static_cast<void>(context);
          handler(value);
        }
      });
    } else {
      return *this;
    }
  }

  /// Registers a handler for all messages of a type, or of a prefix, at once: those of one page (see
  /// `ConsumerOptions::max_messages`), in order, in one call. It is called as
  /// `handler(const std::vector<Message>&, BatchContext&)` or `handler(const std::vector<Message>&)`.
  ///
  /// If it throws, all of the messages are failures; `NotNow` leaves the whole batch. `BatchContext::fail()` and
  /// `retry()` name single messages; the rest counts as handled. With `concurrency`, calls of different handlers, and
  /// different chunks of one, run at once; `ConsumerOptions::key` has no meaning for them. Messages of other types that
  /// come between those of the call are handled before or after it.
  ///
  /// If the process ended during a call, its messages come one by one the next time, with a `CrashGuard`, so that it
  /// finds the one to blame.
  /// @throws std::invalid_argument if the handler is empty, if the type has a handler already, by this function or by
  ///   `on()`, or if `chunk` is below 1
  /// @throws std::logic_error while the consumer runs
  template <class Handler>
  Consumer& on_batch(const std::string& type, Handler handler, OnBatchOptions options = {}) {
    using Messages = const std::vector<Message>&;
    if (is_empty(handler)) return add_batch(type, {}, options);
    if constexpr (std::is_invocable_v<Handler&, Messages, BatchContext&>) {
      return add_batch(type, std::move(handler), options);
    } else {
      static_assert(std::is_invocable_v<Handler&, Messages>,
                    "a handler of a batch takes (const std::vector<Message>&) or (const std::vector<Message>&, "
                    "BatchContext&)");
      return add_batch(
          type, [handler = std::move(handler)](Messages messages, BatchContext&) mutable { handler(messages); },
          options);
    }
  }

  /// Runs until `stop()`: connects, listens, and handles what arrives. The first connection must succeed; later ones
  /// are retried with growing pauses. Can be called again after it returned.
  /// @throws ConnectionError if the first connection fails
  /// @throws Error if `on_error` decides to stop; an exception thrown by `on_error` itself is passed on
  /// @throws std::logic_error if it runs already, or if no handler is registered
  /// @throws std::system_error, std::bad_alloc when out of threads, file descriptors or memory; the batch is delivered
  ///   again
  /// SQL: `LISTEN`, `pgque.receive` or `pgque.receive_coop`, `pgque.next_batch`, `pgque.nack`, `pgque.event_retry`,
  /// `pgque.ack`, `pgque.touch_subconsumer`; it reads the tables `subscription`, `queue`, `consumer`, `retry_queue` and
  /// `dead_letter`. The role `pgque_reader` may do all of that.
  void start();

#if defined(__cpp_lib_jthread)
  /// The same, until `stop()` or until a stop is requested through the token; a request that came before makes it
  /// return immediately. The token has no effect on a later `start()`. In C++20, if the standard library has
  /// `std::stop_token`.
  void start(std::stop_token token) {
    start_within([&token](const std::function<void()>& stop, const std::function<void()>& run) {
      const std::stop_callback stop_on_request{std::move(token), [&stop] { stop(); }};
      run();
    });
  }
#endif

  /// Makes `start()` return. A consumer that waits returns at once. A consumer that handles a batch finishes it, but
  /// begins no handler after `drain_timeout`. So does a cooperative one with a batch that it was given and has not
  /// begun to handle, because nobody else may ever be given that. Further calls change nothing, so a handler may call
  /// it for each message. A call before `start()` makes the next `start()` return immediately. Async-signal-safe.
  void stop() noexcept;

  /// The same, but no further handler begins, also if `stop()` was called before. The batch comes again, unless all of
  /// its messages were handled, and what they deferred by `Context::on_ack()` is written within a quarter of a second.
  /// Async-signal-safe.
  void stop_now() noexcept;

  /// Makes the consumer finish the batch that it handles or has just opened, and then wait for `resume()`: it receives
  /// nothing and asks the server for nothing. It keeps its connections, and replaces lost ones. Before `start()`, it
  /// makes the consumer connect and then wait. Lasts until `resume()`, also over several calls of `start()`; pausing
  /// again changes nothing. May be called from any thread, and from handlers.
  /// @throws std::logic_error if the consumer was moved from
  void pause();
  /// Makes a paused consumer receive at once, also one that pauses because a handler threw `NotNow`. Otherwise it does
  /// nothing. May be called from any thread.
  /// @throws std::logic_error if the consumer was moved from
  void resume();

  /// A snapshot of the counters.
  ConsumerStats stats() const;

 private:
  friend struct detail::Access;
  template <class Handler>
  static bool is_empty(const Handler& handler) noexcept {
    if constexpr (std::is_assignable_v<Handler&, std::nullptr_t>) return handler == nullptr;
    return false;
  }
  Consumer& add(const std::string& type, std::function<void(const Message&, Context&)> handler);
  Consumer& add_batch(const std::string& type, std::function<void(const std::vector<Message>&, BatchContext&)> handler,
                      OnBatchOptions options);
  // Calls `within` around the run.
  void start_within(
      const std::function<void(const std::function<void()>& stop, const std::function<void()>& run)>& within);

  std::shared_ptr<detail::ConsumerLoop> loop_;
};

}  // namespace pgque
