#pragma once

/// @file
/// A producer that batches by itself: many threads send events, and one connection stores them.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include <pgque/dsn.hpp>
#include <pgque/export.hpp>
#include <pgque/log.hpp>
#include <pgque/message.hpp>
#include <pgque/on_send.hpp>
#include <pgque/payload.hpp>
#include <pgque/reconnect.hpp>

namespace pgque {

namespace detail {
class ProducerLoop;
}

/// How a buffered producer works. Wrong values make the constructor throw `std::invalid_argument`.
struct BufferedProducerOptions {
  /// Most events in one batch. Default 1000; at least 1. No batch has more than 16 Mi.
  std::size_t batch_messages = 1'000;
  /// Most bytes of payloads, and of keys, headers and their types in one batch; a single larger event is a batch by
  /// itself. Default 1 MiB; 1 to 512 MiB. PostgreSQL takes less than 1 GiB in one message, and closes the connection if
  /// there is more.
  std::size_t batch_bytes = std::size_t{1} << 20;
  /// How long an event waits for others to fill its batch. Default 5 ms; 0 sends as soon as the connection is free. At
  /// most 30 days. While the buffer is full, no event waits for others.
  std::chrono::milliseconds linger{5};
  /// Most events in the buffer, including those being sent. Default 100,000; at least 1.
  std::size_t buffer_messages = 100'000;
  /// Most bytes of payloads, and of keys, headers and their types in the buffer, including those being sent. Default 64
  /// MiB; at least 1.
  std::size_t buffer_bytes = std::size_t{64} << 20;
  /// How long `send()` waits for room when the buffer is full. Default 60 s; 0 fails at once. At most 30 days.
  std::chrono::milliseconds block_timeout{60'000};
  /// How long an event may wait after `send()` until its batch is sent. After that the event fails and is certainly not
  /// stored. Sending a batch may take the same time again; after that the connection is closed, and the batch fails.
  /// Default 2 min; 1 ms to 30 days. Futures may become ready later than that, by a tenth of it and twice
  /// `connect_timeout`.
  std::chrono::milliseconds delivery_timeout{120'000};
  /// How long `close()` and the destructor go on sending what is in the buffer. Default 25 s; 0 discards it at once. At
  /// most 30 days.
  std::chrono::milliseconds drain_timeout{25'000};
  /// Pauses before each attempt to replace a lost connection. Default: 100 ms, growing to 30 s.
  ReconnectOptions reconnect{};
  /// Log lines and events. Default: warnings and errors to standard error. It is called by the thread that sends, so it
  /// must not wait for this producer, neither in `send()` while the buffer is full nor in `flush()`.
  LogSink log{};
  /// How long connecting to one host may take, as in `ClientOptions`, and how long the first statement may take after
  /// that. Default 10 s; at most 30 days. With 0, connecting takes as long as the operating system allows, and the
  /// statement may take `delivery_timeout`.
  std::chrono::seconds connect_timeout{10};
  /// Set to true if the DSN points to a connection pooler in transaction mode, as in `ClientOptions`. Then nothing is
  /// prepared or set for the session. Default false.
  bool pooled = false;
  /// Called with each event in `send()`, on the caller's thread and so perhaps on several at once, before the event is
  /// checked and buffered; see `OnSend`. Default: none. `chain()` makes one of several.
  OnSend on_send{};
};

/// What a buffered producer is doing.
enum class ProducerState {
  waiting,      ///< connected; no batch is due
  sending,      ///< a batch is on its way
  connecting,   ///< replacing a lost connection
  backing_off,  ///< pausing before the next attempt to connect
  closed,       ///< `close()` has finished
};

/// The name of the state, such as "waiting".
PGQUE_EXPORT std::string_view to_string(ProducerState state) noexcept;

/// Counters since the producer was made. Every event that `send()` accepted is `buffered`, `sent` or `failed`.
struct BufferedProducerStats {
  ProducerState state = ProducerState::waiting;  ///< what it is doing now
  std::uint64_t buffered = 0;                    ///< events whose outcome is not known yet
  std::uint64_t buffered_bytes = 0;              ///< bytes of their payloads, and of keys, headers and their types
  std::uint64_t sent = 0;                        ///< events stored for certain
  std::uint64_t failed = 0;                      ///< events whose futures have an error
  std::uint64_t unknown = 0;                     ///< those of `failed` whose outcome is unknown
  std::uint64_t batches = 0;                     ///< batches stored
  std::uint64_t reconnects = 0;                  ///< connections made after the first
  std::string last_error{};                      ///< what() of the latest error; empty if there was none
};

/// Takes single events from any number of threads and stores them in batches over one connection.
///
/// ```cpp
/// pgque::BufferedProducer producer{dsn};
/// std::future<pgque::EventId> id = producer.send("orders", json{{"order_id", 42}}, "order.created");  // at once
/// producer.flush(5s);                             // or id.get(), or neither: the destructor sends what is left
/// ```
///
/// **Batches.** Events of the same queue and type are collected into a batch until there are `batch_messages` or
/// `batch_bytes` of them, the first has waited for `linger`, or the buffer is full. Each batch is one call of
/// `send_batch` in a separate transaction. The batches of one queue and type are stored one after another, so the
/// events of one thread keep the order in which it sent them. Events of different queues or types have no order.
///
/// **Keys and headers.** Events that have some share a batch with those of other types of their queue. As long as there
/// are events of a queue and type in the buffer, others of the same join them, with or without keys and headers, so the
/// order above holds for both kinds together.
///
/// **Exceptions and futures.** `send()` throws what is known at once: for wrong arguments, as `Client::send` does, and
/// if the buffer is full. The future reports what is found out later. The future becomes ready exactly once, also when
/// the producer is closed or destroyed, with the event's id or with the error of its batch:
///
/// | what happened to the batch | its events | error |
/// |---|---|---|
/// | committed | stored, once | none: the ids |
/// | refused by the server, for example for malformed JSON or a missing queue | none is stored | the server's |
/// | connection lost before the commit | kept, and sent again over a new connection | none yet |
/// | connection lost during the commit | all stored or none | `ConnectionError`, `outcome_unknown()` |
/// | no memory to send it | not stored | `Error`, `retryable()` |
/// | no memory during the commit | all stored or none | `Error`, `outcome_unknown()` |
/// | not sent within `delivery_timeout`, or before `close()` ended | not stored | `Error`, `retryable()` |
///
/// So each call of `send()` stores its event at most once: an event that may have been stored is never sent again. A
/// refused batch fails as a whole, including the good events in it; other batches are not affected. None of its events
/// was stored, so the good ones may be sent again without the bad one. Payloads made by nlohmann_json or
/// `pgque::text()` are never malformed.
///
/// **Not transactional.** An event is stored some time after `send()` has returned. If the process dies first, the
/// events in the buffer are lost. To store events together with other rows, use `Transaction`.
///
/// **Thread safety.** All functions may be called from any thread at any time, except moving and destruction. `send()`
/// takes one short lock, and wakes the sending thread only if the buffer was empty or a batch is full.
///
/// **After `fork()`** a child process must make a new producer. With the parent's, every call throws
/// `std::logic_error`, but `close()` does nothing and returns false. Futures from before never become ready there. The
/// destructor leaves the parent's thread and connection alone; the parent sends what is in the buffer.
class PGQUE_EXPORT BufferedProducer {
 public:
  /// Connects, as `Client` does, and starts the sending thread. Needs `pgque_writer`.
  /// @throws std::invalid_argument naming the option
  /// @throws ConnectionError if the DSN is malformed, or the server refuses the connection or does not answer
  explicit BufferedProducer(Dsn dsn, BufferedProducerOptions options = {});

  /// A moved-from producer can be destroyed and closed; every other use throws `std::logic_error`.
  BufferedProducer(BufferedProducer&&) noexcept;
  BufferedProducer& operator=(BufferedProducer&&) = delete;
  /// Like `close()`. Must not be called from the log sink.
  ~BufferedProducer();

  /// Takes one event to be stored. Returns at once, unless the buffer is full. The future may be discarded, because its
  /// destructor does not wait; a failure is then reported only in the log and in `stats()`.
  /// @param payload see `Payload`
  /// @param type what consumers dispatch on; an empty one means "default"
  /// @throws std::invalid_argument naming the argument: as `Client::send`, or an event larger than `buffer_bytes` or
  ///   than 512 MiB, which the largest batch holds
  /// @throws Error whose `retryable()` is true if there was no room in the buffer within `block_timeout`
  /// @throws std::logic_error if the producer is closed, also while waiting for room
  /// SQL: `pgque.send_batch(text, text, jsonb[])` or `pgque.send_batch(text, text, text[])`
  std::future<EventId> send(std::string_view queue, Payload payload, std::string_view type = "default");
  /// The same for an `Event`, which may have a key and headers; throws the same.
  /// SQL: as above; with a key or headers `pgque.insert_event(text, text, text, text, text, text, text)`
  std::future<EventId> send(std::string_view queue, Event event);
  /// The same for a received message, which is sent on as `Client::send` does; throws the same.
  template <class M, std::enable_if_t<std::is_base_of_v<Message, M>, int> = 0>
  std::future<EventId> send(std::string_view queue, const M& message) {
    return send(queue, Payload{message}, message.type ? std::string_view{*message.type} : std::string_view{});
  }

  /// @cond
  // For a payload that is none: see detail::require_payload().
  template <class T, std::enable_if_t<detail::is_no_payload<T&&>(), int> = 0>
  std::future<EventId> send(std::string_view, T&&, std::string_view = "default") {
    detail::require_payload<T&&>();
    return {};
  }
  /// @endcond

  /// Sends the events in the buffer without waiting for `linger`, and waits until the outcome of every event accepted
  /// before this call is known. Their futures hold it.
  /// @return false if the time was over first; sending continues nevertheless
  /// @throws std::invalid_argument if `timeout` is negative or above 30 days
  bool flush(std::chrono::milliseconds timeout);

  /// Accepts no more events, sends those in the buffer for at most `drain_timeout`, and gives up the rest: their
  /// futures fail, and the log says how many there were. A `send()` that waits for room throws. If a batch is still
  /// being sent when the time is over, the connection is closed, and the outcome of the batch may be unknown. An
  /// attempt to connect is waited for. A second call, even at the same time, waits for the same end and returns the
  /// same result. Called from the log sink, it does not wait and returns false.
  /// @return true if every event that was in the buffer was sent, or refused, within the time
  bool close() noexcept;

  /// A snapshot of the counters.
  BufferedProducerStats stats() const;

 private:
  std::unique_ptr<detail::ProducerLoop> loop_;
};

}  // namespace pgque
