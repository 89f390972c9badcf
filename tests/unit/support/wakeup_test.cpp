#include "support/wakeup.hpp"

#include <atomic>
#include <cerrno>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::Wakeup;
using Woken = Wakeup::Woken;

constexpr int no_socket = -1;

// Two connected sockets.
struct Sockets {
  Sockets() {
    if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) throw std::runtime_error{"socketpair"};
  }
  Sockets(const Sockets&) = delete;
  Sockets& operator=(const Sockets&) = delete;
  ~Sockets() {
    for (const int end : ends) ::close(end);
  }
  void send() const { ASSERT_EQ(::write(ends[1], "x", 1), 1); }
  int ends[2]{};
};

Woken wait_long(const Wakeup& wakeup, int socket = no_socket) {
  return wakeup.wait(socket, Clock::now() + patience);
}
Woken look(const Wakeup& wakeup, int socket = no_socket) {
  return wakeup.wait(socket, Clock::now());
}

TEST(Wakeup, WaitsUntilTheDeadline) {
  const Wakeup wakeup;
  const auto deadline = Clock::now() + 20ms;
  EXPECT_EQ(wakeup.wait(no_socket, deadline), Woken::timeout);
  EXPECT_GE(Clock::now(), deadline);
}

TEST(Wakeup, DoesNotWaitForADeadlineThatIsPast) {
  const Wakeup wakeup;
  EXPECT_EQ(wakeup.wait(no_socket, Clock::now() - 1h), Woken::timeout);
}

// poll() refuses more descriptors than the process may have, just as it does for want of memory.
TEST(Wakeup, SurvivesARefusedPoll) {
  Wakeup wakeup;
  wakeup.signal();
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlimit none = limit;
  none.rlim_cur = 1;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto deadline = Clock::now() + 20ms;
  const auto woken = wakeup.wait(no_socket, deadline);
  const auto ended = Clock::now();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(woken, Woken::timeout);
  EXPECT_GE(ended, deadline);
  EXPECT_EQ(look(wakeup), Woken::signalled);
}

TEST(Wakeup, RemembersASignalFromBeforeTheWait) {
  Wakeup wakeup;
  wakeup.signal();
  EXPECT_EQ(wait_long(wakeup), Woken::signalled);
  EXPECT_EQ(wakeup.wait(no_socket, Clock::now() - 1h), Woken::signalled);  // also when there is no time to wait
}

TEST(Wakeup, StaysSignalledUntilReset) {
  Wakeup wakeup;
  wakeup.signal();
  EXPECT_EQ(look(wakeup), Woken::signalled);
  EXPECT_EQ(look(wakeup), Woken::signalled);
  wakeup.reset();
  EXPECT_EQ(look(wakeup), Woken::timeout);
  wakeup.signal();
  EXPECT_EQ(look(wakeup), Woken::signalled);
}

TEST(Wakeup, TakesAnyNumberOfSignals) {
  Wakeup wakeup;
  for (int i = 0; i < 100'000; ++i) wakeup.signal();  // more than a pipe holds
  EXPECT_EQ(look(wakeup), Woken::signalled);
  wakeup.reset();
  EXPECT_EQ(look(wakeup), Woken::timeout);
}

TEST(Wakeup, ResetsWithoutASignal) {
  Wakeup wakeup;
  wakeup.reset();
  EXPECT_EQ(look(wakeup), Woken::timeout);
}

TEST(Wakeup, IsSignalledFromAnotherThread) {
  Wakeup wakeup;
  std::thread other{[&] { wakeup.signal(); }};
  EXPECT_EQ(wait_long(wakeup), Woken::signalled);
  other.join();
}

std::atomic<Wakeup*> signalled_by_handler{nullptr};
std::atomic<int> interruptions{0};

TEST(Wakeup, IsSignalledFromASignalHandler) {
  Wakeup wakeup;
  signalled_by_handler = &wakeup;
  const SignalHandler handler{SIGUSR1, [](int) { signalled_by_handler.load()->signal(); }};
  ASSERT_EQ(::raise(SIGUSR1), 0);
  EXPECT_EQ(wait_long(wakeup), Woken::signalled);
}

TEST(Wakeup, IsSignalledFromAHandlerThatInterruptsTheWait) {
  Wakeup wakeup;
  signalled_by_handler = &wakeup;
  const SignalHandler handler{SIGUSR1, [](int) { signalled_by_handler.load()->signal(); }};
  auto woken = std::async(std::launch::async, [&, waiter = ::pthread_self()] {
    ::pthread_kill(waiter, SIGUSR1);
    return true;
  });
  EXPECT_EQ(wait_long(wakeup), Woken::signalled);
  EXPECT_TRUE(woken.get());
}

TEST(Wakeup, WaitsOnWhenInterrupted) {
  // ThreadSanitizer can leave a thread with every signal blocked that gets them this fast.
  if (sanitized) GTEST_SKIP() << "not with a sanitizer";
  interruptions = 0;
  const SignalHandler handler{SIGUSR1, [](int) { ++interruptions; }};
  Wakeup wakeup;
  std::promise<pthread_t> waiter;
  auto woken = std::async(std::launch::async, [&] {
    waiter.set_value(::pthread_self());
    return wait_long(wakeup);
  });
  const auto thread = waiter.get_future().get();
  for (int i = 1; i <= 50; ++i) {
    ::pthread_kill(thread, SIGUSR1);
    do {
      ASSERT_EQ(woken.wait_for(0s), std::future_status::timeout);
    } while (interruptions < i);
  }
  wakeup.signal();
  EXPECT_EQ(woken.get(), Woken::signalled);
}

TEST(Wakeup, KeepsErrno) {
  Wakeup wakeup;
  for (int i = 0; i < 100'000; ++i) wakeup.signal();
  errno = ENOENT;
  wakeup.signal();  // fails inside: the pipe is full
  EXPECT_EQ(errno, ENOENT);
}

TEST(Wakeup, IsWokenByTheSocket) {
  const Wakeup wakeup;
  const Sockets sockets;
  EXPECT_EQ(look(wakeup, sockets.ends[0]), Woken::timeout);
  std::thread other{[&] { sockets.send(); }};
  EXPECT_EQ(wait_long(wakeup, sockets.ends[0]), Woken::socket);
  other.join();
  EXPECT_EQ(look(wakeup, sockets.ends[0]), Woken::socket);  // nothing was read from it
}

TEST(Wakeup, IsWokenByASocketWhosePeerIsGone) {
  const Wakeup wakeup;
  const Sockets sockets;
  ::shutdown(sockets.ends[1], SHUT_RDWR);
  EXPECT_EQ(wait_long(wakeup, sockets.ends[0]), Woken::socket);
}

TEST(Wakeup, PutsTheSignalBeforeTheSocket) {
  Wakeup wakeup;
  const Sockets sockets;
  sockets.send();
  wakeup.signal();
  EXPECT_EQ(look(wakeup, sockets.ends[0]), Woken::signalled);
}

TEST(Wakeup, HasADescriptorForOthersToPoll) {
  Wakeup wakeup;
  const Wakeup waiting;
  EXPECT_EQ(look(waiting, wakeup.descriptor()), Woken::timeout);
  wakeup.signal();
  EXPECT_EQ(wait_long(waiting, wakeup.descriptor()), Woken::socket);
}

TEST(Wakeup, IsNotInheritedByPrograms) {
  const Wakeup wakeup;
  EXPECT_EQ(::fcntl(wakeup.descriptor(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(Wakeup, WorksBeyondTheLimitOfSelect) {
  // pgque-py's select() gave up at descriptor 1024.
  const Sockets sockets;
  const int high = ::fcntl(sockets.ends[0], F_DUPFD, 1024);
  if (high < 0) GTEST_SKIP() << "not that many descriptors allowed";
  const Wakeup wakeup;
  sockets.send();
  EXPECT_EQ(wait_long(wakeup, high), Woken::socket);
  ::close(high);
}

}  // namespace
}  // namespace pgque::test
