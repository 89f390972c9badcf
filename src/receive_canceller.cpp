#include "receive_canceller.hpp"

#include <chrono>

namespace pgque::detail {

ReceiveCanceller::~ReceiveCanceller() {
  {
    const std::lock_guard lock{mutex_};
    quit_ = true;
  }
  quit_wakeup_.signal();
  changed_.notify_all();
  thread_.join();
}

void ReceiveCanceller::set(Session* session) {
  {
    const std::lock_guard lock{mutex_};
    session_ = session;
  }
  changed_.notify_all();
}

void ReceiveCanceller::run() {
  constexpr auto for_ever = std::chrono::hours{24 * 365};
  while (stopper_.wakeup().wait(quit_wakeup_.descriptor(), Stopper::Clock::now() + for_ever) ==
         Wakeup::Woken::timeout) {
  }
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return quit_ || session_; });
    if (quit_) return;
    // The request may arrive before the statement does, so it is repeated while the receive goes on.
    session_->cancel();
    changed_.wait_for(lock, std::chrono::milliseconds{20}, [&] { return quit_ || !session_; });
  }
}

}  // namespace pgque::detail
