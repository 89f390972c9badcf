#include "receive_canceller.hpp"

#include <chrono>
#include <system_error>

#include "consumer_machine.hpp"

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

void ReceiveCanceller::set(std::shared_ptr<Session> session, OnStop on_stop) {
  {
    const std::lock_guard lock{mutex_};
    session_ = std::move(session);
    on_stop_ = on_stop;
    ++scope_;
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
    const auto session = session_;
    const auto ended = [&, scope = scope_] { return quit_ || scope_ != scope; };
    constexpr int patience = 5;  // times 200 ms
    if (on_stop_ == OnStop::drain) {
      // A second stop() does not wake this thread, so it looks.
      for (int looks = 0; looks < patience && !ended();) {
        const auto now = Stopper::Clock::now();
        if (!may_begin_handler(stopper_.level(), stopper_.requested_at(), drain_timeout_, now)) ++looks;
        changed_.wait_for(lock, std::chrono::milliseconds{200}, ended);
      }
    } else {
      // The request goes over a connection of its own. When the network is gone it never returns, so it has a thread
      // of its own too, which nobody waits for; it keeps the session for as long as it needs it.
      const auto cancel = [session] { session->cancel(); };
      // It may arrive before the statement does, so it is repeated while the receive goes on.
      for (int requests = 0; requests < patience && !ended(); ++requests) {
        try {
          std::thread{cancel}.detach();
        } catch (const std::system_error&) {
          // Out of threads: the connection is shut down instead, a second later.
        }
        changed_.wait_for(lock, std::chrono::milliseconds{200}, ended);
      }
    }
    // Whoever has not answered by now is not going to.
    if (!ended()) session->shut_down();
    changed_.wait(lock, ended);
  }
}

}  // namespace pgque::detail
