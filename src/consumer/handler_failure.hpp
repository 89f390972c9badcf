#pragma once

// What follows when a handler that used its batch's transaction fails: no I/O.

#include <string_view>

namespace pgque::detail {

enum class HandlerFailure {
  nack,         // the message failed
  run_again,    // at once: another transaction was in the way
  leave_batch,  // the whole transaction is in the way, and so another one may succeed
};

// `reruns` is how often the handler has already been called again for this message.
inline HandlerFailure after_handler_failure(std::string_view sqlstate, int reruns) noexcept {
  constexpr int most_reruns = 3;
  if (sqlstate == "40P01" && reruns < most_reruns) return HandlerFailure::run_again;
  if (sqlstate == "40P01" || sqlstate == "40001") return HandlerFailure::leave_batch;
  return HandlerFailure::nack;
}

}  // namespace pgque::detail
