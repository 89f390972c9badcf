#pragma once

// What follows when a handler fails: no I/O.

#include <string_view>

namespace pgque::detail {

enum class HandlerFailure {
  nack,         // the message failed
  run_again,    // at once: another transaction was in the way
  leave_batch,  // the whole transaction is in the way, and so another one may succeed
};

// How often a handler is called again for one message.
inline constexpr int most_reruns = 3;

// `in_batch`: the handler used its batch's transaction. Otherwise the conflict was in a transaction of its own, which
// it makes anew when it is called again, and leaving the batch would not help.
inline HandlerFailure after_handler_failure(std::string_view sqlstate, bool in_batch, bool may_rerun) noexcept {
  const bool deadlock = sqlstate == "40P01";
  const bool conflict = deadlock || sqlstate == "40001";
  if (!conflict) return HandlerFailure::nack;
  // A serialization failure comes from the snapshot of the whole transaction.
  if (may_rerun && (deadlock || !in_batch)) return HandlerFailure::run_again;
  return in_batch ? HandlerFailure::leave_batch : HandlerFailure::nack;
}

}  // namespace pgque::detail
