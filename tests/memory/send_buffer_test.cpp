// What a buffer does when there is no memory.

#include "producer/send_buffer.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "failing_new.hpp"

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::Extras;
using detail::SendBatch;
using detail::SendBatches;
using detail::SendBuffer;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using Failure = AllocationFailure;

constexpr auto t0 = SendBuffer::Clock::time_point{1000s};
// No short string, so that it is somewhere on the heap.
const std::string long_text(100, 'x');
const std::string long_name(50, 'q');
const std::string long_type(50, 't');

class Buffer : public SendBuffer {
 public:
  Buffer() : SendBuffer{{20, 10'000, 5ms, 1000, 1'000'000}} {}
  void put(const std::string& type, std::chrono::milliseconds at = 0ms, int count = 1) {
    for (int i = 0; i < count; ++i) add(long_name, type, text(long_text), {}, std::promise<EventId>{}, t0 + at);
  }
  void put_keyed(const std::string& type, std::chrono::milliseconds at = 0ms, int count = 1) {
    for (int i = 0; i < count; ++i) add(long_name, type, text(long_text), keyed(), std::promise<EventId>{}, t0 + at);
  }
  static Extras keyed() { return {long_text, "{\"" + long_text + "\":\"\"}"}; }
  auto state() const {
    return std::tuple{empty(), messages(), bytes(), due(), oldest(), first_number(), next_number()};
  }
};

std::vector<std::uint64_t> numbers(const SendBatches& batches) {
  std::vector<std::uint64_t> out;
  for (const auto& batch : batches) {
    EXPECT_EQ(batch.payloads.size(), batch.waiting.size());
    for (const auto& one : batch.waiting) out.push_back(one.number);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// Each allocation of add() fails once, in each of these situations.
TEST(SendBufferMemory, AnAddWithoutMemoryChangesNothing) {
  const struct {
    const char* what;
    std::function<void(Buffer&)> before;
    int least;  // as many allocations there are at least
    std::string type = "t";
    bool with_extras = false;
  } situations[] = {
      {"the first event", [](Buffer&) {}, 5},
      {"another type", [](Buffer& buffer) { buffer.put("other"); }, 5},
      {"a full batch is there", [](Buffer& buffer) { buffer.put("t", 0ms, 20); }, 3},
      {"a batch grows", [](Buffer& buffer) { buffer.put("t", 0ms, 16); }, 2},
      {"a batch of the type is taken", [](Buffer& buffer) { (buffer.put("t"), buffer.take(t0)); }, 3},
      {"there is room", [](Buffer& buffer) { buffer.put("t"); }, 0},
      {"the first event with extras", [](Buffer&) {}, 8, long_type, true},
      {"others with extras", [](Buffer& buffer) { buffer.put_keyed("other"); }, 2, long_type, true},
      {"its type with extras", [](Buffer& buffer) { buffer.put_keyed(long_type); }, 1, long_type, true},
      {"its type without extras", [](Buffer& buffer) { buffer.put(long_type, 0ms, 19); }, 1, long_type, true},
      {"a full batch with extras is there", [](Buffer& buffer) { buffer.put_keyed("other", 0ms, 20); }, 6, long_type,
       true},
      {"a batch with extras grows", [](Buffer& buffer) { buffer.put_keyed("other", 0ms, 16); }, 5, long_type, true},
      {"it has no extras, and others of its type have", [](Buffer& buffer) { buffer.put_keyed(long_type); }, 1,
       long_type},
  };
  for (const auto& [what, before, least, type, with_extras] : situations) {
    for (int number = 1;; ++number) {
      Buffer buffer;
      before(buffer);
      const auto state = buffer.state();
      auto payload = text(long_text);
      auto extras = with_extras ? Buffer::keyed() : Extras{};
      std::promise<EventId> promise;
      auto future = promise.get_future();
      bool failed = false;
      {
        const Failure failure{Failure::In::this_thread, number};
        try {
          buffer.add(long_name, type, std::move(payload), std::move(extras), std::move(promise), t0);
        } catch (const std::bad_alloc&) {
          failed = true;
        }
        ASSERT_EQ(failed, failure.happened()) << what << ", allocation " << number;
      }
      if (!failed) {
        EXPECT_GT(number, least) << what;
        break;
      }
      EXPECT_EQ(buffer.state(), state) << what << ", allocation " << number;
      // The buffer works as if nothing had been, and so does what was not added.
      const auto in_buffer = buffer.next_number() - buffer.first_number();
      buffer.add(long_name, type, std::move(payload), std::move(extras), std::move(promise), t0);
      EXPECT_EQ(buffer.messages(), std::get<1>(state) + 1);
      const auto batches = buffer.take_older(SendBuffer::never);
      EXPECT_THAT(numbers(batches), SizeIs(in_buffer + 1)) << what << ", allocation " << number;
      EXPECT_EQ(batches.back().payloads.back().text(), long_text);
      if (with_extras) {
        EXPECT_EQ(batches.back().extras.back().key, long_text);
      }
      EXPECT_TRUE(buffer.empty());
      EXPECT_EQ(future.wait_for(0s), std::future_status::timeout) << "the promise is not broken";
    }
  }
}

TEST(SendBufferMemory, WhatIsInTheBufferIsTakenPutBackAndReleasedWithoutMemory) {
  Buffer buffer;
  buffer.put("t", 0ms, 40);
  buffer.put("u", 1ms, 3);
  buffer.put_keyed(long_type, 1ms);
  buffer.put("t", 2ms);
  SendBatches taken;
  SendBatches older;
  bool failed = true;
  {
    const Failure failure{Failure::In::this_thread, 1, Failure::all_later};
    taken = buffer.take(t0 + 1h);
    buffer.put_back(std::move(taken));
    buffer.flush();
    older = buffer.take_older(t0 + 1ms);
    // Only one is left.
    taken = buffer.take(t0 + 1h);
    buffer.put_back(std::move(taken));
    taken = buffer.take(t0 + 1h);
    buffer.release(taken.front());
    for (const auto& batch : older) buffer.release(batch);
    failed = failure.happened();
  }
  EXPECT_FALSE(failed);
  EXPECT_THAT(older, SizeIs(4));
  EXPECT_EQ(buffer.messages(), 0u);
  EXPECT_EQ(buffer.bytes(), 0u);
  EXPECT_TRUE(buffer.empty());
}

TEST(SendBufferMemory, OldEventsThatShareABatchWithLaterOnesStayUntilThereIsMemory) {
  for (int number = 1;; ++number) {
    Buffer buffer;
    buffer.put_keyed("t", 0ms, 2);
    buffer.put("t", 2ms, 3);
    SendBatches taken;
    bool failed = false;
    {
      const Failure failure{Failure::In::this_thread, number};
      taken = buffer.take_older(t0 + 1ms);
      failed = failure.happened();
    }
    if (!failed) {
      EXPECT_GT(number, 4);
      break;
    }
    EXPECT_THAT(taken, IsEmpty());
    EXPECT_EQ(buffer.oldest(), t0);
    EXPECT_THAT(numbers(buffer.take_older(t0 + 1ms)), ElementsAre(0, 1));
    EXPECT_THAT(numbers(buffer.take_older(SendBuffer::never)), ElementsAre(2, 3, 4));
    EXPECT_EQ(buffer.messages(), 5u) << "until they are released";
  }
}

}  // namespace
}  // namespace pgque::test
