// Several handlers at once.

#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::UnorderedElementsAreArray;

class ConsumerConcurrencyTest : public ConsumerTest {
 protected:
  ConsumerOptions concurrent(std::int32_t handlers) {
    auto out = options();
    out.concurrency = handlers;
    return out;
  }
};

// How many are inside at once.
class Crowd {
 public:
  class Member {
   public:
    explicit Member(Crowd& crowd) : crowd_{crowd} {
      const int now = ++crowd_.now_;
      int most = crowd_.most_;
      while (now > most && !crowd_.most_.compare_exchange_weak(most, now)) {
      }
    }
    Member(const Member&) = delete;
    Member& operator=(const Member&) = delete;
    ~Member() { --crowd_.now_; }

   private:
    Crowd& crowd_;
  };
  int most() const { return most_; }
  // True once that many have been inside at the same time.
  bool wait_for(int count) const {
    return wait_until([&] { return most_ >= count; }, 10s);
  }

 private:
  std::atomic<int> now_{0};
  std::atomic<int> most_{0};
};

TEST_F(ConsumerConcurrencyTest, ExactlyAsManyHandlersRunAtOnceAsAskedFor) {
  publish_numbers(40);
  Crowd crowd;
  Seen seen;
  Consumer consumer{dsn(), concurrent(4)};
  consumer.on("t", [&](const Message& message) {
    const Crowd::Member member{crowd};
    EXPECT_TRUE(crowd.wait_for(4));  // none returns before four have begun
    seen(message);
  });
  finish_batches(consumer);
  EXPECT_EQ(crowd.most(), 4);
  EXPECT_THAT(seen.payloads(), UnorderedElementsAreArray(numbers(40)));
  EXPECT_EQ(consumer.stats().messages, 40U);
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_F(ConsumerConcurrencyTest, OneHandlerAtATimeRunsOnTheThreadOfStart) {
  publish_numbers(10);
  Crowd crowd;
  Seen seen;
  std::set<std::thread::id> threads;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    const Crowd::Member member{crowd};
    threads.insert(std::this_thread::get_id());
    seen(message);
    if (seen.size() == 10) consumer.stop();
  });
  consumer.start();
  EXPECT_EQ(crowd.most(), 1);
  EXPECT_THAT(threads, ElementsAre(std::this_thread::get_id()));
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(10)));
}

TEST_F(ConsumerConcurrencyTest, MessagesOfOneKeyAreHandledOneAfterAnotherInOrder) {
  constexpr int keys = 4;
  publish_numbers(100);
  auto keyed = concurrent(keys);
  keyed.key = [](const Message& message) { return std::to_string(std::stoi(*message.payload) % keys); };
  Crowd all;
  std::array<Crowd, keys> crowds;
  std::mutex mutex;
  std::map<int, std::vector<int>> order;
  Consumer consumer{dsn(), keyed};
  consumer.on("t", [&](const Message& message) {
    const int number = std::stoi(*message.payload);
    const Crowd::Member member{all};
    const Crowd::Member of_key{crowds[static_cast<std::size_t>(number % keys)]};
    EXPECT_TRUE(all.wait_for(keys));  // distinct keys really run at the same time
    const std::lock_guard lock{mutex};
    order[number % keys].push_back(number);
  });
  finish_batches(consumer);
  EXPECT_EQ(all.most(), keys);
  for (int key = 0; key < keys; ++key) {
    std::vector<int> expected;
    for (int i = key; i < 100; i += keys) expected.push_back(i);
    EXPECT_THAT(order[key], ElementsAreArray(expected));
    EXPECT_EQ(crowds[static_cast<std::size_t>(key)].most(), 1);
  }
}

// A service whose concurrency comes from its configuration sets a key always.
TEST_F(ConsumerConcurrencyTest, WithConcurrencyOneAKeyIsNotAskedForAndAllIsInOrder) {
  publish_numbers(10);
  auto keyed = concurrent(1);
  int asked = 0;
  keyed.key = [&](const Message&) {
    ++asked;
    return std::string{};
  };
  Seen seen;
  Consumer consumer{dsn(), keyed};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(10)));
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(log.count(LogEvent::key_in_group), 0U);
}

TEST_F(ConsumerConcurrencyTest, AKeyInAGroupIsWarnedOfOnce) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  auto keyed = worker("w1");
  keyed.concurrency = 2;
  keyed.key = [](const Message& message) { return *message.payload; };
  Consumer consumer{dsn(), keyed};
  consumer.on("t", [](const Message&) {});
  Running running{consumer};
  publish_numbers(3);
  ASSERT_TRUE(wait_batches(consumer, 1));
  publish_numbers(3);
  ASSERT_TRUE(wait_batches(consumer, 2));
  const auto warnings = log.lines(LogEvent::key_in_group);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_EQ(warnings[0].level, LogLevel::warning);
  EXPECT_THAT(warnings[0].message, testing::HasSubstr("only within this worker"));
}

TEST_F(ConsumerConcurrencyTest, AKeyFunctionThatThrowsFailsItsMessageAlone) {
  queue().config("max_retries", "0");
  publish_numbers(4);
  auto keyed = concurrent(2);
  keyed.key = [](const Message& message) {
    if (message.payload == "1") throw std::runtime_error{"no key"};
    return *message.payload;
  };
  Seen seen;
  Consumer consumer{dsn(), keyed};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), UnorderedElementsAreArray({"0", "2", "3"}));
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("key function error: no key"));
}

TEST_F(ConsumerConcurrencyTest, AKeyFunctionThatThrowsAnythingElseFailsItsMessageAlone) {
  queue().config("max_retries", "0");
  publish_numbers(4);
  auto keyed = concurrent(2);
  keyed.key = [](const Message& message) {
    if (message.payload == "1") throw 42;
    return *message.payload;
  };
  Seen seen;
  Consumer consumer{dsn(), keyed};
  consumer.on("t", seen.handler());
  Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1 || running.ended(); }));
  EXPECT_FALSE(running.ended());
  EXPECT_THAT(seen.payloads(), UnorderedElementsAreArray({"0", "2", "3"}));
  EXPECT_EQ(queue().dead_letters(), 1);
}

TEST_F(ConsumerConcurrencyTest, ExceptionsInHandlersFailTheirMessagesAlone) {
  queue().config("max_retries", "0");
  publish_numbers(60);
  Seen seen;
  Consumer consumer{dsn(), concurrent(4)};
  consumer.on("t", [&](const Message& message) {
    const int number = std::stoi(*message.payload);
    if (number % 3 == 0) throw std::runtime_error{*message.payload};
    if (number % 3 == 1) throw number;
    seen(message);
  });
  finish_batches(consumer);
  EXPECT_EQ(seen.size(), 20U);
  EXPECT_EQ(queue().dead_letters(), 40);
  const auto stats = consumer.stats();
  EXPECT_EQ(stats.messages, 20U);
  EXPECT_EQ(stats.failures, 40U);
  EXPECT_EQ(stats.retries, 40U);
  EXPECT_EQ(stats.batches, 1U);
}

TEST_F(ConsumerConcurrencyTest, PagesAreHandledConcurrentlyOneAfterAnother) {
  publish_numbers(20);
  auto paged = concurrent(3);
  paged.max_messages = 6;
  std::mutex mutex;
  std::vector<int> pages;
  Crowd crowd;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message& message) {
    const Crowd::Member member{crowd};
    EXPECT_TRUE(crowd.wait_for(3));
    const std::lock_guard lock{mutex};
    pages.push_back(std::stoi(*message.payload) / 6);
  });
  finish_batches(consumer);
  EXPECT_EQ(pages.size(), 20U);
  EXPECT_TRUE(std::is_sorted(pages.begin(), pages.end()));
  EXPECT_EQ(crowd.most(), 3);
}

TEST_F(ConsumerConcurrencyTest, AStopWithoutDrainTimeLetsTheRunningHandlersEndAndLeavesTheRest) {
  publish_numbers(10);
  auto impatient = concurrent(2);
  impatient.drain_timeout = 0ms;
  Gate gate;
  Seen seen;
  Consumer consumer{dsn(), impatient};
  consumer.on("t", [&](const Message& message) {
    gate.pass();
    seen(message);
  });
  Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived(2));
  consumer.stop();
  gate.open();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THAT(seen.payloads(), UnorderedElementsAreArray({"0", "1"}));
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(client().receive(queue(), consumer_name()).size(), 10U);
}

}  // namespace
}  // namespace pgque::test
