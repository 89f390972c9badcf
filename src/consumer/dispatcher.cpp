#include "consumer/dispatcher.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "support/run_state.hpp"

namespace pgque::detail {

namespace {

constexpr const char* what_of_handler = "handler error: ";

template <class T>
void move_to_end(std::vector<T>& from, std::vector<T>& to) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

void postpone(PageResult& result, Postponement postponement) {
  if (!result.postponed || result.postponed->delay < postponement.delay) result.postponed = std::move(postponement);
}

std::shared_ptr<const CallMessages> messages_of(const PageCall& call) {
  if (call.many) return call.many;
  return std::make_shared<const CallMessages>(CallMessages{{*call.first}});
}

}  // namespace

Dispatcher::Dispatcher(const ConsumerOptions& options, const Handlers& handlers, const Stopper& stopper,
                       const Claim& claim, StatementGuard& guard,
                       std::optional<HandlerSavepoint::Constraints>& constraints, CrashGuardFile* crash_guard,
                       Watchdog* watchdog, Failures& failures)
    : options_{options},
      handlers_{handlers},
      stopper_{stopper},
      claim_{claim},
      guard_{guard},
      constraints_{constraints},
      crash_guard_{crash_guard},
      watchdog_{watchdog},
      failures_{failures} {
  const auto threads = static_cast<std::size_t>(options_.concurrency);
  threads_.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    threads_.push_back(std::make_unique<ThreadCalls>(stopper_, claim_, options_.on_send));
  }
  if (threads > 1) pool_ = std::make_unique<WorkerPool>(threads);
}

PageResult Dispatcher::handle(std::vector<Message>& page, Batch& batch) {
  postponed_ = false;
  const PageCalls calls{page, handlers_, crash_guard_};
  PageResult result;
  HandlerSavepoint savepoint{batch, guard_, constraints_};
  if (pool_) {
    std::vector<PageResult> results(calls.size());
    for (auto& one : results) one.interrupted = true;  // unless it is handled
    for (std::size_t begin = 0; begin < calls.size();) begin = handle_concurrently(calls, begin, savepoint, results);
    for (auto& one : results) add(result, std::move(one));
    return result;
  }
  try {
    handle_in_order(calls, batch, savepoint, result);
  } catch (const Error&) {
    result.interrupted = true;
    result.error = std::current_exception();
    if (const auto number = savepoint.ended_by()) {
      const auto& call = calls[*number];
      for (std::size_t i = 0; i < call.size; ++i) {
        failures_.condemn(call.first[i], {std::string{what_of_handler} + ended_transaction});
      }
    }
  }
  return result;
}

void Dispatcher::handle_in_order(const PageCalls& calls, Batch& batch, HandlerSavepoint& savepoint,
                                 PageResult& result) {
  // A system call before each of many short handlers would take longer than the handlers.
  constexpr std::chrono::microseconds look_again{50};
  auto looked = Stopper::Clock::time_point::min();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const auto now = Stopper::Clock::now();
    if (!may_begin(now)) {
      result.interrupted = true;
      return;  // the batch will be rolled back
    }
    if (now - look_again >= looked) {
      batch.require_connection();
      looked = now;
    }
    if (is_suspect(calls[i])) {
      // So that handle_guarded() settles its writes alone.
      savepoint.settle();
      add_refused(calls, savepoint, result);
    }
    handle_guarded(calls, i, savepoint, 0, result);
    add_refused(calls, savepoint, result);
  }
  if (result.postponed) return;
  savepoint.settle();
  add_refused(calls, savepoint, result);
}

void Dispatcher::add_refused(const PageCalls& calls, HandlerSavepoint& savepoint, PageResult& result) {
  const auto refused = savepoint.take_refused();
  if (!refused) return;
  const auto& call = calls[refused->number];
  const CrashGuardFile::InFlight in_flight{crash_guard_, 0, call.first->msg_id, call.size > 1};
  refuse(call, *refused, result);
}

void Dispatcher::refuse(const PageCall& call, const HandlerSavepoint::Refused& refused, PageResult& result) {
  const auto failure = after_refusal(failures_, refused.error, *call.first, what_of_handler);
  const auto failed = result.failed;
  fail_rest(call, failure, result);
  result.handled -= result.failed - failed;
  auto& deferred = result.deferred;
  const auto its = [&](const Deferred& one) { return one.call == refused.number; };
  deferred.erase(std::remove_if(deferred.begin(), deferred.end(), its), deferred.end());
}

void Dispatcher::add(PageResult& result, PageResult&& one) {
  result.interrupted = result.interrupted || one.interrupted;
  result.handled += one.handled;
  result.failed += one.failed;
  result.unknown += one.unknown;
  if (one.postponed) postpone(result, std::move(*one.postponed));
  if (!one.last_failure.empty()) result.last_failure = std::move(one.last_failure);
  move_to_end(one.retries, result.retries);
  move_to_end(one.deferred, result.deferred);
}

std::size_t Dispatcher::handle_concurrently(const PageCalls& calls, std::size_t begin, HandlerSavepoint& savepoint,
                                            std::vector<PageResult>& results) {
  auto end = begin + 1;
  if (!is_suspect(calls[begin])) {
    while (end < calls.size() && !is_suspect(calls[end])) ++end;
  }
  const auto handle = [&](std::size_t number, std::size_t thread) {
    if (!may_begin(Stopper::Clock::now())) return;
    results[number].interrupted = false;
    handle_guarded(calls, number, savepoint, thread, results[number]);
  };
  if (!options_.key || end - begin == 1) {
    pool_->run(end - begin, [&](std::size_t index, std::size_t thread) { handle(begin + index, thread); });
    return end;
  }
  // A lane holds the messages of one key, which must be handled one after another, or one call for several messages.
  std::vector<std::vector<std::size_t>> lanes;
  std::unordered_map<std::string, std::size_t> lane_of_key;
  for (std::size_t i = begin; i < end; ++i) {
    std::size_t lane = lanes.size();
    const auto& message = *calls[i].first;
    const auto failed = [&](const std::string& why) {
      results[i].interrupted = false;
      fail(message, {"key function error: " + why}, results[i]);
    };
    try {
      const CrashGuardFile::InFlight in_flight{crash_guard_, 0, message.msg_id};
      if (!calls[i].many) lane = lane_of_key.try_emplace(options_.key(message), lanes.size()).first->second;
    } catch (const std::exception& error) {
      failed(error.what());
      continue;
    } catch (...) {
      failed("an exception that is not a std::exception");
      continue;
    }
    if (lane == lanes.size()) lanes.emplace_back();
    lanes[lane].push_back(i);
  }
  pool_->run(lanes.size(), [&](std::size_t lane, std::size_t thread) {
    for (const auto i : lanes[lane]) handle(i, thread);
  });
  return end;
}

void Dispatcher::handle_guarded(const PageCalls& calls, std::size_t number, HandlerSavepoint& savepoint,
                                std::size_t thread, PageResult& result) {
  const auto& call = calls[number];
  const auto msg_id = call.first->msg_id;
  if (!is_suspect(call)) {
    const CrashGuardFile::InFlight in_flight{crash_guard_, thread, msg_id, call.size > 1};
    handle_one(call, number, savepoint, thread, result);
    return;
  }
  const auto refusal = crash_guard_->refusal(msg_id);
  // Not after retry_delay(), because that may be what crashes.
  if (!refusal.empty()) return fail(*call.first, {refusal, options_.retry_after}, result);
  const CrashGuardFile::Turn turn{[this] { return may_begin(Stopper::Clock::now()); }};
  if (!may_begin(Stopper::Clock::now())) {
    result.interrupted = true;
    return;
  }
  // Beside another suspect it is not counted, because it would seem to be alone in each of the other one's crashes.
  CrashGuardFile::InFlight in_flight{turn.has_come() ? crash_guard_ : nullptr, thread, msg_id};
  // While it is in flight, so that a crash after a late failure counts, too.
  if (handle_one(call, number, savepoint, thread, result)) savepoint.settle();
  if (const auto refused = savepoint.take_refused()) refuse(call, *refused, result);
  if (!result.deferred.empty() && result.deferred.back().call == number) in_flight.comes_again();
}

bool Dispatcher::handle_one(const PageCall& call, std::size_t number, HandlerSavepoint& savepoint, std::size_t thread,
                            PageResult& result) {
  if (call.handler == nullptr) {
    ++result.unknown;
    if (auto retry = failures_.unknown_type(*call.first)) result.retries.push_back(std::move(*retry));
    return false;
  }
  const auto* const end = call.first + call.size;
  const Verdict* condemned = nullptr;
  for (const auto* message = call.first; message != end && condemned == nullptr; ++message) {
    condemned = failures_.condemned(*message);
  }
  if (condemned != nullptr) {
    for (const auto* message = call.first; message != end; ++message) {
      const auto* const own = failures_.condemned(*message);
      fail(*message, own != nullptr ? *own : *condemned, result);
    }
    return false;
  }
  auto& calls = *threads_[thread];
  auto* const slot = watchdog_ ? watchdog_->slot(thread) : nullptr;
  const InsideHandler inside{stopper_};
  auto failure = attempt(
      failures_, savepoint, *call.first, call.size, number, what_of_handler,
      [&] {
        const HandlerCall::Scope scope{calls.call, call.first, call.size, savepoint};
        const HandlerSlot::Scope running{slot, *call.first, calls.call.attempt()};
        invoke(call, calls);
      },
      [this] { return may_begin(Stopper::Clock::now()); });
  if (failure && failure->postponement) {
    postponed_ = true;
    postpone(result, std::move(*failure->postponement));
    return false;
  }
  if (call.many) {
    call.many->verdicts = std::move(calls.call.verdicts());
    fail_named(call, result);
  }
  if (failure) {
    fail_rest(call, *failure, result);
    return false;
  }
  result.handled += call.size - (call.many ? call.many->verdicts.size() : 0);
  auto& callbacks = calls.call.on_ack();
  if (!callbacks.empty()) {
    result.deferred.push_back({number, messages_of(call), std::move(callbacks), savepoint.keeps(number)});
  }
  return true;
}

void Dispatcher::invoke(const PageCall& call, ThreadCalls& thread) const {
  const auto run = [&] {
    if (call.many) {
      call.handler->many(call.many->messages, thread.many);
    } else {
      call.handler->one(*call.first, thread.one);
    }
  };
  if (!options_.around) return run();
  bool called = false;
  std::exception_ptr error;
  const std::function<void()> next = [&] {
    if (std::exchange(called, true)) throw std::logic_error{"around: next() may be called only once"};
    try {
      run();
    } catch (...) {
      error = std::current_exception();
      throw;
    }
  };
  options_.around(*call.first, call.many ? thread.many : thread.one, next);
  if (!called) throw std::logic_error{"around: it returned without having called next()"};
  if (error) std::rethrow_exception(error);
}

void Dispatcher::fail_named(const PageCall& call, PageResult& result) {
  for (const auto& [index, verdict] : call.many->verdicts) {
    fail(call.many->messages[index], verdict, result);
  }
}

void Dispatcher::fail_rest(const PageCall& call, const CallFailure& failure, PageResult& result) {
  const auto fail_one = [&](const Message& message) { fail(message, failure.verdict, result); };
  if (!call.many) return fail_one(*call.first);
  if (!detail::fail_rest(call.first, call.size, call.many->verdicts, fail_one)) {
    failures_.of_no_message(*call.first, failure.verdict.reason);
  }
}

void Dispatcher::fail(const Message& message, const Verdict& verdict, PageResult& result) {
  result.retries.push_back(failures_.failed(message, verdict));
  result.last_failure = result.retries.back().reason;
  ++result.failed;
}

bool Dispatcher::may_begin(Stopper::Clock::time_point now) const noexcept {
  return !postponed_ && !claim_.lost() && stopper_.may_begin_handler(options_.drain_timeout, now);
}

}  // namespace pgque::detail
