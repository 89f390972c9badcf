#pragma once

// The request to pause: how it is made, and how it wakes the thread that it concerns.

#include <atomic>
#include <cstdint>

#include "support/wakeup.hpp"

namespace pgque::detail {

class Pause {
 public:
  // Both may be called from any thread.
  void pause() noexcept {
    requested_.store(true);
    changed_.signal();
  }
  void resume() noexcept {
    requested_.store(false);
    resumes_.fetch_add(1);
    changed_.signal();
  }

  bool requested() const noexcept { return requested_.load(); }
  // How often resume() was called, so that it can also end what was not requested here.
  std::uint64_t resumes() const noexcept { return resumes_.load(); }

  // Becomes readable with each change, until forget_changes(). Look at the request after that, not before.
  int descriptor() const noexcept { return changed_.descriptor(); }
  void forget_changes() noexcept { changed_.reset(); }

 private:
  std::atomic<bool> requested_{false};
  std::atomic<std::uint64_t> resumes_{0};
  Wakeup changed_;
};

}  // namespace pgque::detail
