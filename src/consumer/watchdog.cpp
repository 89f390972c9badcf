#include "consumer/watchdog.hpp"

#include <algorithm>
#include <utility>

namespace pgque::detail {

Watchdog::Watchdog(std::size_t threads, const Limits& limits, Reports reports)
    : limits_{limits}, reports_{std::move(reports)}, slots_(limits.handler ? threads : 0) {
  if (limits.handler) handlers_.assign(threads, Overdue{*limits.handler});
  if (limits.transaction) transaction_.emplace(*limits.transaction);
  thread_ = std::thread{[this] { run(); }};
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock{mutex_};
    quit_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool Watchdog::handler_is_stuck() const noexcept {
  const auto now = Clock::now();
  return std::any_of(slots_.begin(), slots_.end(), [&](const HandlerSlot& slot) {
    const auto running = slot.running();
    return running && now - running->begun >= *limits_.handler;
  });
}

void Watchdog::begin(BatchId batch, Clock::time_point begun) {
  auto due = never;
  if (limits_.handler) due = Clock::now() + *limits_.handler;
  if (limits_.transaction) due = std::min(due, begun + *limits_.transaction);
  bool earlier = false;
  {
    const std::lock_guard lock{mutex_};
    batch_ = batch;
    begun_ = begun;
    // Mostly the thread looks in time anyway, so that small batches do not wake it.
    earlier = due < looks_at_;
    if (earlier) looks_at_ = due;
  }
  if (earlier) changed_.notify_all();
}

void Watchdog::end() {
  const std::lock_guard lock{mutex_};
  batch_.reset();
}

void Watchdog::run() {
  std::unique_lock lock{mutex_};
  while (!quit_) {
    if (looks_at_ == never) {
      changed_.wait(lock, [&] { return quit_ || looks_at_ != never; });
    } else if (const auto due = looks_at_; Clock::now() < due) {
      changed_.wait_until(lock, due, [&] { return quit_ || looks_at_ < due; });
    } else if (!batch_) {
      looks_at_ = never;
    } else if (!look(lock)) {
      return;
    }
  }
}

// Returns false in a child process: a log sink called fork(), and returned there.
bool Watchdog::look(std::unique_lock<std::mutex>& lock) {
  const auto now = Clock::now();
  const auto batch = *batch_;
  looks_at_ = never;
  const bool slow = transaction_ && transaction_->look(begun_, now);
  if (transaction_) looks_at_ = transaction_->next();
  std::vector<RunningHandler> stuck;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto running = slots_[i].running();
    const auto begun = running ? std::optional{running->begun} : std::nullopt;
    if (handlers_[i].look(begun, now)) stuck.push_back(*running);
    looks_at_ = std::min(looks_at_, handlers_[i].next());
  }
  if (!slow && stuck.empty()) return true;
  lock.unlock();
  if (slow) reports_.slow_batch(batch);
  for (const auto& handler : stuck) {
    if (home_.is_this()) reports_.stuck_handler(handler);
  }
  if (!home_.is_this()) return false;
  lock.lock();
  return true;
}

}  // namespace pgque::detail
