#pragma once

// Which handler a thread runs, for other threads to see. A handler costs some stores, and nobody waits for anybody.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

#include <pgque/message.hpp>

namespace pgque::detail {

struct RunningHandler {
  std::chrono::steady_clock::time_point begun;
  BatchId batch;
  EventId message;
  std::int32_t attempt;
};

// On a cache line of its own.
class alignas(64) HandlerSlot {
 public:
  // While it lives, the slot's thread runs this handler. Without a slot it does nothing.
  class Scope {
   public:
    Scope(HandlerSlot* slot, const Message& message, std::int32_t attempt) : slot_{slot} {
      if (slot_) slot_->begin({std::chrono::steady_clock::now(), message.batch_id, message.msg_id, attempt});
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
      if (slot_) slot_->end();
    }

   private:
    HandlerSlot* slot_;
  };

  // On the slot's thread. Each handler must begin at a later time than those before it.
  void begin(const RunningHandler& handler) noexcept {
    batch_.store(static_cast<std::int64_t>(handler.batch), std::memory_order_release);
    message_.store(static_cast<std::int64_t>(handler.message), std::memory_order_release);
    attempt_.store(handler.attempt, std::memory_order_release);
    begun_.store(handler.begun.time_since_epoch().count(), std::memory_order_release);
  }
  void end() noexcept { begun_.store(none, std::memory_order_release); }

  // On any thread: the handler that is running. Empty if there is none, or if another one begins meanwhile.
  std::optional<RunningHandler> running() const noexcept {
    const auto begun = begun_.load(std::memory_order_acquire);
    if (begun == none) return std::nullopt;
    const RunningHandler handler{
        Clock::time_point{Clock::duration{begun}}, BatchId{batch_.load(std::memory_order_acquire)},
        EventId{message_.load(std::memory_order_acquire)}, attempt_.load(std::memory_order_acquire)};
    // Whoever has read something of a later handler sees here that the earlier one has ended.
    if (begun_.load(std::memory_order_acquire) != begun) return std::nullopt;
    return handler;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::rep none = 0;

  std::atomic<Clock::rep> begun_{none};
  std::atomic<std::int64_t> batch_{0};
  std::atomic<std::int64_t> message_{0};
  std::atomic<std::int32_t> attempt_{0};
};

}  // namespace pgque::detail
