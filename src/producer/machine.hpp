#pragma once

// What a buffered producer does next, apart from doing it: no I/O, no threads, and the caller passes the time. loop.cpp
// carries out the steps.

#include <chrono>
#include <string_view>

#include <pgque/reconnect.hpp>

#include "support/backoff.hpp"

namespace pgque::detail {

enum class ProducerAction {
  wait,     // until Step::until, or until something comes into the buffer
  pause,    // the same, before an attempt to connect
  connect,  // replace the connection
  send,     // the batch that is due
  expire,   // fail the events that have waited for delivery_timeout
  abandon,  // fail everything, because drain_timeout is over
  stop,     // there is nothing left to do
};

std::string_view to_string(ProducerAction action) noexcept;

class ProducerMachine {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr auto never = Clock::time_point::max();

  // The state to decide on.
  struct View {
    Clock::time_point now{};
    Clock::time_point due = never;        // when the next batch is to be sent; never if there is none
    Clock::time_point oldest = never;     // since when the oldest event has been waiting; never if there is none
    Clock::time_point drain_end = never;  // until when close() continues sending; never if it was not called
  };

  struct Step {
    ProducerAction action;
    Clock::time_point until = never;
  };

  // The producer is connected at first.
  ProducerMachine(Backoff backoff, std::chrono::milliseconds delivery_timeout)
      : backoff_{backoff}, delivery_timeout_{delivery_timeout} {}

  Step next(const View& view) const;

  // How things went.
  void sent() { backoff_.reset(); }  // also if the batch was refused: the connection is good
  void connected() noexcept { connected_ = true; }
  void disconnected(Clock::time_point now);  // also if connecting failed
  void expired(Clock::time_point now) noexcept;

 private:
  Backoff backoff_;
  const std::chrono::milliseconds delivery_timeout_;
  bool connected_ = true;
  Clock::time_point pause_end_{};
  // Many events may expire one after another, so the next search for them is not before this time.
  Clock::time_point no_expiry_before_ = Clock::time_point::min();
};

}  // namespace pgque::detail
