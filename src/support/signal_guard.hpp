#pragma once

// Stops everything that runs and asked for it on SIGINT and SIGTERM.

namespace pgque::detail {

class Stopper;
class StopSignals;

// While at least one guard lives, the signals stop all guarded stoppers; then the previous handlers are restored. The
// signals that a stopper gets within a second of its first one count as that one, because a terminal, a shell and a
// service manager may each send one. A later signal is stop_now().
class SignalGuard {
 public:
  // Throws std::runtime_error when 256 are alive already. A null pointer guards nothing.
  explicit SignalGuard(Stopper* stopper);
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  ~SignalGuard();

 private:
  Stopper* stopper_;
  StopSignals* signals_ = nullptr;
};

}  // namespace pgque::detail
