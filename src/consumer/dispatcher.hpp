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
  // All arguments must outlive the dispatcher. The watchdog may be null.
  Dispatcher(const ConsumerOptions& options, Handlers& handlers, const Stopper& stopper, const Claim& claim,
             StatementGuard& guard, Watchdog* watchdog, Logger& logger);

  // Calls the handlers for one page, in order, or on several threads at once with order only within a key. Exceptions
  // of handlers become retries.
  PageResult handle(const std::vector<Message>& page, Batch& batch);

 private:
  enum class Verdict { handled, failed, unknown, interrupted, postponed };
  struct Outcome {
    Verdict verdict = Verdict::interrupted;
    std::optional<Retry> retry{};
    std::optional<Postponement> postponement{};
  };

  static void add(PageResult& result, Outcome outcome);
  // `thread`: the number of the thread that calls the handler, below `concurrency`.
  Outcome handle_one(const Message& message, Batch& batch, std::size_t thread);
  void handle_concurrently(const std::vector<Message>& page, Batch& batch, std::vector<Outcome>& outcomes);
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
  Watchdog* watchdog_;
  Logger& logger_;
  std::unique_ptr<WorkerPool> pool_;
  std::atomic<bool> postponed_{false};  // on this page
};

}  // namespace pgque::detail
