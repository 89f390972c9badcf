#pragma once

// A call of the user's code, whose writes have a savepoint: it is repeated after a conflict, until it has succeeded or
// failed for good.

#include <chrono>
#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include <pgque/error.hpp>
#include <pgque/message.hpp>
#include <pgque/retry.hpp>

#include "consumer/failures.hpp"
#include "consumer/handler_failure.hpp"
#include "consumer/handler_savepoint.hpp"
#include "database/error_map.hpp"
#include "support/text.hpp"

namespace pgque::detail {

// NotNow was thrown.
struct Postponement {
  std::chrono::milliseconds delay{0};
  std::string reason{};
};

struct CallFailure {
  Verdict verdict;
  std::optional<Postponement> postponement{};  // then it is no failure, but the whole batch is left
};

// Calls call(). If it returns, its writes are to be kept under this number, and the result is empty; otherwise they are
// undone. It is repeated only as long as may_begin() says so. `message` is the one of the `messages` to be named, and
// `what` comes before an exception's text. Throws Error if the batch's transaction cannot go on.
template <class Call, class MayBegin>
std::optional<CallFailure> attempt(Failures& failures, HandlerSavepoint& savepoint, const Message& message,
                                   std::size_t messages, std::size_t number, const char* what, const Call& call,
                                   const MayBegin& may_begin) {
  for (int reruns = 0;; ++reruns) {
    std::optional<CallFailure> failed;
    std::exception_ptr in_the_way;
    try {
      call();
      failures.require_home();
      savepoint.keep(number);
      return std::nullopt;
    } catch (const NotNow& not_now) {
      failures.require_home();
      failed = CallFailure{{}, Postponement{not_now.delay(), sanitized(not_now.what(), longest_reason)}};
    } catch (const RetryAfter& retry) {
      failures.require_home();
      savepoint.require_sound();
      failed = CallFailure{{retry.what(), retry.delay()}};
    } catch (const GiveUp& give_up) {
      failures.require_home();
      savepoint.require_sound();
      failed = CallFailure{{give_up.what(), {}, true}};
    } catch (const std::exception& error) {
      failures.require_home();
      savepoint.require_sound();
      switch (after_handler_failure(sqlstate_of(error), savepoint.is_set(), reruns < most_reruns && may_begin())) {
        case HandlerFailure::nack:
          failed = CallFailure{{what + savepoint.text_of(error), {}, failures.gives_up(error, messages)}};
          break;
        case HandlerFailure::run_again:
          failures.runs_again(message, error);
          break;
        case HandlerFailure::leave_batch:
          in_the_way = failures.as_error(error, message);
      }
    } catch (...) {
      failures.require_home();
      savepoint.require_sound();
      failed = CallFailure{{std::string{what} + "an exception that is not a std::exception"}};
    }
    savepoint.discard(number);
    if (in_the_way) std::rethrow_exception(in_the_way);
    if (failed) return failed;
  }
}

// The writes of a call that had returned could not be kept. The next one may have run already, so this one is not
// repeated. Throws Error if the batch has to be left.
inline CallFailure after_refusal(const Failures& failures, const std::exception_ptr& refusal, const Message& message,
                                 const char* what) {
  try {
    std::rethrow_exception(refusal);
  } catch (const std::exception& error) {
    if (after_handler_failure(sqlstate_of(error), true, false) == HandlerFailure::leave_batch) {
      std::rethrow_exception(failures.as_error(error, message));
    }
    return {{std::string{what} + error.what()}};
  }
}

}  // namespace pgque::detail
