#pragma once

/// @file
/// What a consumer's handler may use beside the message.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>

#include <pgque/export.hpp>
#include <pgque/message.hpp>
#include <pgque/payload.hpp>

namespace pqxx {
class dbtransaction;
class transaction_base;
}  // namespace pqxx

namespace pgque {

namespace detail {
class HandlerCall;
}

/// What a handler can use while it runs. Valid only during the call. A use of `transaction()` or `on_ack()` in a
/// callback of `on_ack()`, or on another thread, throws `std::logic_error`. Do not keep it: a use while a later handler
/// runs on the same thread cannot be told from that handler's own.
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

  /// Registers writes that commit together with the ack, in every mode: the callback runs in the transaction that nacks
  /// and acks, so what it writes is committed exactly once, together with the ack, or not at all. No transaction need
  /// be open while the handler runs.
  ///
  /// The callbacks run on the thread of `start()`, in the order of the messages, before nacks and ack: in `split` mode
  /// when all messages of the batch have been handled, in `per_batch` mode at the end of each page. Those of one call
  /// of a handler share a savepoint. If one of them throws, the message is a failure, with what the exception says as
  /// the reason: what they wrote is undone, and what those of other messages wrote is kept. In a handler of
  /// `on_batch()`, all messages of the call fail that it has not named itself. `RetryAfter`, `GiveUp` and `NotNow`
  /// mean what they mean in a handler. What the handler itself has written in `per_batch` mode is undone, too: the
  /// batch is then handled again, without this message. If the ack finds the batch finished or taken over, everything
  /// is rolled back. If the handler itself throws after this, its callbacks never run.
  ///
  /// A callback may be called again, as after a deadlock or a lost connection; what the earlier call wrote has been
  /// rolled back then. After ten interruptions of that kind it is a failure. It must capture what it needs by value,
  /// also of the message, which is not there any more when the callback runs. What it captures is held until the batch
  /// is acknowledged, and so are copies of the call's messages (`ConsumerStats::deferred`); `max_messages` does not
  /// limit that, but only how many messages are read at a time.
  ///
  /// The callback may send events with `pgque::Transaction{transaction}`. It must neither commit nor roll back, and
  /// must not use this context.
  /// @throws std::invalid_argument if the callback is empty
  /// @throws std::logic_error on another thread than the handler's, and after the handler has returned
  /// SQL: `SAVEPOINT`, once for the callbacks of a call
  void on_ack(std::function<void(pqxx::transaction_base&)> callback);

  /// Sends an event that commits together with the ack, exactly once or not at all, in every mode: at once in
  /// `transaction()` where there is one (`per_batch`), otherwise as by `on_ack()`. Bad arguments throw at once. What
  /// the server refuses, such as an unknown queue, throws here in `per_batch` mode, and otherwise makes the message
  /// fail when the batch is acknowledged. `ConsumerOptions::on_send` sees the event first. Needs `pgque_writer`.
  /// @throws std::invalid_argument as `Client::send()`
  /// @throws std::logic_error on another thread than the handler's, and after the handler has returned
  /// @throws QueueNotFound
  /// @throws ConnectionError
  /// SQL: as `Client::send()`
  void send(std::string_view queue, Event event);
  /// The same for a payload and its type.
  void send(std::string_view queue, Payload payload, std::string_view type = "default");
  /// @cond
  // For a payload that is none: see detail::require_payload().
  template <class T, std::enable_if_t<detail::is_no_payload<T&&>(), int> = 0>
  void send(std::string_view, T&&, std::string_view = "default") {
    detail::require_payload<T&&>();
  }
  /// @endcond

  /// How many messages this call is for: one, or those of a handler of `Consumer::on_batch`.
  std::size_t message_count() const noexcept;
  /// The messages of this call, in order.
  /// @throws std::out_of_range
  const Message& message(std::size_t index = 0) const;

  /// Which delivery of the message this is, starting at 1. Where there are several messages, of the first one.
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

 protected:
  /// @cond
  detail::HandlerCall& call() const noexcept { return call_; }
  /// @endcond

 private:
  detail::HandlerCall& call_;
};

/// What a handler of `Consumer::on_batch` can use while it runs. `Context` says what is common to both kinds of
/// handler. `transaction()` has one savepoint for the whole call.
///
/// **Thread safety.** Use it only on the thread of the call.
class PGQUE_EXPORT BatchContext final : public Context {
 public:
  /// Makes one message a failure: it is nacked with this reason and comes again after the consumer's `retry_after` or
  /// `retry_delay`. All messages that are not named here, in `retry()` or in `give_up()` count as handled. What the
  /// handler has written for the message is not undone. A later call for the same message takes the place of an earlier
  /// one.
  /// @param message one of this call's, or a copy of it
  /// @param reason stored with the dead letter if this was the last attempt, at most 4000 bytes of it
  /// @throws std::invalid_argument if the message is not one of this call's
  /// @throws std::logic_error on another thread than the handler's, and after the handler has returned
  void fail(const Message& message, std::string reason);
  /// The same, with the shortest time until the next delivery: 0 to 2147483647 s.
  /// @throws std::invalid_argument if the message is not one of this call's, or `retry_after` is out of range
  /// @throws std::logic_error on another thread than the handler's, and after the handler has returned
  void retry(const Message& message, std::chrono::seconds retry_after, std::string reason);

  /// Makes one message a dead letter at once, as `GiveUp` does.
  /// @throws std::invalid_argument if the message is not one of this call's
  /// @throws std::logic_error on another thread than the handler's, and after the handler has returned
  void give_up(const Message& message, std::string reason);

  /// @cond
  using Context::Context;
  /// @endcond
};

}  // namespace pgque
