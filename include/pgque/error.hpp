#pragma once

/// @file
/// The errors this library throws. Wrong arguments are `std::invalid_argument`; using a closed client, a finished
/// transaction or a moved-from object is `std::logic_error`; everything that went wrong with the server or the
/// connection is a `pgque::Error`.

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include <pgque/export.hpp>

namespace pgque {

/// Something failed at the server or on the way there. `what()` contains the operation, the server's message, the
/// SQLSTATE and, where it helps, advice. It never contains a password or a payload.
///
/// **Thread safety.** Objects of this class and of those derived from it are immutable; any thread may copy and read
/// them.
class PGQUE_EXPORT Error : public std::runtime_error {
 public:
  /// The facts about a failure.
  struct Facts {
    std::string operation{};       ///< what was being done, such as `send (queue "orders")`
    std::string server_message{};  ///< the server's primary message; empty when no server spoke
    std::string sqlstate{};        ///< five characters; empty when there is none
    std::string advice{};          ///< what to do about it; may be empty
    bool retryable = false;        ///< see `Error::retryable()`
    bool outcome_unknown = false;  ///< see `Error::outcome_unknown()`
  };

  /// Makes an error, as the library does. Useful in tests of programs that handle errors.
  explicit Error(Facts facts);
  /// Copying never throws: copies share the facts.
  Error(const Error&) noexcept = default;
  /// The same.
  Error& operator=(const Error&) noexcept = default;
  ~Error() override;

  /// What was being done, such as `send (queue "orders")`.
  const std::string& operation() const noexcept;
  /// The server's primary message, unchanged; if connecting failed, the reason as far as it is known. Empty if the
  /// server reported nothing.
  const std::string& server_message() const noexcept;
  /// The SQLSTATE; empty when there is none. PgQue uses P0001 for nearly everything.
  const std::string& sqlstate() const noexcept;
  /// True if the same call may succeed later, and repeating it cannot do anything twice: the failed call had no effect.
  /// Examples are deadlocks, serialization failures, timeouts, a registration race and a refused connection.
  bool retryable() const noexcept;
  /// True if the connection was lost while the server may already have committed: the call may or may not have had
  /// its effect. Repeating a `send` can then store the event twice. False if the connection was known to be lost before
  /// the call, or was lost before anything was executed.
  bool outcome_unknown() const noexcept;

 private:
  std::shared_ptr<const Facts> facts_;
};

/// No connection could be made, or it was lost. A `Client` does not reconnect; make a new one. **Thread safety.** As
/// `Error`.
class PGQUE_EXPORT ConnectionError : public Error {
 public:
  using Error::Error;
  ~ConnectionError() override;
};

/// There is no such queue. **Thread safety.** As `Error`.
class PGQUE_EXPORT QueueNotFound : public Error {
 public:
  using Error::Error;
  ~QueueNotFound() override;
};

/// The consumer is not subscribed to the queue, or the queue does not exist: PgQue reports both with the same text.
/// **Thread safety.** As `Error`.
class PGQUE_EXPORT ConsumerNotFound : public Error {
 public:
  using Error::Error;
  ~ConsumerNotFound() override;
};

/// The batch is not open: it never was, it is finished, or another subconsumer has taken it over. **Thread safety.** As
/// `Error`.
class PGQUE_EXPORT BatchNotFound : public Error {
 public:
  using Error::Error;
  ~BatchNotFound() override;
};

/// The batch holds more messages than the limit given to `receive`. Nothing is lost: the batch stays open, so receive
/// it again with a larger limit or without one. Never ack it instead: that would skip messages that nothing has
/// handled. **Thread safety.** As `Error`.
class PGQUE_EXPORT BatchOverflow : public Error {
 public:
  /// Makes an error, as the library does. Useful in tests of programs that handle errors.
  BatchOverflow(Facts facts, std::int32_t limit);
  ~BatchOverflow() override;
  /// The limit that was too small.
  std::int32_t limit() const noexcept { return limit_; }

 private:
  std::int32_t limit_;
};

/// A message's payload is not what the reader asked for: SQL NULL, not JSON, or JSON of another shape.
/// **Thread safety.** As `Error`.
class PGQUE_EXPORT PayloadError : public Error {
 public:
  using Error::Error;
  ~PayloadError() override;
};

}  // namespace pgque
