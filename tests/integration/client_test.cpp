#include <pgque/client.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

#include "database.hpp"
#include "support.hpp"

namespace pgque::test {
namespace {

using ClientTest = DatabaseTest;

TEST_F(ClientTest, ReceiveReturnsMessagesAfterTick) {
  Client client{dsn()};
  EXPECT_TRUE(client.subscribe(queue(), consumer_name()));
  const auto id = client.send(queue(), nlohmann::json{{"a", 1}}, "t");
  EXPECT_TRUE(client.receive(queue(), consumer_name()).empty());
  queue().tick();
  const auto messages = client.receive(queue(), consumer_name());
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].msg_id, id);
  EXPECT_EQ(messages[0].payload, R"({"a":1})");
}

}  // namespace
}  // namespace pgque::test
