#include "consumer/deferred_writes.hpp"

#include <optional>
#include <string>

#include <pgque/error.hpp>

#include "support/run_state.hpp"

namespace pgque::detail {

namespace {

constexpr const char* what = "on_ack() error: ";

// How often an error may repeat the whole transaction while the same callbacks run. A server that is restarted, or
// another transaction that is in the way, does not do that so often to the same ones.
constexpr int most_interruptions = 10;

}  // namespace

Written DeferredWrites::write(std::vector<Deferred>& all, Batch& batch, const Batch::InTime& in_time,
                              std::vector<Retry>& retries) {
  HandlerSavepoint savepoint{batch, guard_, constraints_};
  running_ = nullptr;
  try {
    return write(all, batch, savepoint, in_time, retries);
  } catch (const Error& error) {
    if (const auto number = savepoint.ended_by()) {
      for (const auto& message : all[*number].of->messages) {
        failures_.condemn(message, {std::string{"handler error: "} + ended_transaction});
      }
    } else if (running_ != nullptr && ++running_->interrupted == most_interruptions) {
      fail(*running_, {{std::string{what} + error.what()}}, retries);
    }
    throw;
  }
}

Written DeferredWrites::write(std::vector<Deferred>& all, Batch& batch, HandlerSavepoint& savepoint,
                              const Batch::InTime& in_time, std::vector<Retry>& retries) {
  const InsideHandler inside{stopper_};
  // Of earlier calls: whether their writes can be kept was not known before. False if the batch is gone.
  const auto take_refused = [&] {
    while (const auto refused = savepoint.take_refused()) {
      savepoint.settle();  // so that no savepoint is open
      if (batch.is_gone()) return false;
      auto& one = all[refused->number];
      fail(one, after_refusal(failures_, refused->error, one.of->messages.front(), what), retries);
    }
    return true;
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto& one = all[i];
    if (one.callbacks.empty()) continue;
    if (!in_time()) return Written::interrupted;
    const auto& messages = one.of->messages;
    const auto& message = messages.front();
    std::optional<CrashGuardFile::Turn> turn;
    if (crash_guard_ && crash_guard_->suspects(message.msg_id)) turn.emplace([&] { return in_time(); });
    const CrashGuardFile::InFlight in_flight{!turn || turn->has_come() ? crash_guard_ : nullptr, 0, message.msg_id,
                                             messages.size() > 1};
    running_ = &one;
    const auto failure = attempt(
        failures_, savepoint, message, messages.size(), i, what,
        [&] {
          auto& transaction = savepoint.transaction();
          const HandlerSlot::Scope running{watchdog_ ? watchdog_->slot(0) : nullptr, message, attempt_of(message)};
          for (const auto& callback : one.callbacks) {
            callback(transaction);
            failures_.require_home();  // not only after the last, because a child would go on with the next
          }
        },
        in_time);
    if (failure && failure->postponement) {
      postponement_ = *failure->postponement;
      return Written::postponed;
    }
    if (failure) {
      // If another worker has the batch by now, that is why.
      if (batch.is_gone()) return Written::gone;
      fail(one, *failure, retries);
    }
    running_ = nullptr;
    if (!take_refused()) return Written::gone;
  }
  savepoint.settle();
  return take_refused() ? Written::all : Written::gone;
}

void DeferredWrites::fail(Deferred& one, const CallFailure& failure, std::vector<Retry>& retries) {
  one.callbacks.clear();
  const auto& [messages, verdicts] = *one.of;
  if (one.handler_wrote) {
    // What the handler wrote itself must not be kept for a message that has failed, and can be undone only together
    // with the whole batch.
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const auto named = verdicts.find(i);
      failures_.condemn(messages[i], named == verdicts.end() ? failure.verdict : named->second);
    }
    running_ = nullptr;
    Error::Facts facts;
    facts.operation = "on_ack of message " + to_string(messages.front().msg_id);
    facts.retryable = true;
    facts.advice =
        "what its handler wrote in the batch's transaction has to be undone with it, so the batch is handled "
        "again without this message: " +
        failure.verdict.reason;
    throw Error{std::move(facts)};
  }
  const auto fail_one = [&](const Message& message) { retries.push_back(failures_.failed(message, failure.verdict)); };
  if (!fail_rest(messages.data(), messages.size(), verdicts, fail_one)) {
    failures_.of_no_message(messages.front(), failure.verdict.reason);
  }
}

}  // namespace pgque::detail
