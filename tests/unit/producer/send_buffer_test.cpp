#include "producer/send_buffer.hpp"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::SendBatch;
using detail::SendBuffer;
using detail::SendLimits;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr auto t0 = Clock::time_point{1000s};
constexpr auto never = SendBuffer::never;
constexpr auto at_once = SendBuffer::at_once;

// Batches of 3 events or 10 bytes after 5 ms; room for 8 events or 40 bytes.
const SendLimits small{3, 10, 5ms, 8, 40};

class Buffer : public SendBuffer {
 public:
  explicit Buffer(const SendLimits& limits = small) : SendBuffer{limits} {}
  // At t0 + `at`. Payloads are text of any length.
  void put(const std::string& payload, std::chrono::milliseconds at = 0ms, const std::string& type = "t",
           const std::string& queue = "q") {
    add(queue, type, text(payload), {}, std::promise<EventId>{}, t0 + at);
  }
  // With a key.
  void put_keyed(const std::string& payload, const std::string& type = "t", std::chrono::milliseconds at = 0ms,
                 const std::string& queue = "q") {
    add(queue, type, text(payload), {"k"}, std::promise<EventId>{}, t0 + at);
  }
  void put_all(const std::vector<std::string>& payloads) {
    for (const auto& payload : payloads) put(payload);
  }
  SendBatch take_at(std::chrono::milliseconds at) {
    auto taken = take(t0 + at);
    return std::move(taken.front());
  }
};

std::vector<std::string> texts(const SendBatch& batch) {
  std::vector<std::string> out;
  for (const auto& payload : batch.payloads) out.push_back(*payload.text());
  return out;
}

// The types and keys of a batch with extras.
std::vector<std::string> extras(const SendBatch& batch) {
  std::vector<std::string> out;
  for (const auto& one : batch.extras) out.push_back(one.type + (one.key ? ":" + *one.key : ""));
  return out;
}

std::vector<std::uint64_t> numbers(const SendBatch& batch) {
  std::vector<std::uint64_t> out;
  for (const auto& one : batch.waiting) out.push_back(one.number);
  return out;
}

TEST(SendBuffer, IsNeverDueWhenEmpty) {
  const Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.due(), never);
  EXPECT_EQ(buffer.oldest(), never);
  EXPECT_EQ(buffer.first_number(), buffer.next_number());
}

// What is due when, and what is then taken.
TEST(SendBuffer, KnowsWhenABatchIsDueAndWhatIsInIt) {
  const struct {
    const char* what;
    std::vector<std::string> payloads;  // all at t0
    Clock::time_point due;
    std::vector<std::string> taken;
    Clock::time_point due_then;
  } cases[] = {
      {"one lingers", {"a"}, t0 + 5ms, {"a"}, never},
      {"an empty one too", {""}, t0 + 5ms, {""}, never},
      {"two linger", {"a", "b"}, t0 + 5ms, {"a", "b"}, never},
      {"full by count", {"a", "b", "c"}, at_once, {"a", "b", "c"}, never},
      {"full by count, and more", {"a", "b", "c", "d"}, at_once, {"a", "b", "c"}, t0 + 5ms},
      {"twice full by count", {"a", "b", "c", "d", "e", "f"}, at_once, {"a", "b", "c"}, at_once},
      {"nearly full by bytes", {"123456789"}, t0 + 5ms, {"123456789"}, never},
      {"full by bytes", {"1234567890"}, at_once, {"1234567890"}, never},
      {"full by bytes of two", {"12345", "67890"}, at_once, {"12345", "67890"}, never},
      {"the next does not fit", {"12345", "678901"}, at_once, {"12345"}, t0 + 5ms},
      {"too large by itself", {"12345678901234567890"}, at_once, {"12345678901234567890"}, never},
      {"too large, after another", {"a", "12345678901234567890", "b"}, at_once, {"a"}, at_once},
  };
  for (const auto& [what, payloads, due, taken, due_then] : cases) {
    Buffer buffer;
    buffer.put_all(payloads);
    EXPECT_EQ(buffer.due(), due) << what;
    const auto batch = buffer.take_at(5ms);
    EXPECT_EQ(texts(batch), taken) << what;
    EXPECT_EQ(batch.queue, "q");
    EXPECT_EQ(batch.type, "t");
    EXPECT_EQ(batch.waiting.size(), batch.payloads.size());
    EXPECT_EQ(buffer.due(), due_then) << what;
  }
}

TEST(SendBuffer, IsDueAtOnceWithoutLingering) {
  auto limits = small;
  limits.linger = 0ms;
  Buffer buffer{limits};
  buffer.put("a");
  EXPECT_EQ(buffer.due(), t0);
}

TEST(SendBuffer, LingersFromTheOldestEventOn) {
  Buffer buffer;
  buffer.put("a", 0ms);
  buffer.put("b", 4ms);
  EXPECT_EQ(buffer.due(), t0 + 5ms);
  EXPECT_EQ(buffer.oldest(), t0);
  EXPECT_THAT(texts(buffer.take_at(5ms)), ElementsAre("a", "b"));
}

TEST(SendBuffer, KeepsQueuesAndTypesApart) {
  Buffer buffer;
  buffer.put("a", 0ms, "t", "q");
  buffer.put("b", 1ms, "u", "q");
  buffer.put("c", 2ms, "t", "r");
  buffer.put("d", 3ms, "t", "q");
  EXPECT_EQ(buffer.due(), t0 + 5ms);
  EXPECT_THAT(texts(buffer.take_at(10ms)), ElementsAre("a", "d"));
  EXPECT_EQ(buffer.due(), t0 + 6ms);
  const auto second = buffer.take_at(10ms);
  EXPECT_THAT(texts(second), ElementsAre("b"));
  EXPECT_EQ(second.type, "u");
  const auto third = buffer.take_at(10ms);
  EXPECT_THAT(texts(third), ElementsAre("c"));
  EXPECT_EQ(third.queue, "r");
  EXPECT_TRUE(buffer.empty());
}

TEST(SendBuffer, DoesNotConfuseNamesThatRunTogether) {
  Buffer buffer;
  buffer.put("a", 0ms, "xy", "z");
  buffer.put("b", 0ms, "x", "yz");
  buffer.put("c", 0ms, "zxy", "");
  EXPECT_THAT(texts(buffer.take_at(5ms)), ElementsAre("a"));
  EXPECT_THAT(texts(buffer.take_at(5ms)), ElementsAre("b"));
  EXPECT_THAT(texts(buffer.take_at(5ms)), ElementsAre("c"));
}

TEST(SendBuffer, KindsOfPayloadShareABatchInTheirOrder) {
  Buffer buffer;
  buffer.add("q", "t", Payload{"1"}, {}, {}, t0);
  buffer.add("q", "t", text("x"), {}, {}, t0);
  buffer.add("q", "t", Payload{std::nullopt}, {}, {}, t0);
  const auto batch = buffer.take_at(5ms);
  ASSERT_THAT(batch.payloads, SizeIs(3));
  EXPECT_EQ(batch.payloads[0].format(), Payload::Format::json);
  EXPECT_EQ(batch.payloads[1].format(), Payload::Format::text);
  EXPECT_EQ(batch.payloads[2].text(), std::nullopt);
  EXPECT_EQ(batch.bytes, 2u);
}

TEST(SendBuffer, EventsWithExtrasOfAllTypesOfAQueueShareABatch) {
  Buffer buffer;
  buffer.put_keyed("a", "t");
  buffer.put_keyed("b", "u");
  buffer.put_keyed("c", "t", 0ms, "other");
  buffer.add("q", "v", text("d"), {std::nullopt, "{}"}, {}, t0);
  const auto batch = buffer.take_at(5ms);
  EXPECT_EQ(batch.queue, "q");
  EXPECT_EQ(batch.type, "");
  EXPECT_THAT(texts(batch), ElementsAre("a", "b", "d"));
  EXPECT_THAT(extras(batch), ElementsAre("t:k", "u:k", "v"));
  EXPECT_EQ(batch.extras[2].headers, "{}");
  EXPECT_EQ(batch.bytes, 10u) << "with keys, headers and types";
  EXPECT_EQ(buffer.bytes(), 13u);
  EXPECT_EQ(buffer.take_at(5ms).queue, "other");
}

TEST(SendBuffer, EventsWithoutExtrasStayApartFromThoseOfOtherTypesWithThem) {
  Buffer buffer;
  buffer.put_keyed("a", "t");
  buffer.put("b", 0ms, "u");
  EXPECT_THAT(texts(buffer.take_at(5ms)), ElementsAre("a"));
  const auto batch = buffer.take_at(5ms);
  EXPECT_EQ(batch.type, "u");
  EXPECT_THAT(batch.extras, IsEmpty());
}

// Whichever comes first, the others of its queue and type follow it.
TEST(SendBuffer, EventsOfOneTypeKeepTheirOrderWithAndWithoutExtras) {
  Buffer keyed_first;
  keyed_first.put_keyed("a", "t");
  keyed_first.put("b", 0ms, "t");
  keyed_first.put_keyed("c", "u");
  const auto many = keyed_first.take_at(5ms);
  EXPECT_THAT(texts(many), ElementsAre("a", "b", "c"));
  EXPECT_THAT(extras(many), ElementsAre("t:k", "t", "u:k"));
  EXPECT_TRUE(keyed_first.empty());

  Buffer plain_first;
  plain_first.put("a", 0ms, "t");
  plain_first.put("b", 0ms, "t");
  plain_first.put_keyed("c", "t");
  plain_first.put("d", 0ms, "t");
  plain_first.put_keyed("e", "u");
  const auto one = plain_first.take_at(5ms);
  EXPECT_EQ(one.type, "t");
  EXPECT_THAT(texts(one), ElementsAre("a", "b", "c"));
  EXPECT_THAT(extras(one), ElementsAre("", "", ":k"));
  const auto next = plain_first.take_at(5ms);
  EXPECT_THAT(texts(next), ElementsAre("d"));
  EXPECT_THAT(next.extras, IsEmpty()) << "of this batch nothing has extras";
  EXPECT_EQ(plain_first.take_at(5ms).type, "");
}

TEST(SendBuffer, FollowsThoseThatAreTakenUntilTheirRelease) {
  Buffer buffer;
  buffer.put_keyed("a", "t");
  const auto many = buffer.take_at(5ms);
  buffer.put("b", 5ms, "t");
  auto follower = buffer.take(t0 + 10ms);
  EXPECT_EQ(follower.front().type, "") << "the batch before it may be put back";
  buffer.release(many);
  buffer.put_back(std::move(follower));
  buffer.put("c", 10ms, "t");
  const auto both = buffer.take_at(10ms);
  EXPECT_THAT(texts(both), ElementsAre("b", "c"));
  EXPECT_THAT(extras(both), ElementsAre("t", "t"));
  buffer.release(both);
  buffer.put("d", 11ms, "t");
  const auto alone = buffer.take_at(16ms);
  EXPECT_EQ(alone.type, "t");
  buffer.put_keyed("e", "t", 16ms);
  EXPECT_EQ(buffer.take_at(21ms).type, "t");
  EXPECT_EQ(buffer.messages(), 2u);
}

TEST(SendBuffer, AnotherTypeIsFreeWhileOneIsBound) {
  Buffer buffer;
  buffer.put_keyed("a", "t");
  buffer.put_keyed("b", "u");
  const auto older = buffer.take_older(t0);
  buffer.put_keyed("c", "v", 1ms);
  for (const auto& batch : older) buffer.release(batch);
  buffer.put("d", 1ms, "t");  // "t" is gone, although events with extras of another type are left
  EXPECT_EQ(buffer.take_at(10ms).type, "");
  const auto plain = buffer.take_at(10ms);
  EXPECT_EQ(plain.type, "t");
  EXPECT_THAT(plain.extras, IsEmpty());
}

TEST(SendBuffer, DividesABatchWithExtras) {
  Buffer buffer;
  buffer.put_keyed("a", "t", 0ms);
  buffer.put_keyed("b", "u", 1ms);
  const auto older = buffer.take_older(t0);
  ASSERT_THAT(older, SizeIs(1));
  EXPECT_THAT(extras(older.front()), ElementsAre("t:k"));
  EXPECT_EQ(older.front().bytes, 3u);
  const auto left = buffer.take_at(10ms);
  EXPECT_THAT(texts(left), ElementsAre("b"));
  EXPECT_THAT(extras(left), ElementsAre("u:k"));
  EXPECT_EQ(left.bytes, 3u);
}

TEST(SendBuffer, TakesAFullBatchBeforeOneThatLingers) {
  Buffer buffer;
  buffer.put("a", 0ms, "lingers");
  for (const char* payload : {"b", "c", "d"}) buffer.put(payload, 1ms, "full");
  EXPECT_EQ(buffer.due(), at_once);
  EXPECT_EQ(buffer.take_at(2ms).type, "full");
  EXPECT_EQ(buffer.due(), t0 + 5ms);
}

TEST(SendBuffer, FullBatchesDoNotStarveWhatHasLingered) {
  Buffer buffer;
  for (const char* payload : {"a", "b", "c"}) buffer.put(payload, 0ms, "first");
  buffer.put("d", 1ms, "lingers");
  for (const char* payload : {"e", "f", "g"}) buffer.put(payload, 2ms, "last");
  EXPECT_EQ(buffer.take_at(6ms).type, "first");
  EXPECT_EQ(buffer.take_at(6ms).type, "lingers");
  EXPECT_EQ(buffer.take_at(6ms).type, "last");
}

TEST(SendBuffer, AFlushMakesDueWhatIsThereAndNothingLater) {
  Buffer buffer;
  buffer.put("a", 0ms, "t");
  buffer.put("b", 0ms, "u");
  buffer.flush();
  EXPECT_EQ(buffer.due(), at_once);
  buffer.put("c", 1ms, "v");
  buffer.take_at(1ms);
  EXPECT_EQ(buffer.due(), at_once);
  buffer.take_at(1ms);
  EXPECT_EQ(buffer.due(), t0 + 6ms);
}

TEST(SendBuffer, NumbersEventsInTheirOrder) {
  Buffer buffer;
  EXPECT_EQ(buffer.next_number(), 0u);
  buffer.put("a", 0ms, "t");
  buffer.put("b", 0ms, "u");
  buffer.put("c", 0ms, "t");
  EXPECT_EQ(buffer.first_number(), 0u);
  EXPECT_EQ(buffer.next_number(), 3u);
  EXPECT_THAT(numbers(buffer.take_at(5ms)), ElementsAre(0, 2));
  EXPECT_EQ(buffer.first_number(), 1u);
  EXPECT_THAT(numbers(buffer.take_at(5ms)), ElementsAre(1));
  EXPECT_EQ(buffer.first_number(), 3u);
}

TEST(SendBuffer, HasRoomUntilEitherLimit) {
  Buffer buffer;
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(buffer.has_room(1)) << i;
    buffer.put("x");
  }
  EXPECT_FALSE(buffer.has_room(0)) << "8 events";

  Buffer bytes;
  bytes.put(std::string(30, 'x'));
  EXPECT_TRUE(bytes.has_room(10));
  EXPECT_FALSE(bytes.has_room(11));
  bytes.put(std::string(10, 'x'));
  EXPECT_TRUE(bytes.has_room(0));
  EXPECT_FALSE(bytes.has_room(1));
}

TEST(SendBuffer, HasRoomAgainOnlyAfterTheRelease) {
  Buffer buffer;
  buffer.put(std::string(40, 'x'));
  const auto batch = buffer.take_at(0ms);
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.messages(), 1u);
  EXPECT_EQ(buffer.bytes(), 40u);
  EXPECT_FALSE(buffer.has_room(1));
  buffer.release(batch);
  EXPECT_EQ(buffer.messages(), 0u);
  EXPECT_TRUE(buffer.has_room(40));
}

TEST(SendBuffer, WhatIsPutBackComesFirstAndAtOnceIfMoreCame) {
  Buffer buffer;
  buffer.put("a");
  auto taken = buffer.take(t0 + 5ms);
  buffer.put("b", 6ms);
  buffer.put_back(std::move(taken));
  EXPECT_EQ(buffer.messages(), 2u);
  EXPECT_EQ(buffer.oldest(), t0);
  EXPECT_EQ(buffer.due(), at_once);
  EXPECT_THAT(texts(buffer.take_at(7ms)), ElementsAre("a"));
  EXPECT_EQ(buffer.due(), t0 + 11ms);
  EXPECT_THAT(texts(buffer.take_at(11ms)), ElementsAre("b"));
}

TEST(SendBuffer, WhatIsPutBackFindsItsPlaceWhenNothingElseIsLeft) {
  Buffer buffer;
  buffer.put("a");
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto taken = buffer.take(t0 + 5ms);
    EXPECT_TRUE(buffer.empty());
    EXPECT_EQ(buffer.first_number(), 1u);
    buffer.put_back(std::move(taken));
    EXPECT_EQ(buffer.first_number(), 0u);
    EXPECT_EQ(buffer.due(), t0 + 5ms);
  }
  buffer.release(buffer.take_at(5ms));
  EXPECT_EQ(buffer.messages(), 0u);
  buffer.put("b", 6ms);
  EXPECT_THAT(texts(buffer.take_at(11ms)), ElementsAre("b"));
}

TEST(SendBuffer, WhatIsPutBackIsFilledUp) {
  Buffer buffer;
  buffer.put("a");
  buffer.put_back(buffer.take(t0 + 5ms));
  EXPECT_EQ(buffer.due(), t0 + 5ms);  // which is over
  buffer.put("b", 6ms);
  EXPECT_THAT(texts(buffer.take_at(6ms)), ElementsAre("a", "b"));
}

TEST(SendBuffer, TakesWhatIsOlderAcrossBatchesAndLeavesTheRest) {
  Buffer buffer;
  buffer.put("a", 0ms);
  buffer.put("b", 1ms, "u");
  buffer.put("c", 1ms);
  buffer.put("d", 2ms);  // the first batch is full
  buffer.put("e", 3ms);
  buffer.put("f", 3ms, "u");
  EXPECT_THAT(buffer.take_older(t0 - 1ms), IsEmpty());
  const auto older = buffer.take_older(t0 + 1ms);
  ASSERT_THAT(older, SizeIs(2));
  EXPECT_THAT(texts(older.front()), ElementsAre("a", "c"));
  EXPECT_EQ(older.front().bytes, 2u);
  EXPECT_THAT(texts(older.back()), ElementsAre("b"));
  EXPECT_EQ(older.back().type, "u");
  EXPECT_EQ(buffer.oldest(), t0 + 2ms);
  EXPECT_EQ(buffer.first_number(), 3u);
  EXPECT_EQ(buffer.messages(), 6u);  // until they are released
  const auto first = buffer.take_at(10ms);
  EXPECT_THAT(texts(first), ElementsAre("d"));
  EXPECT_EQ(first.bytes, 1u);
  EXPECT_THAT(texts(buffer.take_at(10ms)), ElementsAre("e"));
  EXPECT_THAT(texts(buffer.take_at(10ms)), ElementsAre("f"));
  EXPECT_TRUE(buffer.empty());
}

TEST(SendBuffer, TakesEverythingThatIsOlder) {
  Buffer buffer;
  buffer.put_all({"a", "b", "c", "d"});
  EXPECT_THAT(buffer.take_older(never), SizeIs(2));
  EXPECT_TRUE(buffer.empty());
  EXPECT_THAT(buffer.take_older(never), IsEmpty());
  EXPECT_EQ(buffer.due(), never);
}

}  // namespace
}  // namespace pgque::test
