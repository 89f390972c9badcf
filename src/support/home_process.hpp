#pragma once

// What fork() copies into a child process, and what is of no use there: the objects are copied, but not the threads. A
// mutex may be locked for ever, and a socket or a pipe is still the parent's.

#include <memory>
#include <string_view>
#include <utility>

#include <sys/types.h>

namespace pgque::detail {

// The process that made an object.
class HomeProcess {
 public:
  HomeProcess() noexcept;
  // False in a child of that process. Async-signal-safe, and no system call.
  bool is_this() const noexcept;
  // Throws std::logic_error unless this is that process. `what` begins the text.
  void require(std::string_view what) const;

 private:
  pid_t id_;
};

// The object is never destroyed. It stays reachable, so that no leak checker reports it.
void keep_for_ever(void* object) noexcept;

// Deletes an object in the process that made it, and leaves it alone in a child: its destructor would talk to the
// parent's server, or wait for threads that do not exist.
template <class T>
class DeleteAtHome {
 public:
  void operator()(T* object) const noexcept {
    if (home_.is_this()) {
      delete object;
    } else {
      keep_for_ever(object);
    }
  }

 private:
  HomeProcess home_;
};

template <class T>
using AtHome = std::unique_ptr<T, DeleteAtHome<T>>;

template <class T, class... Args>
AtHome<T> make_at_home(Args&&... args) {
  return AtHome<T>{new T(std::forward<Args>(args)...)};
}

}  // namespace pgque::detail
