#pragma once

/// @file
/// What a consumer's handler may use beside the message.

#include <cstdint>

#include <pgque/export.hpp>
#include <pgque/message.hpp>

namespace pqxx {
class dbtransaction;
}

namespace pgque {

namespace detail {
struct HandlerCall;
}

/// What a handler can use while it runs. Valid only during the call.
///
/// **Thread safety.** Use it only on the thread of the call.
class PGQUE_EXPORT Context {
 public:
  /// The transaction that received this batch and will acknowledge it, with a savepoint for this handler: if the
  /// handler throws, only its own writes are rolled back. Rows written here, and events sent through
  /// `pgque::Transaction{context.transaction()}`, are committed exactly once, together with the ack. A handler that
  /// commits it or rolls it back fails; `pqxx::subtransaction` works in it. After a deadlock in it the handler is
  /// called again; after a serialization failure the whole batch is received again.
  ///
  /// Deferred constraints are checked when the handler has returned, at the latest before the next handler gets this
  /// transaction. A role that the handler sets ends with it. Other settings, `SET LOCAL` as well, and temporary tables
  /// with `ON COMMIT DROP` last until the end of the batch.
  /// @throws std::logic_error in `split` mode, where no transaction is open, and in a child process after `fork()`
  /// @throws ConnectionError
  /// SQL: `SAVEPOINT`, at the first call
  pqxx::dbtransaction& transaction();

  /// Which delivery of the message this is, starting at 1.
  std::int32_t attempt() const noexcept;
  /// The batch the message came in.
  BatchId batch() const noexcept;
  /// True once `stop()` or `stop_now()` was called, or once another worker has taken the batch over: a long handler may
  /// want to end early, by throwing. A worker learns of a takeover with its next heartbeat.
  bool stop_requested() const noexcept;

  /// @cond
  explicit Context(detail::HandlerCall& call) noexcept : call_{call} {}
  /// @endcond
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

 private:
  detail::HandlerCall& call_;
};

}  // namespace pgque
