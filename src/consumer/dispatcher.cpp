#include "consumer/dispatcher.hpp"

#include <algorithm>
#include <stdexcept>

#include "consumer/handler_call.hpp"
#include "consumer/handler_failure.hpp"
#include "database/error_map.hpp"
#include "support/checks.hpp"
#include "support/run_state.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

// Long enough to understand a failure, and short enough to keep dead letters small.
constexpr std::size_t longest_reason = 4000;

std::int32_t attempt_of(const Message& message) {
  return message.retry_count.value_or(0) + 1;
}

}  // namespace

Dispatcher::Dispatcher(const ConsumerOptions& options, Handlers& handlers, const Stopper& stopper, const Claim& claim,
                       StatementGuard& guard, CrashGuardFile* crash_guard, Watchdog* watchdog, Logger& logger)
    : options_{options},
      handlers_{handlers},
      stopper_{stopper},
      claim_{claim},
      guard_{guard},
      crash_guard_{crash_guard},
      watchdog_{watchdog},
      logger_{logger} {
  if (options_.concurrency > 1) pool_ = std::make_unique<WorkerPool>(static_cast<std::size_t>(options_.concurrency));
}

PageResult Dispatcher::handle(const std::vector<Message>& page, Batch& batch) {
  postponed_ = false;
  PageResult result;
  HandlerSavepoint savepoint{batch, guard_, constraints_};
  if (pool_) {
    std::vector<Outcome> outcomes(page.size());
    for (std::size_t begin = 0; begin < page.size();) begin = handle_concurrently(page, begin, savepoint, outcomes);
    for (auto& outcome : outcomes) add(result, std::move(outcome));
    return result;
  }
  try {
    handle_in_order(page, batch, savepoint, result);
  } catch (const Error&) {
    result.interrupted = true;
    result.error = std::current_exception();
  }
  return result;
}

void Dispatcher::handle_in_order(const std::vector<Message>& page, Batch& batch, HandlerSavepoint& savepoint,
                                 PageResult& result) {
  // A system call before each of many short handlers would take longer than the handlers.
  constexpr std::chrono::microseconds look_again{50};
  auto looked = Stopper::Clock::time_point::min();
  for (const auto& message : page) {
    const auto now = Stopper::Clock::now();
    if (!may_begin(now)) {
      result.interrupted = true;
      return;  // the batch will be rolled back
    }
    if (now - look_again >= looked) {
      batch.require_connection();
      looked = now;
    }
    if (is_suspect(message)) {
      // So that handle_guarded() settles its writes alone.
      savepoint.settle();
      add_refused(result, savepoint);
    }
    add(result, handle_guarded(message, savepoint, 0));
    add_refused(result, savepoint);
  }
  if (result.postponed) return;
  savepoint.settle();
  add_refused(result, savepoint);
}

void Dispatcher::add_refused(PageResult& result, HandlerSavepoint& savepoint) {
  const auto refused = savepoint.take_refused();
  if (!refused) return;
  const CrashGuardFile::InFlight in_flight{crash_guard_, 0, refused->message->msg_id};
  auto outcome = after_refusal(*refused);
  --result.handled;
  add(result, std::move(outcome));
}

Dispatcher::Outcome Dispatcher::after_refusal(const HandlerSavepoint::Refused& refused) {
  try {
    std::rethrow_exception(refused.error);
  } catch (const std::exception& error) {
    // The next handler may have run already, so this one is not called again.
    if (after_handler_failure(sqlstate_of(error), true, false) == HandlerFailure::leave_batch) {
      std::rethrow_exception(as_error(error, *refused.message));
    }
    return failure(*refused.message, std::string{"handler error: "} + error.what(), std::nullopt);
  }
}

void Dispatcher::add(PageResult& result, Outcome outcome) {
  switch (outcome.verdict) {
    case Verdict::interrupted:
      result.interrupted = true;
      break;
    case Verdict::handled:
      ++result.handled;
      break;
    case Verdict::failed:
      ++result.failed;
      break;
    case Verdict::unknown:
      ++result.unknown;
      break;
    case Verdict::postponed:
      if (!result.postponed || result.postponed->delay < outcome.postponement->delay) {
        result.postponed = std::move(outcome.postponement);
      }
      break;
  }
  if (outcome.retry) result.retries.push_back(std::move(*outcome.retry));
}

std::size_t Dispatcher::handle_concurrently(const std::vector<Message>& page, std::size_t begin,
                                            HandlerSavepoint& savepoint, std::vector<Outcome>& outcomes) {
  auto end = begin + 1;
  if (!is_suspect(page[begin])) {
    while (end < page.size() && !is_suspect(page[end])) ++end;
  }
  if (!options_.key || end - begin == 1) {
    pool_->run(end - begin, [&](std::size_t index, std::size_t thread) {
      const auto i = begin + index;
      if (may_begin(Stopper::Clock::now())) outcomes[i] = handle_guarded(page[i], savepoint, thread);
    });
    return end;
  }
  // A lane holds the messages of one key, which must be handled one after another.
  std::vector<std::vector<std::size_t>> lanes;
  std::unordered_map<std::string, std::size_t> lane_of_key;
  for (std::size_t i = begin; i < end; ++i) {
    std::size_t lane = 0;
    try {
      const CrashGuardFile::InFlight in_flight{crash_guard_, 0, page[i].msg_id};
      lane = lane_of_key.try_emplace(options_.key(page[i]), lanes.size()).first->second;
    } catch (const std::exception& error) {
      outcomes[i] = failure(page[i], std::string{"key function error: "} + error.what(), std::nullopt);
      continue;
    } catch (...) {
      outcomes[i] = failure(page[i], "key function error: an exception that is not a std::exception", std::nullopt);
      continue;
    }
    if (lane == lanes.size()) lanes.emplace_back();
    lanes[lane].push_back(i);
  }
  pool_->run(lanes.size(), [&](std::size_t lane, std::size_t thread) {
    for (const auto i : lanes[lane]) {
      if (!may_begin(Stopper::Clock::now())) return;
      outcomes[i] = handle_guarded(page[i], savepoint, thread);
    }
  });
  return end;
}

const Handler* Dispatcher::handler_for(const Message& message) const {
  auto found = message.type ? handlers_.find(*message.type) : handlers_.end();
  if (found == handlers_.end()) found = handlers_.find("*");
  return found == handlers_.end() ? nullptr : &found->second;
}

Dispatcher::Outcome Dispatcher::handle_guarded(const Message& message, HandlerSavepoint& savepoint,
                                               std::size_t thread) {
  if (!is_suspect(message)) {
    const CrashGuardFile::InFlight in_flight{crash_guard_, thread, message.msg_id};
    return handle_one(message, savepoint, thread);
  }
  const auto refusal = crash_guard_->refusal(message.msg_id);
  // Not after retry_delay(), because that may be what crashes.
  if (!refusal.empty()) return failure(message, refusal, options_.retry_after);
  const CrashGuardFile::Turn turn{[this] { return may_begin(Stopper::Clock::now()); }};
  if (!may_begin(Stopper::Clock::now())) return {Verdict::interrupted};
  // Beside another suspect it is not counted, because it would seem to be alone in each of the other one's crashes.
  const CrashGuardFile::InFlight in_flight{turn.has_come() ? crash_guard_ : nullptr, thread, message.msg_id};
  auto outcome = handle_one(message, savepoint, thread);
  // While it is in flight, so that a crash after a late failure counts, too.
  if (outcome.verdict == Verdict::handled) savepoint.settle();
  const auto refused = savepoint.take_refused();
  return refused ? after_refusal(*refused) : std::move(outcome);
}

Dispatcher::Outcome Dispatcher::handle_one(const Message& message, HandlerSavepoint& savepoint, std::size_t thread) {
  const auto* const handler = handler_for(message);
  if (handler == nullptr) return unknown_type(message);

  auto* const slot = watchdog_ ? watchdog_->slot(thread) : nullptr;
  const InsideHandler inside{stopper_};
  for (int reruns = 0;; ++reruns) {
    HandlerCall call{message, attempt_of(message), stopper_, claim_, savepoint};
    std::optional<Outcome> failed;
    std::exception_ptr in_the_way;
    try {
      Context context{call};
      {
        const HandlerSlot::Scope running{slot, message, call.attempt};
        (*handler)(message, context);
      }
      require_home();
      savepoint.keep(message);
      return {Verdict::handled};
    } catch (const NotNow& not_now) {
      require_home();
      postponed_ = true;
      failed = {Verdict::postponed, {}, Postponement{not_now.delay(), sanitized(not_now.what(), longest_reason)}};
    } catch (const RetryAfter& retry) {
      savepoint.require_sound();
      failed = failure(message, retry.what(), retry.delay());
    } catch (const std::exception& error) {
      require_home();
      savepoint.require_sound();
      const bool may_rerun = reruns < most_reruns && may_begin(Stopper::Clock::now());
      switch (after_handler_failure(sqlstate_of(error), savepoint.is_set(), may_rerun)) {
        case HandlerFailure::nack:
          failed = failure(message, std::string{"handler error: "} + error.what(), std::nullopt);
          break;
        case HandlerFailure::run_again:
          logger_.write(record(LogLevel::warning, LogEvent::failed,
                               "a deadlock or a serialization failure in a handler, which is called again: " +
                                   primary_message(error.what()),
                               message));
          break;
        case HandlerFailure::leave_batch:
          in_the_way = as_error(error, message);
      }
    } catch (...) {
      savepoint.require_sound();
      failed = failure(message, "handler error: an exception that is not a std::exception", std::nullopt);
    }
    savepoint.discard();
    if (in_the_way) std::rethrow_exception(in_the_way);
    if (failed) return std::move(*failed);
  }
}

std::exception_ptr Dispatcher::as_error(const std::exception& error, const Message& message) const {
  try {
    const Call handling{"handle", options_.queue, options_.name, message.batch_id};
    throw_mapped(error, {handling});
  } catch (...) {
    return std::current_exception();
  }
}

Dispatcher::Outcome Dispatcher::failure(const Message& message, std::string_view reason,
                                        std::optional<std::chrono::seconds> delay) {
  require_home();
  Retry retry{message.msg_id, message.retry_count.value_or(0), delay ? *delay : retry_delay(message),
              sanitized(reason, longest_reason)};
  logger_.write(record(LogLevel::warning, LogEvent::handler_failed, retry.reason, message));
  return {Verdict::failed, std::move(retry)};
}

Dispatcher::Outcome Dispatcher::unknown_type(const Message& message) {
  const auto text = message.type ? "no handler for type \"" + *message.type + '"' : "no handler for type NULL";
  Outcome outcome{Verdict::unknown};
  if (options_.unknown_handler_policy == UnknownHandlerPolicy::nack) {
    outcome.retry =
        Retry{message.msg_id, message.retry_count.value_or(0), retry_delay(message), sanitized(text, longest_reason)};
    logger_.write(record(LogLevel::warning, LogEvent::unknown_type, text + "; nacked", message));
  } else {
    logger_.write(record(LogLevel::warning, LogEvent::unknown_type, text + "; acknowledged by policy", message));
  }
  return outcome;
}

std::chrono::seconds Dispatcher::retry_delay(const Message& message) {
  if (!options_.retry_delay) return options_.retry_after;
  try {
    return std::clamp(options_.retry_delay(message, attempt_of(message)), std::chrono::seconds{0}, longest_retry_after);
  } catch (const std::exception& error) {
    logger_.write(record(LogLevel::error, LogEvent::failed,
                         std::string{"retry_delay threw, retry_after is used: "} + error.what(), message));
  } catch (...) {
    logger_.write(record(LogLevel::error, LogEvent::failed, "retry_delay threw, retry_after is used", message));
  }
  return options_.retry_after;
}

void Dispatcher::require_home() const {
  const auto require = [this] { stopper_.home().require("a handler has returned in a child process"); };
  if (!pool_) return require();
  // No caller of this thread is left that could catch it: std::terminate() shows the text.
  [&]() noexcept { require(); }();
}

bool Dispatcher::may_begin(Stopper::Clock::time_point now) const noexcept {
  return !postponed_ && !claim_.lost() && stopper_.may_begin_handler(options_.drain_timeout, now);
}

LogRecord Dispatcher::record(LogLevel level, LogEvent event, std::string_view text, const Message& message) {
  LogRecord record{level, event, text};
  record.batch_id = message.batch_id;
  record.msg_id = message.msg_id;
  record.attempt = attempt_of(message);
  return record;
}

}  // namespace pgque::detail
