#pragma once

// Calls the handlers of messages and collects the outcomes.

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <pgque/consumer_options.hpp>
#include <pgque/context.hpp>

#include "consumer/batch.hpp"
#include "consumer/claim.hpp"
#include "consumer/crash_guard.hpp"
#include "consumer/handler_savepoint.hpp"
#include "consumer/watchdog.hpp"
#include "database/statement_guard.hpp"
#include "support/logger.hpp"
#include "support/stopper.hpp"
#include "support/worker_pool.hpp"

namespace pgque::detail {

using Handler = std::function<void(const Message&, Context&)>;
using Handlers = std::unordered_map<std::string, Handler>;

// A handler threw NotNow.
struct Postponement {
  std::chrono::milliseconds delay{0};
  std::string reason{};
};

struct PageResult {
  bool interrupted = false;  // messages are left unhandled, after stop() or because the batch is lost
  std::uint64_t handled = 0;
  std::uint64_t failed = 0;
  std::uint64_t unknown = 0;
  std::vector<Retry> retries;
  std::optional<Postponement> postponed;  // the longest; then messages may be unhandled
  std::exception_ptr error;               // why the batch's transaction cannot go on
};

class Dispatcher {
 public:
  // All arguments must outlive the dispatcher. The crash guard and the watchdog may be null.
  Dispatcher(const ConsumerOptions& options, Handlers& handlers, const Stopper& stopper, const Claim& claim,
             StatementGuard& guard, CrashGuardFile* crash_guard, Watchdog* watchdog, Logger& logger);

  // Calls the handlers for one page, in order, or on several threads at once with order only within a key. Exceptions
  // of handlers become retries.
  PageResult handle(const std::vector<Message>& page, Batch& batch);
  // After an error: deferrable constraints that are new may be the reason.
  void forget_constraints() noexcept { constraints_.reset(); }

 private:
  enum class Verdict { handled, failed, unknown, interrupted, postponed };
  struct Outcome {
    Verdict verdict = Verdict::interrupted;
    std::optional<Retry> retry{};
    std::optional<Postponement> postponement{};
  };

  static void add(PageResult& result, Outcome outcome);
  const Handler* handler_for(const Message& message) const;
  // As handle_one(), under the guard.
  Outcome handle_guarded(const Message& message, HandlerSavepoint& savepoint, std::size_t thread);
  // `thread`: the number of the thread that calls the handler, below `concurrency`.
  Outcome handle_one(const Message& message, HandlerSavepoint& savepoint, std::size_t thread);
  void handle_in_order(const std::vector<Message>& page, Batch& batch, HandlerSavepoint& savepoint, PageResult& result);
  // A handler that had returned has failed, because its writes could not be kept.
  void add_refused(PageResult& result, HandlerSavepoint& savepoint);
  Outcome after_refusal(const HandlerSavepoint::Refused& refused);
  // Handles the messages from `begin` on that may be handled at once: a suspect alone, or all before the next suspect.
  // Returns where they end.
  std::size_t handle_concurrently(const std::vector<Message>& page, std::size_t begin, HandlerSavepoint& savepoint,
                                  std::vector<Outcome>& outcomes);
  bool is_suspect(const Message& message) const {
    return crash_guard_ != nullptr && crash_guard_->suspects(message.msg_id);
  }
  std::exception_ptr as_error(const std::exception& error, const Message& message) const;
  Outcome failure(const Message& message, std::string_view reason, std::optional<std::chrono::seconds> delay);
  Outcome unknown_type(const Message& message);
  std::chrono::seconds retry_delay(const Message& message);
  // Throws std::logic_error when a handler returns in a child process that it made: nothing may go on there.
  void require_home() const;
  bool may_begin(Stopper::Clock::time_point now) const noexcept;
  static LogRecord record(LogLevel level, LogEvent event, std::string_view text, const Message& message);

  const ConsumerOptions& options_;
  Handlers& handlers_;
  const Stopper& stopper_;
  const Claim& claim_;
  StatementGuard& guard_;
  CrashGuardFile* const crash_guard_;
  Watchdog* const watchdog_;
  Logger& logger_;
  std::optional<HandlerSavepoint::Constraints> constraints_;  // as they were when they were asked for
  std::unique_ptr<WorkerPool> pool_;
  std::atomic<bool> postponed_{false};  // on this page
};

}  // namespace pgque::detail
