#pragma once

// What several of the unit tests need.

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <future>

#include <pgque/error.hpp>

namespace pgque::test {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Longer than anything here takes: a test that waits this long has failed.
inline constexpr auto patience = 20s;

#ifdef PGQUE_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

// A server that is certainly not there: nothing listens on port 1.
inline constexpr const char* nowhere = "host=127.0.0.1 port=1 user=app password=geheim connect_timeout=5";

// True if the future becomes ready at all.
template <class T>
bool is_done(const std::future<T>& future) {
  return future.wait_for(patience) == std::future_status::ready;
}

// Handles a signal with `handler` for as long as it lives, then as before.
class SignalHandler {
 public:
  SignalHandler(int signal, void (*handler)(int)) : signal_{signal} {
    struct sigaction action {};
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    sigaction(signal_, &action, &previous_);
  }
  SignalHandler(const SignalHandler&) = delete;
  SignalHandler& operator=(const SignalHandler&) = delete;
  ~SignalHandler() { sigaction(signal_, &previous_, nullptr); }

 private:
  int signal_;
  struct sigaction previous_ {};
};

// What handles the signal now.
inline auto handler_of(int signal) {
  struct sigaction action {};
  sigaction(signal, nullptr, &action);
  return action.sa_handler;
}

// Holds each of its callers back until this many have arrived. False for a caller that waited too long.
class Rendezvous {
 public:
  explicit Rendezvous(std::size_t expected) : missing_{expected} {}
  bool arrive() {
    if (missing_.fetch_sub(1) == 1) all_here_.set_value();
    return future_.wait_for(patience) == std::future_status::ready;
  }

 private:
  std::atomic<std::size_t> missing_;
  std::promise<void> all_here_;
  std::shared_future<void> future_{all_here_.get_future()};
};

}  // namespace pgque::test
