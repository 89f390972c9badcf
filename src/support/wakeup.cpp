#include "support/wakeup.hpp"

#include <cerrno>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace pgque::detail {

namespace {

void prepare(int descriptor) {
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) | O_NONBLOCK);
}

}  // namespace

Wakeup::Wakeup() {
  int ends[2];
  if (::pipe(ends) != 0) throw std::system_error{errno, std::generic_category(), "pipe"};
  read_end_ = ends[0];
  write_end_ = ends[1];
  prepare(read_end_);
  prepare(write_end_);
}

Wakeup::~Wakeup() {
  ::close(read_end_);
  ::close(write_end_);
}

void Wakeup::signal() noexcept {
  const int saved = errno;
  // A full pipe is readable already, so a failed write can be ignored.
  [[maybe_unused]] const auto written = ::write(write_end_, "", 1);
  errno = saved;
}

void Wakeup::reset() noexcept {
  char buffer[64];
  while (::read(read_end_, buffer, sizeof buffer) > 0) {
  }
}

Wakeup::Woken Wakeup::wait(int socket, std::chrono::steady_clock::time_point deadline, int other) const noexcept {
  pollfd descriptors[3] = {{read_end_, POLLIN, 0}, {socket, POLLIN, 0}, {other, POLLIN, 0}};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    constexpr decltype(left) longest_poll = decltype(left){24} * 60 * 60 * 1000;
    const int timeout = static_cast<int>(left < 0 ? 0 : left < longest_poll ? left : longest_poll);
    const int ready = ::poll(descriptors, 3, timeout);
    if (ready < 0 && errno != EINTR) {
      // The kernel is out of memory. That passes, so it is no reason to end the thread.
      if (left <= 0) return Woken::timeout;
      std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    if (ready > 0 && descriptors[0].revents != 0) return Woken::signalled;
    if (ready > 0 && descriptors[1].revents != 0) return Woken::socket;
    if (ready > 0 && descriptors[2].revents != 0) return Woken::other;
    if (left <= timeout && ready == 0) return Woken::timeout;
  }
}

}  // namespace pgque::detail
