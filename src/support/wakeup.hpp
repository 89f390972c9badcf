#pragma once

// Waiting for a socket, a time, or another thread.

#include <chrono>

namespace pgque::detail {

// A pipe whose read end becomes readable with signal() and stays so until reset().
class Wakeup {
 public:
  Wakeup();  // throws std::system_error when out of file descriptors
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;
  ~Wakeup();

  // Async-signal-safe; keeps errno.
  void signal() noexcept;
  void reset() noexcept;
  // Becomes readable when signalled.
  int descriptor() const noexcept { return read_end_; }

  enum class Woken { signalled, socket, other, timeout };
  // Blocks until signalled, until `socket` or `other` (unless negative) can be read or has failed, or until the
  // deadline.
  Woken wait(int socket, std::chrono::steady_clock::time_point deadline, int other = -1) const noexcept;

 private:
  int read_end_ = -1;
  int write_end_ = -1;
};

}  // namespace pgque::detail
