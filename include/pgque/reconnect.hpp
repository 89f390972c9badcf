#pragma once

/// @file
/// What consumers, tickers and buffered producers do after a failure.

#include <chrono>

namespace pgque {

/// What to do about an error that a retry cannot fix.
enum class ErrorAction {
  stop,   ///< `start()` throws the error
  retry,  ///< pause as after any other error and try again
};

/// Pauses after failures: capped exponential growth with jitter. The n-th pause in a row is drawn evenly from [d/2, d]
/// with d = min(initial * 2^(n-1), maximum); after a success the next pause is `initial` again.
struct ReconnectOptions {
  /// The first pause. Default 100 ms; 1 ms to `maximum`.
  std::chrono::milliseconds initial{100};
  /// The longest pause. Default 30 s; `initial` to 30 days.
  std::chrono::milliseconds maximum{30'000};
};

}  // namespace pgque
