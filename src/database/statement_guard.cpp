#include "database/statement_guard.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

namespace pgque::detail {

namespace {

constexpr std::chrono::milliseconds look_again{200};
// If the network is gone, a cancel never arrives.
constexpr std::chrono::milliseconds patience_with_cancels{1000};

}  // namespace

StatementGuard::StatementGuard(const Stopper& stopper, std::chrono::milliseconds drain_timeout,
                               std::chrono::milliseconds grace)
    : watch_{new Watch{stopper, drain_timeout, grace}} {
  watch_->thread = std::thread{[this] { run(); }};
}

StatementGuard::~StatementGuard() {
  if (!watch_) return;
  {
    const std::lock_guard lock{mutex_};
    quit_ = true;
  }
  watch_->wakeup.signal();
  changed_.notify_all();
  watch_->thread.join();
}

StatementGuard::Scope::Scope(StatementGuard& guard, std::shared_ptr<Session> session, OnStop on_stop,
                             Clock::time_point deadline)
    : guard_{guard} {
  guard_.set(std::move(session), on_stop, deadline);
}

StatementGuard::Scope::~Scope() {
  guard_.set(nullptr, {}, never);
}

void StatementGuard::set(std::shared_ptr<Session> session, OnStop on_stop, Clock::time_point deadline) {
  bool look = false;
  std::vector<std::future<void>> cancels;
  {
    const std::lock_guard lock{mutex_};
    cancels.swap(cancels_);
    // The old session is let go only after the lock is released.
    session_.swap(session);
    on_stop_ = on_stop;
    deadline_ = deadline;
    ++scope_;
    if (aborted_ && session_) session_->shut_down();
    // The thread is woken only if the deadline is before the time when it looks anyway, which is rare.
    if (watch_ && deadline_ < looks_at_) {
      looks_at_ = deadline_;
      look = true;
    }
  }
  if (look) watch_->wakeup.signal();
  changed_.notify_all();
  const auto until = Clock::now() + patience_with_cancels;
  for (const auto& cancel : cancels) cancel.wait_until(until);
}

void StatementGuard::abort() noexcept {
  const std::lock_guard lock{mutex_};
  aborted_ = true;
  if (session_) session_->shut_down();
}

void StatementGuard::run() {
  std::unique_lock lock{mutex_};
  if (wait_for_stop(lock)) end_after_stop(lock);
}

// Returns false when the guard is being destroyed.
bool StatementGuard::wait_for_stop(std::unique_lock<std::mutex>& lock) {
  while (!quit_) {
    if (session_ && Clock::now() >= deadline_) {
      session_->shut_down();
      deadline_ = never;
    }
    looks_at_ = session_ ? deadline_ : never;
    const auto until = looks_at_;
    lock.unlock();
    const auto woken = watch_->stopper.wait(watch_->wakeup.descriptor(), until);
    lock.lock();
    watch_->wakeup.reset();
    if (woken == Wakeup::Woken::signalled) return true;
  }
  return false;
}

void StatementGuard::end_after_stop(std::unique_lock<std::mutex>& lock) {
  for (;;) {
    changed_.wait(lock, [&] { return quit_ || session_; });
    if (quit_) return;
    auto session = session_;
    const auto ended = [&, scope = scope_] { return quit_ || scope_ != scope; };
    if (on_stop_ == OnStop::drain) {
      const auto drain_end = watch_->stopper.requested_at() + watch_->drain_timeout;
      auto end = never;
      while (!ended()) {
        const auto now = Clock::now();
        if (end == never && !watch_->stopper.may_begin_handler(watch_->drain_timeout, now)) end = now + watch_->grace;
        const auto until = std::min(end, deadline_);
        if (now >= until) break;
        // stop_now() after stop() does not wake this thread, so the thread polls.
        changed_.wait_until(lock, std::min({until, now + look_again, now < drain_end ? drain_end : never}));
      }
    } else {
      // The cancel request uses a separate connection. If the network is gone, it never returns, so it runs on a
      // separate thread, which nothing waits for and which keeps the session alive as long as necessary.
      constexpr int requests = 5;
      // The request may arrive before the statement does, so it is repeated while the receive goes on.
      for (int request = 0; request < requests && !ended(); ++request) {
        std::promise<void> arrived;
        cancels_.push_back(arrived.get_future());
        try {
          std::thread{[session, arrived = std::move(arrived)]() mutable {
            session->cancel();
            arrived.set_value();
          }}.detach();
        } catch (const std::system_error&) {
          // Out of threads: the connection is shut down instead, a second later.
        }
        changed_.wait_for(lock, look_again, ended);
      }
    }
    // A server that has not answered by now is not expected to answer.
    if (!ended()) {
      session->shut_down();
      cancels_.clear();
    }
    changed_.wait(lock, ended);
    // If this is the session's last owner, disconnecting takes its time.
    lock.unlock();
    session.reset();
    lock.lock();
  }
}

}  // namespace pgque::detail
