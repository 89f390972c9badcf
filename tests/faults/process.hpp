#pragma once

// Programs run by a test.

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "support.hpp"

namespace pgque::test {

struct ProcessOptions {
  // PostgreSQL refuses to run as root: run as the user `postgres`, or `nobody`, if this process is root's.
  bool as_server_user = false;
  std::vector<std::pair<std::string, std::string>> environment{};
  // If set, it is given each line, on a thread of its own until wait() returns, and nothing is kept.
  std::function<void(const std::string&)> on_line{};
};

// A running program. Its standard output and error are read line by line, its standard input can be written to.
// Killed in the destructor.
class Process {
 public:
  explicit Process(const std::vector<std::string>& command, const ProcessOptions& options = {});
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();

  pid_t pid() const noexcept { return pid_; }
  void signal(int number);
  void write_line(const std::string& line);
  // Waits for its end; the exit status, or 128 + the signal that ended it.
  int wait();

  std::vector<std::string> lines() const;
  // How many of the lines begin with this.
  int count(const std::string& beginning) const;
  bool wait_line(const std::string& beginning, int times = 1, std::chrono::milliseconds patience = 20s) const {
    return wait_until([&] { return count(beginning) >= times; }, patience);
  }

 private:
  void read();

  const std::function<void(const std::string&)> on_line_;
  pid_t pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  int status_ = -1;
  bool ended_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::thread reader_;
};

// Runs it to its end; throws std::runtime_error with what it printed unless it exits with 0.
void run(const std::vector<std::string>& command, const ProcessOptions& options = {});

// The user that servers run as: its name, empty if that is the present user.
std::string server_user();

}  // namespace pgque::test
