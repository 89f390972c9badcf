#pragma once

// What handlers left to be written in the transaction that acknowledges their batch.

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include <pgque/consumer_options.hpp>

#include "consumer/batch.hpp"
#include "consumer/crash_guard.hpp"
#include "consumer/failures.hpp"
#include "consumer/handler_attempt.hpp"
#include "consumer/handler_savepoint.hpp"
#include "consumer/page_calls.hpp"
#include "consumer/watchdog.hpp"
#include "database/statement_guard.hpp"

namespace pgque::detail {

// The callbacks of one call of a handler. None are left once they have failed: then they are not run again.
struct Deferred {
  std::size_t call = 0;  // its number on the page
  std::shared_ptr<const CallMessages> of{};
  std::vector<OnAck> callbacks{};
  bool handler_wrote = false;  // in the batch's transaction, where that cannot be undone any more for itself
  int interrupted = 0;         // how often an error of the whole transaction came while they ran
};

// How they were run.
enum class Written {
  all,          // or the messages of those that failed are among the retries
  gone,         // the batch is not this consumer's any more
  interrupted,  // out of time
  postponed,
};

class DeferredWrites {
 public:
  // All of them must outlive it. The crash guard and the watchdog may be null.
  DeferredWrites(const Stopper& stopper, Failures& failures, StatementGuard& guard,
                 std::optional<HandlerSavepoint::Constraints>& constraints, CrashGuardFile* crash_guard,
                 Watchdog* watchdog) noexcept
      : stopper_{stopper},
        failures_{failures},
        guard_{guard},
        constraints_{constraints},
        crash_guard_{crash_guard},
        watchdog_{watchdog} {}

  // Runs the callbacks in the batch's transaction, in order, each call's in a savepoint. Throws Error if the
  // transaction cannot go on; retries that have been added are right also then.
  Written write(std::vector<Deferred>& all, Batch& batch, const Batch::InTime& in_time, std::vector<Retry>& retries);
  // If they are postponed.
  const Postponement& postponement() const noexcept { return postponement_; }

 private:
  Written write(std::vector<Deferred>& all, Batch& batch, HandlerSavepoint& savepoint, const Batch::InTime& in_time,
                std::vector<Retry>& retries);
  void fail(Deferred& one, const CallFailure& failure, std::vector<Retry>& retries);

  const Stopper& stopper_;
  Failures& failures_;
  StatementGuard& guard_;
  std::optional<HandlerSavepoint::Constraints>& constraints_;
  CrashGuardFile* const crash_guard_;
  Watchdog* const watchdog_;
  Postponement postponement_;
  Deferred* running_ = nullptr;  // whose callbacks run
};

}  // namespace pgque::detail
