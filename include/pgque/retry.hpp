#pragma once

/// @file
/// When a failed message is delivered again.

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

}  // namespace pgque
