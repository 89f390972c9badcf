#pragma once

// Children of the test's own process, made by fork(), and what a process shares with them.

#include <cerrno>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pgque::test {

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PGQUE_TEST_THREAD_SANITIZER true
#endif
#elif defined(__SANITIZE_THREAD__)
#define PGQUE_TEST_THREAD_SANITIZER true
#endif
#ifndef PGQUE_TEST_THREAD_SANITIZER
#define PGQUE_TEST_THREAD_SANITIZER false
#endif
inline constexpr bool thread_sanitizer = PGQUE_TEST_THREAD_SANITIZER;

// Makes a child process that calls `body` and exits with what it returns, without any clean-up.
inline pid_t make_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error{errno, std::generic_category(), "fork"};
  if (child > 0) return child;
  ::alarm(60);  // one that hangs is a failure
  int code = 99;
  try {
    code = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "in the child process: %s\n", error.what());
  }
  std::fflush(nullptr);
  ::_exit(code);
}

// Waits for its end; the exit status, or 128 + the signal that ended it.
inline int wait_child(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error{errno, std::generic_category(), "waitpid"};
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

inline int in_child(const std::function<int()>& body) {
  return wait_child(make_child(body));
}

// What a child process checks: its exit code is the number of the first check that fails, or 0.
class Checks {
 public:
  void operator()(bool holds) {
    ++count_;
    if (!holds && failed_ == 0) failed_ = count_;
  }
  // Whether a call is refused because the object is the parent's.
  void refused(const std::function<void()>& call) {
    bool refused = false;
    try {
      call();
    } catch (const std::logic_error& error) {
      refused = std::string{error.what()}.find("the process before fork()") != std::string::npos;
    }
    (*this)(refused);
  }
  int result() const { return failed_; }

 private:
  int count_ = 0;
  int failed_ = 0;
};

struct Pipe {
  int read_end = -1;
  int write_end = -1;

  // How many bytes wait in it.
  int waiting() const {
    int bytes = -1;
    if (::ioctl(read_end, FIONREAD, &bytes) != 0) throw std::system_error{errno, std::generic_category(), "ioctl"};
    return bytes;
  }
  void write_byte() const {
    if (::write(write_end, "", 1) != 1) throw std::system_error{errno, std::generic_category(), "write"};
  }
};

// The first pipe that `make` makes: by it a stop wakes the threads of the object that it makes. The system gives out
// the lowest numbers first.
inline Pipe pipe_made_by(const std::function<void()>& make) {
  constexpr int most = 1024;
  const auto mode = [](int descriptor) {
    struct stat file {};
    const bool is_pipe = ::fstat(descriptor, &file) == 0 && S_ISFIFO(file.st_mode);
    return is_pipe ? ::fcntl(descriptor, F_GETFL) & O_ACCMODE : -1;
  };
  std::vector<int> before;
  for (int descriptor = 0; descriptor < most; ++descriptor) before.push_back(mode(descriptor));
  make();
  Pipe pipe;
  for (int descriptor = 0; descriptor < most; ++descriptor) {
    const int now = mode(descriptor);
    if (now < 0 || before[static_cast<std::size_t>(descriptor)] >= 0) continue;
    int& end = now == O_WRONLY ? pipe.write_end : pipe.read_end;
    if (end < 0) end = descriptor;
  }
  if (pipe.read_end < 0 || pipe.write_end < 0) throw std::runtime_error{"it made no pipe"};
  return pipe;
}

}  // namespace pgque::test
