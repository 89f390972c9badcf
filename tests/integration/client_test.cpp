// The life of a client: each call committed, closed, moved.

#include <stdexcept>
#include <type_traits>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

static_assert(!std::is_copy_constructible_v<Client> && !std::is_copy_assignable_v<Client>);
static_assert(std::is_nothrow_move_constructible_v<Client> && std::is_nothrow_move_assignable_v<Client>);
static_assert(std::is_nothrow_move_constructible_v<Transaction> && std::is_nothrow_move_assignable_v<Transaction>);

class ClientTest : public DatabaseTest {
 protected:
  void expect_every_call_throws_logic_error(Client& client) {
    for (const auto& verb : verbs()) {
      EXPECT_EQ(class_thrown([&] { verb.call(client, queue().name(), consumer_name()); }), "std::logic_error")
          << verb.name;
    }
    EXPECT_EQ(class_thrown([&] { client.begin(); }), "std::logic_error");
    // Which would not get as far as the server.
    EXPECT_EQ(class_thrown([&] { client.send_batch(queue(), "t", {}); }), "std::logic_error");
  }
};

TEST_F(ClientTest, SubscribesSendsTicksReceivesAndAcks) {
  Client client{dsn(), client_options()};
  EXPECT_TRUE(client.subscribe(queue(), consumer_name()));
  const auto id = client.send(queue(), nlohmann::json{{"order_id", 42}}, "order.created");
  client.force_next_tick(queue());
  EXPECT_TRUE(client.ticker(queue()));
  const auto messages = client.receive(queue(), consumer_name());
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].msg_id, id);
  EXPECT_EQ(messages[0].type, "order.created");
  EXPECT_EQ(payload_as(messages[0]).at("order_id"), 42);
  EXPECT_TRUE(client.ack(messages[0].batch_id));
  EXPECT_THAT(client.receive(queue(), consumer_name()), IsEmpty());
}

TEST_F(ClientTest, EachCallIsCommittedWhenItReturns) {
  Client one{dsn(), client_options()};
  Client another{dsn(), client_options()};
  EXPECT_TRUE(one.subscribe(queue(), consumer_name()));
  EXPECT_FALSE(another.subscribe(queue(), consumer_name()));
  one.send(queue(), "1");
  another.force_next_tick(queue());
  EXPECT_TRUE(one.ticker(queue()));
  const auto messages = another.receive(queue(), consumer_name());
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(ids_of(one.receive(queue(), consumer_name())), ids_of(messages));
  EXPECT_TRUE(one.ack(messages[0].batch_id));
  EXPECT_FALSE(another.ack(messages[0].batch_id));
}

TEST_F(ClientTest, AnErrorDoesNotEndIt) {
  Client client{dsn(), client_options()};
  EXPECT_THROW(client.send(unique_name("none"), "1"), QueueNotFound);
  EXPECT_THROW(client.send(queue(), "{bad"), Error);
  EXPECT_THROW(client.nack(no_batch, no_event), BatchNotFound);
  EXPECT_TRUE(client.is_open());
  EXPECT_NO_THROW(client.send(queue(), "1"));
}

TEST_F(ClientTest, AfterCloseEveryCallThrows) {
  Client client{dsn(), client_options()};
  client.close();
  expect_every_call_throws_logic_error(client);
  EXPECT_STREQ(thrown<std::logic_error>([&] { client.send("q", "1"); }).what(),
               "send (queue \"q\"): the client is closed");
}

TEST_F(ClientTest, CloseIsIdempotent) {
  Client client{dsn(), client_options()};
  client.send(queue(), "1");
  client.close();
  client.close();
  EXPECT_FALSE(client.is_open());
}

TEST_F(ClientTest, AMovedFromClientRefusesEveryCallAndCanBeAssignedTo) {
  Client first{dsn(), client_options()};
  Client second{std::move(first)};
  // NOLINTBEGIN(bugprone-use-after-move)
  expect_every_call_throws_logic_error(first);
  EXPECT_FALSE(first.is_open());
  EXPECT_NO_THROW(first.close());
  EXPECT_NO_THROW(second.send(queue(), "1"));
  first = std::move(second);
  EXPECT_NO_THROW(first.send(queue(), "2"));
  expect_every_call_throws_logic_error(second);
  // NOLINTEND(bugprone-use-after-move)
}

}  // namespace
}  // namespace pgque::test
