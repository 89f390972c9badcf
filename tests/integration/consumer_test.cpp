#include <pgque/consumer.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "database.hpp"
#include "support.hpp"

namespace pgque::test {
namespace {

using ConsumerTest = DatabaseTest;

TEST_F(ConsumerTest, DispatchesByEventType) {
  Client client{dsn()};
  client.subscribe(queue(), consumer_name());
  client.send(queue(), "1", "a");
  client.send(queue(), "2", "b");
  queue().tick();

  std::mutex mutex;
  std::vector<std::string> a, b;
  Consumer consumer{dsn(), {queue().name(), consumer_name()}};
  consumer.on("a", [&](const Message& message) {
    const std::lock_guard lock{mutex};
    a.push_back(*message.payload);
  });
  consumer.on("b", [&](const Message& message) {
    const std::lock_guard lock{mutex};
    b.push_back(*message.payload);
  });
  Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_THAT(a, testing::ElementsAre("1"));
  EXPECT_THAT(b, testing::ElementsAre("2"));
}

}  // namespace
}  // namespace pgque::test
