#pragma once

// Stops everything that runs and asked for it on SIGINT and SIGTERM.

namespace pgque::detail {

class Stopper;

// While at least one guard lives, the signals stop all guarded stoppers; then the previous handlers are restored.
class SignalGuard {
 public:
  // Throws std::runtime_error when 256 are alive already. A null pointer guards nothing.
  explicit SignalGuard(Stopper* stopper);
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  ~SignalGuard();

 private:
  Stopper* stopper_;
};

}  // namespace pgque::detail
