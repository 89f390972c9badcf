#include "support/signal_guard.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "support/stopper.hpp"

namespace pgque::detail {

namespace {

// Everything here is touched by a signal handler, so it is static, lock-free and never freed.
std::array<std::atomic<Stopper*>, 256> slots{};
std::atomic<int> handlers_running{0};
static_assert(std::atomic<Stopper*>::is_always_lock_free);

constexpr std::array<int, 2> signals{SIGINT, SIGTERM};

std::mutex mutex;  // of what follows, which only ordinary code touches
int guards = 0;
struct Previous {
  struct sigaction action;
  bool replaced = false;
};
std::array<Previous, signals.size()> previous{};

extern "C" void pgque_stop_all(int) {
  handlers_running.fetch_add(1);
  for (auto& slot : slots) {
    if (auto* stopper = slot.load()) stopper->stop();
  }
  handlers_running.fetch_sub(1);
}

void install() {
  struct sigaction action {};
  action.sa_handler = pgque_stop_all;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < signals.size(); ++i) {
    sigaction(signals[i], nullptr, &previous[i].action);
    previous[i].replaced = previous[i].action.sa_handler != SIG_IGN;
    if (previous[i].replaced) sigaction(signals[i], &action, nullptr);
  }
}

void restore() {
  for (std::size_t i = 0; i < signals.size(); ++i) {
    struct sigaction current {};
    sigaction(signals[i], nullptr, &current);
    // The program may have installed another handler since then; that one stays.
    if (previous[i].replaced && current.sa_handler == pgque_stop_all) {
      sigaction(signals[i], &previous[i].action, nullptr);
    }
  }
}

}  // namespace

SignalGuard::SignalGuard(Stopper* stopper) : stopper_{stopper} {
  if (!stopper_) return;
  const std::lock_guard lock{mutex};
  for (auto& slot : slots) {
    Stopper* empty = nullptr;
    if (!slot.compare_exchange_strong(empty, stopper_)) continue;
    if (guards++ == 0) install();
    return;
  }
  throw std::runtime_error{"stop_on_signals: 256 consumers and tickers are running already"};
}

SignalGuard::~SignalGuard() {
  if (!stopper_) return;
  const std::lock_guard lock{mutex};
  for (auto& slot : slots) {
    Stopper* ours = stopper_;
    if (slot.compare_exchange_strong(ours, nullptr)) break;
  }
  if (--guards == 0) restore();
  // A handler on another thread may still be using the stopper, which is destroyed after this.
  while (handlers_running.load() != 0) std::this_thread::yield();
}

}  // namespace pgque::detail
