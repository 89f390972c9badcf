#include "support/signal_guard.hpp"

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

#include <unistd.h>

#include "support/stopper.hpp"

namespace pgque::detail {

namespace {

constexpr std::array<int, 2> signals{SIGINT, SIGTERM};

extern "C" void pgque_stop_all(int signal);

}  // namespace

// The signals of one process. A child that fork() made inherits the parent's object and handlers, but may neither use
// its stoppers nor rely on its mutex.
class StopSignals {
 public:
  // For ordinary code.
  static StopSignals& of_this_process() {
    auto* found = current.load();
    while (!found || !found->is_ours()) {
      auto fresh = std::make_unique<StopSignals>(found);
      if (current.compare_exchange_strong(found, fresh.get())) found = fresh.release();
    }
    return *found;
  }

  explicit StopSignals(const StopSignals* inherited) noexcept : inherited_{inherited} {}

  // Not the cached id of HomeProcess: a signal may come before that is renewed.
  bool is_ours() const noexcept { return process_ == ::getpid(); }

  void add(Stopper& stopper) {
    const std::lock_guard lock{mutex_};
    for (auto& slot : slots_) {
      if (slot.stopper.load()) continue;
      slot.first_signal.store(0);
      slot.stopper.store(&stopper);
      if (guards_++ == 0) install();
      return;
    }
    throw std::runtime_error{"stop_on_signals: 256 consumers and tickers are running already"};
  }

  void remove(Stopper& stopper) {
    const std::lock_guard lock{mutex_};
    for (auto& slot : slots_) {
      if (slot.stopper.load() != &stopper) continue;
      slot.stopper.store(nullptr);
      break;
    }
    if (--guards_ == 0) undo();
    // A handler on another thread may still be using the stopper, which is destroyed after this.
    while (handlers_running_.load() != 0) std::this_thread::yield();
  }

  // For the signal handler, which is installed only while there is an object.
  static void handle(int signal) noexcept {
    auto& all = *current.load();
    if (all.is_ours() && all.installed_) {
      all.stop();
    } else if (all.undo(signal)) {
      // In a child nothing of the parent's is stopped, and the signal does what it did before.
      static_cast<void>(::raise(signal));
    }
  }

 private:
  struct Slot {
    std::atomic<Stopper*> stopper{nullptr};
    std::atomic<std::int64_t> first_signal{0};  // when, or 0
  };
  struct Previous {
    struct sigaction action {};
    bool replaced = false;
  };

  void stop() noexcept {
    constexpr auto one = std::chrono::nanoseconds{std::chrono::seconds{1}}.count();
    handlers_running_.fetch_add(1);
    const std::int64_t now = std::chrono::nanoseconds{Stopper::Clock::now().time_since_epoch()}.count();
    for (auto& slot : slots_) {
      auto* const stopper = slot.stopper.load();
      if (!stopper) continue;
      std::int64_t first = 0;
      if (slot.first_signal.compare_exchange_strong(first, now) || now - first < one) {
        stopper->stop();
      } else {
        stopper->stop_now();
      }
    }
    handlers_running_.fetch_sub(1);
  }

  void install() {
    if (!installed_ && inherited_) inherited_->undo();
    installed_ = true;
    struct sigaction action {};
    action.sa_handler = pgque_stop_all;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < signals.size(); ++i) {
      sigaction(signals[i], nullptr, &previous_[i].action);
      previous_[i].replaced = previous_[i].action.sa_handler != SIG_IGN;
      if (previous_[i].replaced) sigaction(signals[i], &action, nullptr);
    }
  }

  // Restores the previous handlers; true if that changed what handles `signal`. Async-signal-safe.
  bool undo(int signal = 0) const noexcept {
    if (!installed_) return inherited_ && inherited_->undo(signal);
    bool changed = false;
    for (std::size_t i = 0; i < signals.size(); ++i) {
      struct sigaction action {};
      sigaction(signals[i], nullptr, &action);
      // The program may have installed another handler since then; that one stays.
      if (!previous_[i].replaced || action.sa_handler != pgque_stop_all) continue;
      sigaction(signals[i], &previous_[i].action, nullptr);
      changed = changed || signals[i] == signal;
    }
    return changed;
  }

  // Never freed, because a signal handler may be using it.
  static std::atomic<StopSignals*> current;
  static_assert(std::atomic<StopSignals*>::is_always_lock_free && std::atomic<std::int64_t>::is_always_lock_free);

  const pid_t process_ = ::getpid();
  const StopSignals* const inherited_;  // of the parent, or null
  std::atomic<bool> installed_{false};  // whether the handlers have ever been this process's
  std::array<Slot, 256> slots_{};
  std::atomic<int> handlers_running_{0};
  std::mutex mutex_;  // of what follows, which a signal handler touches only in a child
  int guards_ = 0;
  std::array<Previous, signals.size()> previous_{};
};

std::atomic<StopSignals*> StopSignals::current{nullptr};

namespace {

extern "C" void pgque_stop_all(int signal) {
  const int saved = errno;
  StopSignals::handle(signal);
  errno = saved;
}

}  // namespace

SignalGuard::SignalGuard(Stopper* stopper) : stopper_{stopper} {
  if (!stopper_) return;
  auto& of_this_process = StopSignals::of_this_process();
  of_this_process.add(*stopper_);
  signals_ = &of_this_process;
}

SignalGuard::~SignalGuard() {
  if (signals_ && signals_->is_ours()) signals_->remove(*stopper_);
}

}  // namespace pgque::detail
