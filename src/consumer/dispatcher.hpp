#pragma once

// Calls the handlers of messages and collects the outcomes.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <pgque/consumer_options.hpp>
#include <pgque/context.hpp>

#include "consumer/batch.hpp"
#include "consumer/claim.hpp"
#include "consumer/crash_guard.hpp"
#include "consumer/deferred_writes.hpp"
#include "consumer/failures.hpp"
#include "consumer/handler_attempt.hpp"
#include "consumer/handler_call.hpp"
#include "consumer/handler_savepoint.hpp"
#include "consumer/handlers.hpp"
#include "consumer/page_calls.hpp"
#include "consumer/watchdog.hpp"
#include "database/statement_guard.hpp"
#include "support/stopper.hpp"
#include "support/worker_pool.hpp"

namespace pgque::detail {

struct PageResult {
  bool interrupted = false;  // messages are left unhandled, after stop() or because the batch is lost
  std::uint64_t handled = 0;
  std::uint64_t failed = 0;
  std::uint64_t unknown = 0;
  std::vector<Retry> retries;
  std::vector<Deferred> deferred;         // in the order of the messages
  std::optional<Postponement> postponed;  // the longest; then messages may be unhandled
  std::exception_ptr error;               // why the batch's transaction cannot go on
  std::string last_failure;               // the reason of the latest message that failed
};

class Dispatcher {
 public:
  // All arguments must outlive the dispatcher. The crash guard and the watchdog may be null.
  Dispatcher(const ConsumerOptions& options, const Handlers& handlers, const Stopper& stopper, const Claim& claim,
             StatementGuard& guard, std::optional<HandlerSavepoint::Constraints>& constraints,
             CrashGuardFile* crash_guard, Watchdog* watchdog, Failures& failures);

  // Calls the handlers for one page, in order, or on several threads at once with order only within a key. Exceptions
  // of handlers become retries. Messages may be moved out of the page.
  PageResult handle(std::vector<Message>& page, Batch& batch);

 private:
  // What the handlers of one thread refer to.
  struct ThreadCalls {
    ThreadCalls(const Stopper& stopper, const Claim& claim, const OnSend& on_send) : call{stopper, claim, on_send} {}
    HandlerCall call;
    Context one{call};
    BatchContext many{call};
  };

  static void add(PageResult& result, PageResult&& one);
  void handle_in_order(const PageCalls& calls, Batch& batch, HandlerSavepoint& savepoint, PageResult& result);
  // Makes the calls from `begin` on that may be made at once: a suspect's alone, or all before the next suspect's.
  // Returns where they end.
  std::size_t handle_concurrently(const PageCalls& calls, std::size_t begin, HandlerSavepoint& savepoint,
                                  std::vector<PageResult>& results);
  // As handle_one(), under the guard.
  void handle_guarded(const PageCalls& calls, std::size_t number, HandlerSavepoint& savepoint, std::size_t thread,
                      PageResult& result);
  // `thread`: the number of the thread that calls the handler, below `concurrency`. Whether the handler returned.
  bool handle_one(const PageCall& call, std::size_t number, HandlerSavepoint& savepoint, std::size_t thread,
                  PageResult& result);
  void invoke(const PageCall& call, ThreadCalls& thread) const;
  // A handler that had returned has failed, because its writes could not be kept.
  void add_refused(const PageCalls& calls, HandlerSavepoint& savepoint, PageResult& result);
  void refuse(const PageCall& call, const HandlerSavepoint::Refused& refused, PageResult& result);
  // The messages of the call that the handler has named as failures, and all others.
  void fail_named(const PageCall& call, PageResult& result);
  void fail_rest(const PageCall& call, const CallFailure& failure, PageResult& result);
  void fail(const Message& message, const Verdict& verdict, PageResult& result);
  bool is_suspect(const PageCall& call) const {
    return crash_guard_ != nullptr && crash_guard_->suspects(call.first->msg_id);
  }
  bool may_begin(Stopper::Clock::time_point now) const noexcept;

  const ConsumerOptions& options_;
  const Handlers& handlers_;
  const Stopper& stopper_;
  const Claim& claim_;
  StatementGuard& guard_;
  std::optional<HandlerSavepoint::Constraints>& constraints_;
  CrashGuardFile* const crash_guard_;
  Watchdog* const watchdog_;
  Failures& failures_;
  std::vector<std::unique_ptr<ThreadCalls>> threads_;
  std::unique_ptr<WorkerPool> pool_;
  std::atomic<bool> postponed_{false};  // on this page
};

}  // namespace pgque::detail
