#pragma once

/// @file
/// A producer that batches by itself: many threads send, one connection stores.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <string_view>

#include <pgque/export.hpp>
#include <pgque/log.hpp>
#include <pgque/message.hpp>
#include <pgque/payload.hpp>
#include <pgque/reconnect.hpp>

namespace pgque {

namespace detail {
class ProducerLoop;
}

/// How a buffered producer works. Wrong values make the constructor throw `std::invalid_argument`.
struct BufferedProducerOptions {
  /// Most events in one batch. Default 1000; at least 1.
  std::size_t batch_messages = 1'000;
  /// Most bytes of payload in one batch; a single larger payload is a batch by itself. Default 1 MiB; at least 1.
  std::size_t batch_bytes = std::size_t{1} << 20;
  /// How long an event waits for others before its batch is sent although it is not full. Default 5 ms; 0 sends as
  /// soon as the connection is free. At most 30 days. Nothing waits for others while the buffer is full.
  std::chrono::milliseconds linger{5};
  /// Most events in the buffer, those being sent included. Default 100,000; at least 1.
  std::size_t buffer_messages = 100'000;
  /// Most bytes of payload in the buffer, those being sent included. Default 64 MiB; at least 1.
  std::size_t buffer_bytes = std::size_t{64} << 20;
  /// How long `send()` waits for room when the buffer is full. Default 60 s; 0 fails at once. At most 30 days.
  std::chrono::milliseconds block_timeout{60'000};
  /// How long an event may wait to be sent, from `send()` on; then it fails, and is certainly not stored. The same
  /// time is granted to each batch once it is being sent; then the connection is given up, and the batch fails.
  /// Default 2 min; 1 ms to 30 days. Futures may get ready later by a tenth of it, and by twice `connect_timeout`.
  std::chrono::milliseconds delivery_timeout{120'000};
  /// How long `close()` and the destructor go on sending what is in the buffer. Default 25 s; 0 gives it up at once.
  /// At most 30 days.
  std::chrono::milliseconds drain_timeout{25'000};
  /// Pauses before each attempt to replace a lost connection. Default: 100 ms, growing to 30 s.
  ReconnectOptions reconnect{};
  /// Log lines and events. Default: warnings and errors to standard error. It is called by the thread that sends, so
  /// it must not wait for this producer: neither for `send()` with a full buffer nor in `flush()`.
  LogSink log{};
  /// How long connecting to one host may take, as in `ClientOptions`, and then the first statement. Default 10 s; 0
  /// waits as long as the operating system does, and for the statement `delivery_timeout`; at most 30 days.
  std::chrono::seconds connect_timeout{10};
  /// Set to true if the DSN points to a connection pooler in transaction mode, as in `ClientOptions`. Nothing is then
  /// prepared or set for the session. Default false.
  bool pooled = false;
};

/// What a buffered producer is doing.
enum class ProducerState {
  waiting,      ///< connected; no batch is due
  sending,      ///< a batch is on its way
  connecting,   ///< replacing a lost connection
  backing_off,  ///< pausing before it does
  closed,       ///< `close()` is done
};

/// The name of the state, such as "waiting".
PGQUE_EXPORT std::string_view to_string(ProducerState state) noexcept;

/// Counters since the producer was made. Every event that `send()` took is `buffered`, `sent` or `failed`.
struct BufferedProducerStats {
  ProducerState state = ProducerState::waiting;  ///< what it is doing now
  std::uint64_t buffered = 0;                    ///< events taken whose outcome is open
  std::uint64_t buffered_bytes = 0;              ///< bytes of their payloads
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
/// **Batches.** Events of one queue and type are gathered into a batch, one call of `send_batch` in a transaction of
/// its own, until there are `batch_messages` or `batch_bytes` of them, the first has waited for `linger`, or the buffer
/// is full. The batches of one queue and type are stored one after another, so these events keep the order in which
/// they were sent, as far as one thread sent them. Between different queues or types there is no order.
///
/// **What is known at once is thrown, what is found out later is in the future.** `send()` throws what `Client::send`
/// would throw before sending anything, and when the buffer is full. The future becomes ready exactly once, also when
/// the producer is closed or destroyed, with the event's id or with the error of its batch:
///
/// | what happened to the batch | its events | error |
/// |---|---|---|
/// | committed | stored, once | none: the ids |
/// | refused by the server, such as for one malformed JSON text or a missing queue | none is stored | the server's |
/// | connection lost before the commit | kept, and sent again over a new connection | none yet |
/// | connection lost during the commit | all stored or none | `ConnectionError`, `outcome_unknown()` |
/// | not sent within `delivery_timeout`, or before `close()` ended | not stored | `Error`, `retryable()` |
///
/// So each event is stored at most once for each call of `send()`: what may have been stored is never sent again. A
/// refused batch fails as a whole, the good events in it included, and no other batch does; since none of them was
/// stored, they may be sent again without the bad one. What nlohmann_json makes and `pgque::text()` cannot be
/// malformed.
///
/// **Not transactional.** An event is stored some time after `send()` returned, or not: if the process dies first, what
/// is in the buffer is gone. To store events together with rows of yours, use `Transaction`.
///
/// **Thread safety.** Everything from any thread, except moving and destruction. `send()` takes one short lock, and
/// wakes the sending thread only when the buffer was empty and for each batch that is full. It does not survive
/// `fork()`: make one in the child, and let the child neither use nor destroy the parent's.
class PGQUE_EXPORT BufferedProducer {
 public:
  /// Connects, as `Client` does, and starts to work. Needs `pgque_writer`.
  /// @throws std::invalid_argument naming the option
  /// @throws ConnectionError if the DSN is malformed, or the server does not take the connection or falls silent
  explicit BufferedProducer(std::string_view dsn, BufferedProducerOptions options = {});

  /// A moved-from producer can be destroyed and closed; every other use throws `std::logic_error`.
  BufferedProducer(BufferedProducer&&) noexcept;
  BufferedProducer& operator=(BufferedProducer&&) = delete;
  /// Like `close()`. Not to be called from the log sink.
  ~BufferedProducer();

  /// Takes one event to be stored. Returns at once, unless the buffer is full. The future's destructor does not wait:
  /// it may be dropped, and then a failure is only in the log and in `stats()`.
  /// @param payload see `Payload`
  /// @param type what consumers dispatch on; an empty one means "default"
  /// @throws std::invalid_argument naming the argument: as `Client::send`, or a payload larger than `buffer_bytes`
  /// @throws Error whose `retryable()` is true if there was no room in the buffer within `block_timeout`
  /// @throws std::logic_error if the producer is closed, also while waiting for room
  /// SQL: `pgque.send_batch(text, text, jsonb[])` or `pgque.send_batch(text, text, text[])`
  std::future<EventId> send(std::string_view queue, Payload payload, std::string_view type = "default");
  /// The same for an `Event`; throws the same.
  std::future<EventId> send(std::string_view queue, Event event);

  /// Sends what is in the buffer without lingering, and waits until the outcome of every event taken before this call
  /// is known; their futures tell it.
  /// @return false if the time was over first; sending goes on all the same
  /// @throws std::invalid_argument if `timeout` is negative or above 30 days
  bool flush(std::chrono::milliseconds timeout);

  /// Takes no more events, sends what is in the buffer for `drain_timeout` at most, and gives up the rest: their
  /// futures fail, and the log says how many they are. Threads that wait for room throw. A batch that is being sent
  /// when the time is over is given up, too, with the connection, its outcome perhaps unknown; an attempt to connect
  /// is waited for. Closing again, also at the same time, waits for the same and returns the same. From the log sink it
  /// does not wait, and returns false.
  /// @return true if all that was in the buffer when it was called was sent, or refused, within the time
  bool close() noexcept;

  /// A snapshot of the counters.
  BufferedProducerStats stats() const;

 private:
  std::unique_ptr<detail::ProducerLoop> loop_;
};

}  // namespace pgque
