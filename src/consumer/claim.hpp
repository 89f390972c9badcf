#pragma once

// Whose the open batch is: the heartbeat finds out that another worker has taken it over, the handlers are told, and
// the loop ends the batch in one way or another.

#include <atomic>
#include <mutex>
#include <optional>

#include <pgque/message.hpp>

namespace pgque::detail {

class Claim {
 public:
  // The loop has received the batch.
  void begin(BatchId batch) {
    const std::lock_guard lock{mutex_};
    held_ = batch;
    lost_.store(false);
  }

  // The loop begins to finish the batch, or leaves it. From now on its own statements decide whether the batch was
  // lost. False if that was found before; then it is reported already. Calling it again changes nothing.
  bool end() {
    const std::lock_guard lock{mutex_};
    held_.reset();
    return !lost();
  }

  // The batch is another worker's. Unless the loop has ended it or the loss is known, calls report(), which the loop
  // waits for before it goes on with another batch, and returns true.
  template <class Report>
  bool lose(BatchId batch, const Report& report) {
    const std::lock_guard lock{mutex_};
    if (held_ != batch) return false;
    held_.reset();
    report();
    lost_.store(true);
    return true;
  }

  // Whether the batch that was begun last is known to be lost. No handler of it may begin then.
  bool lost() const noexcept { return lost_.load(); }

 private:
  std::mutex mutex_;
  std::optional<BatchId> held_;  // neither lost nor ended
  std::atomic<bool> lost_{false};
};

}  // namespace pgque::detail
