// Subscribing and unsubscribing.

#include <chrono>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class SubscribeTest : public WayTest {
 protected:
  bool unsubscribe() {
    return call([&](Operations& ops) { return ops.unsubscribe(queue(), consumer_name()); });
  }
};
INSTANTIATE_TEST_SUITE_P(By, SubscribeTest, testing::ValuesIn(main_ways), way_name);

TEST_P(SubscribeTest, IsTrueWhenNewAndFalseWhenThereAlready) {
  EXPECT_TRUE(subscribe());
  EXPECT_FALSE(subscribe());
}

TEST_P(SubscribeTest, UnsubscribeIsTrueWhenThereAndFalseWhenGone) {
  subscribe();
  EXPECT_TRUE(unsubscribe());
  EXPECT_FALSE(unsubscribe());
  EXPECT_EQ(class_thrown([&] { receive(); }), "ConsumerNotFound");
}

TEST_P(SubscribeTest, UnsubscribeFromAQueueThatIsNotThereIsFalse) {
  EXPECT_FALSE(call([&](Operations& ops) { return ops.unsubscribe(unique_name("none"), consumer_name()); }));
}

TEST_P(SubscribeTest, StartsAtTheLatestTick) {
  send("1");
  queue().tick();
  const auto not_ticked_yet = send("2");
  subscribe();
  const auto later = send("3");
  EXPECT_THAT(ids_of(deliver()), ElementsAre(not_ticked_yet, later));
}

TEST_P(SubscribeTest, AgainDoesNotMoveThePosition) {
  subscribe();
  const auto id = send("1");
  queue().tick();
  EXPECT_FALSE(subscribe());
  EXPECT_THAT(ids_of(receive()), ElementsAre(id));
}

TEST_P(SubscribeTest, UnsubscribeGivesUpTheOpenBatchAndTheRetries) {
  subscribe();
  send_batch({"1", "2"});
  const auto messages = deliver();
  nack(messages.at(0), NackOptions{std::chrono::seconds{0}});
  EXPECT_TRUE(unsubscribe());
  EXPECT_FALSE(ack(messages[0].batch_id));
  EXPECT_EQ(queue().retries(), 0);
  subscribe();
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(SubscribeTest, UnsubscribingTheLastTimeDropsTheDeadLetters) {
  queue().config("max_retries", "0");
  subscribe();
  send("1");
  const auto messages = deliver();
  nack(messages.at(0));
  ack(messages[0].batch_id);
  EXPECT_EQ(queue().dead_letters(), 1);
  unsubscribe();
  EXPECT_EQ(queue().dead_letters(), 0);
}

}  // namespace
}  // namespace pgque::test
