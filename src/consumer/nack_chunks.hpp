#pragma once

// How many messages are nacked by one statement: no I/O, no clock.

#include <algorithm>
#include <chrono>
#include <cstddef>

namespace pgque::detail {

// PgQue reads the whole batch for each nack, so what a nack costs depends on the batch. Statements that take about as
// long as the target can neither run into a time limit nor delay a stop.
class NackChunks {
 public:
  // `batch` is the number of messages in the batch, as far as it is known. `limit` is that of a statement, or 0.
  NackChunks(std::size_t batch, std::chrono::milliseconds limit) noexcept {
    if (limit.count() == 0) {
      constexpr std::size_t messages_read = 50'000;  // which takes a server some 50 ms
      size_ = std::clamp<std::size_t>(messages_read / std::max<std::size_t>(batch, 1), 1, 8);
    } else {
      // It begins with one message: a chunk that always exceeded the limit would be repeated for ever.
      target_ = std::min(target_, std::chrono::nanoseconds{limit} / 4);
    }
  }

  std::size_t size() const noexcept { return size_; }
  // A statement with a chunk took so long.
  void took(std::chrono::nanoseconds time) noexcept {
    constexpr std::size_t largest = 4096;
    if (time < target_ / 2) size_ = std::min(size_ * 2, largest);
    if (time > target_) size_ = std::max<std::size_t>(size_ / 2, 1);
  }
  // It may have taken too long. Perhaps the same messages are nacked again.
  void failed() noexcept { size_ = std::max<std::size_t>(size_ / 2, 1); }

 private:
  std::chrono::nanoseconds target_ = std::chrono::milliseconds{100};
  std::size_t size_ = 1;
};

}  // namespace pgque::detail
