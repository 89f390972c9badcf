#pragma once

/// @file
/// When a message that was not handled is delivered again.

#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include <pgque/export.hpp>
#include <pgque/message.hpp>

namespace pgque {

/// Computes the delay before the next delivery of a message that failed. `attempt` is the delivery that failed,
/// starting at 1. May be called from several threads at once when `ConsumerOptions::concurrency` is above 1.
using RetryDelay = std::function<std::chrono::seconds(const Message& message, std::int32_t attempt)>;

/// Capped exponential growth with jitter: after the n-th attempt, evenly drawn from [d/2, d] with
/// d = min(initial * 2^(n-1), maximum), in whole seconds, as PgQue counts.
/// @throws std::invalid_argument unless 1 s <= initial <= maximum <= 2147483647 s
/// Thread safety: the returned function may be called from any thread.
PGQUE_EXPORT RetryDelay exponential_retry(std::chrono::seconds initial, std::chrono::seconds maximum);

/// A handler throws this to choose the delay after which the message is delivered again. It counts as a failure like
/// any other exception: PgQue's retry limit applies. **Thread safety.** Immutable; may be read from any thread.
class PGQUE_EXPORT RetryAfter : public std::runtime_error {
 public:
  /// @param delay 0 s to 2147483647 s
  /// @param reason stored with the dead letter if this was the last attempt
  /// @throws std::invalid_argument if the delay is out of range
  explicit RetryAfter(std::chrono::seconds delay, const std::string& reason = "retry requested");
  ~RetryAfter() override;

  /// The delay given to the constructor.
  std::chrono::seconds delay() const noexcept { return delay_; }

 private:
  std::chrono::seconds delay_;
};

/// A handler throws this when no retry can help: the message becomes a dead letter at once, with this reason, when its
/// batch is acknowledged. That needs the right to call `pgque.event_dead`, which `pgque_admin` has, or this grant
/// alone: `grant execute on function pgque.event_dead to ...`. Without it, the message is nacked with the reason, as
/// after any other exception, and a warning names the grant once (`LogEvent::give_up_refused`). What is given
/// up is held in memory until its batch is acknowledged, and what goes beyond 64 MiB of a batch is nacked. It counts as
/// a failure. Of the dead letter's columns, `ev_txid` is NULL.
/// **Thread safety.** Immutable; may be read from any thread.
class PGQUE_EXPORT GiveUp : public std::runtime_error {
 public:
  /// @param reason stored with the dead letter, at most 4000 bytes of it
  explicit GiveUp(const std::string& reason);
  ~GiveUp() override;
};

/// A handler throws this when the fault is not the message's: something that it needs is down. The whole batch is left
/// unacknowledged, uses up no retry, and is delivered again after the consumer has paused for `delay`; `stop()` and
/// `Consumer::resume()` end the pause. No further handler of the batch begins. In `per_batch` mode everything that the
/// handlers of the batch wrote in its transaction is rolled back; in `split` mode, messages that were handled before
/// come again. **Thread safety.** Immutable; may be read from any thread.
class PGQUE_EXPORT NotNow : public std::runtime_error {
 public:
  /// @param delay how long the consumer pauses: 0 ms to 30 days
  /// @param reason for the log
  /// @throws std::invalid_argument if the delay is out of range
  explicit NotNow(std::chrono::milliseconds delay, const std::string& reason = "the handler asked to wait");
  ~NotNow() override;

  /// The delay given to the constructor.
  std::chrono::milliseconds delay() const noexcept { return delay_; }

 private:
  std::chrono::milliseconds delay_;
};

}  // namespace pgque
