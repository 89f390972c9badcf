#include "support/home_process.hpp"

#include <atomic>
#include <new>
#include <stdexcept>
#include <string>

#include <pthread.h>
#include <unistd.h>

namespace pgque::detail {

namespace {

// The id of this process, or 0 if it has to be asked for. getpid() is a system call, too slow for each message.
std::atomic<pid_t> this_process{0};
static_assert(std::atomic<pid_t>::is_always_lock_free, "stop() is called from signal handlers");

void look() {
  this_process.store(::getpid());
}

// Each fork() calls look() in the child.
[[maybe_unused]] const bool looks_after_fork = [] {
  const bool works = ::pthread_atfork(nullptr, nullptr, look) == 0;
  if (works) look();
  return works;
}();

pid_t current_process() noexcept {
  const auto id = this_process.load(std::memory_order_relaxed);
  return id != 0 ? id : ::getpid();
}

struct Kept {
  void* object;
  const Kept* next;
};
std::atomic<const Kept*> kept{nullptr};

}  // namespace

HomeProcess::HomeProcess() noexcept : id_{current_process()} {}

bool HomeProcess::is_this() const noexcept {
  return current_process() == id_;
}

void HomeProcess::require(std::string_view what) const {
  if (is_this()) return;
  throw std::logic_error{std::string{what} +
                         ": this object belongs to the process before fork(); make a new one in the child process"};
}

void keep_for_ever(void* object) noexcept {
  // Without memory for the node the object is not reachable, but it is not destroyed either.
  auto* const node = new (std::nothrow) Kept{object, nullptr};
  if (node) node->next = kept.exchange(node);
}

}  // namespace pgque::detail
