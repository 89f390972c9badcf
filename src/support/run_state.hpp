#pragma once

// start() and the destructor of everything that runs until stop().

#include <condition_variable>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/signal_guard.hpp"
#include "support/stopper.hpp"

namespace pgque::detail {

// Marks the current thread as one that runs a handler of the stopper's owner.
class InsideHandler {
 public:
  explicit InsideHandler(const Stopper& stopper) noexcept : outer_{current()} { current() = &stopper; }
  InsideHandler(const InsideHandler&) = delete;
  InsideHandler& operator=(const InsideHandler&) = delete;
  ~InsideHandler() { current() = outer_; }
  static const Stopper*& current() noexcept {
    thread_local const Stopper* stopper = nullptr;
    return stopper;
  }

 private:
  const Stopper* outer_;
};

// Calls `run`, which returns when the run is over. Until then, `stop` stops it.
using RunWithin = std::function<void(const std::function<void()>& stop, const std::function<void()>& run)>;

class RunState {
 public:
  Stopper& stopper() noexcept { return stopper_; }
  const HomeProcess& home() const noexcept { return stopper_.home(); }
  void stop_on_signals() {
    home().require("stop_on_signals");
    const std::lock_guard lock{mutex_};
    signals_ = true;
  }
  bool running() const {
    const std::lock_guard lock{mutex_};
    return running_;
  }

  // Calls body() unless it is running already, by `within` if there is one. The stop request that ends the run is then
  // cleared.
  template <class Body>
  void run(const char* what, const Body& body, const RunWithin& within = {}) {
    const Running running{*this, what};
    const SignalGuard guard{signals_ ? &stopper_ : nullptr};
    if (!within) return body();
    within([this] { stopper_.stop(); }, body);
  }

  // For the owner's destructor: when this returns, nothing runs any more, unless a handler is the caller. A run that
  // another thread is about to begin ends at once. In a child process nothing runs.
  void shut_down() {
    if (!home().is_this()) return;
    std::unique_lock lock{mutex_};
    stopper_.stop();
    if (!running_) return;
    if (thread_ == std::this_thread::get_id() || InsideHandler::current() == &stopper_) return;
    ended_.wait(lock, [&] { return !running_; });
  }

 private:
  class Running {
   public:
    Running(RunState& state, const char* what) : state_{state} {
      const std::lock_guard lock{state_.mutex_};
      if (state_.running_) throw std::logic_error{std::string{what} + "::start(): it is running already"};
      state_.running_ = true;
      state_.thread_ = std::this_thread::get_id();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
      if (!state_.home().is_this()) return;  // the child of a fork() in a handler
      const std::lock_guard lock{state_.mutex_};
      state_.stopper_.reset();
      state_.running_ = false;
      state_.ended_.notify_all();
    }

   private:
    RunState& state_;
  };

  mutable std::mutex mutex_;
  std::condition_variable ended_;
  bool running_ = false;
  bool signals_ = false;
  std::thread::id thread_;
  Stopper stopper_;
};

}  // namespace pgque::detail
