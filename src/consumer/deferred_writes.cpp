#include "consumer/deferred_writes.hpp"

#include "support/run_state.hpp"

namespace pgque::detail {

namespace {

constexpr const char* what = "on_ack() error: ";

}  // namespace

Written DeferredWrites::write(std::vector<Deferred>& all, Batch& batch, const Batch::InTime& in_time,
                              std::vector<Retry>& retries) {
  HandlerSavepoint savepoint{batch, guard_, constraints_};
  try {
    return write(all, batch, savepoint, in_time, retries);
  } catch (const Error&) {
    if (const auto number = savepoint.ended_by()) {
      for (const auto& message : all[*number].of->messages) failures_.condemn(message);
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
    const CrashGuardFile::InFlight in_flight{crash_guard_, 0, message.msg_id, messages.size() > 1};
    const auto failure = attempt(
        failures_, savepoint, message, i, what,
        [&] {
          auto& transaction = savepoint.transaction();
          const HandlerSlot::Scope running{watchdog_ ? watchdog_->slot(0) : nullptr, message, attempt_of(message)};
          for (const auto& callback : one.callbacks) callback(transaction);
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
    if (!take_refused()) return Written::gone;
  }
  savepoint.settle();
  return take_refused() ? Written::all : Written::gone;
}

void DeferredWrites::fail(Deferred& one, const CallFailure& failure, std::vector<Retry>& retries) {
  one.callbacks.clear();
  const auto& [messages, verdicts] = *one.of;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (verdicts.count(i) == 0) retries.push_back(failures_.failed(messages[i], failure.reason, failure.delay));
  }
}

}  // namespace pgque::detail
