#include "consumer/handler_slot.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::HandlerSlot;
using detail::RunningHandler;

// All of it follows from one number.
RunningHandler handler(std::int32_t number) {
  return {std::chrono::steady_clock::time_point{std::chrono::nanoseconds{number}}, BatchId{number}, EventId{number},
          number};
}

TEST(HandlerSlot, TellsWhichHandlerRuns) {
  HandlerSlot slot;
  EXPECT_FALSE(slot.running());
  slot.begin({handler(7).begun, BatchId{1}, EventId{2}, 3});
  const auto running = slot.running();
  ASSERT_TRUE(running);
  EXPECT_EQ(running->begun, handler(7).begun);
  EXPECT_EQ(running->batch, BatchId{1});
  EXPECT_EQ(running->message, EventId{2});
  EXPECT_EQ(running->attempt, 3);
  slot.end();
  EXPECT_FALSE(slot.running());
}

TEST(HandlerSlot, IsFilledByAScopeWithTheTimeWhenItBegan) {
  HandlerSlot slot;
  Message message;
  message.batch_id = BatchId{1};
  message.msg_id = EventId{2};
  const auto before = std::chrono::steady_clock::now();
  {
    const HandlerSlot::Scope scope{&slot, message, 3};
    const auto running = slot.running();
    ASSERT_TRUE(running);
    EXPECT_GE(running->begun, before);
    EXPECT_LE(running->begun, std::chrono::steady_clock::now());
    EXPECT_EQ(running->batch, BatchId{1});
    EXPECT_EQ(running->message, EventId{2});
    EXPECT_EQ(running->attempt, 3);
  }
  EXPECT_FALSE(slot.running());
  const HandlerSlot::Scope without{nullptr, message, 3};
}

TEST(HandlerSlot, NeverMixesTwoHandlersWhenItIsReadMeanwhile) {
  HandlerSlot slot;
  std::atomic<int> seen{0};
  std::atomic<bool> quit{false};
  std::thread writing{[&] {
    for (std::int32_t number = 1; !quit; ++number) {
      slot.begin(handler(number));
      slot.end();
    }
  }};
  constexpr int enough = 1000;
  while (seen < enough) {
    const auto running = slot.running();
    if (!running) continue;
    ++seen;
    const auto expected = handler(running->attempt);
    if (running->begun == expected.begun && running->batch == expected.batch && running->message == expected.message) {
      continue;
    }
    ADD_FAILURE() << "a mixture";
    break;
  }
  quit = true;
  writing.join();
}

}  // namespace
}  // namespace pgque::test
