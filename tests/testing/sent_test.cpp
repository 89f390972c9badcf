// What the handlers under test have sent to other queues.

#include <stdexcept>

#include <gmock/gmock.h>

#include "kit_fixture.hpp"

namespace kit {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class SentTest : public KitTest {};

TEST_F(SentTest, HasTypePayloadKeyAndHeaders) {
  QueueOptions options;
  options.others = {other_name()};
  Queue queue{dsn(), options};
  queue.send(json{{"order_id", 42}}, "order.created");
  EXPECT_THAT(queue.sent(other_name()), IsEmpty());
  queue.deliver({}, [&](pgque::Consumer& c) {
    c.on("order.created", [&](const pgque::Message&, pgque::Context& context) {
      pgque::Event event{json{{"audited", 42}}, "order.audited"};
      event.key = "customer 7";
      event.headers = {{"traceparent", "00-1"}};
      pgque::Transaction{context.transaction()}.send(other_name(), event);
    });
  });
  const auto sent = queue.sent(other_name());
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].type, "order.audited");
  EXPECT_EQ(pgque::payload_as<json>(sent[0]), (json{{"audited", 42}}));
  EXPECT_EQ(pgque::to_event(sent[0]).key, "customer 7");
  EXPECT_EQ(sent[0].header("traceparent"), "00-1");
}

TEST_F(SentTest, LeavesOutWhatWasSentBeforeAndWhatWasRolledBack) {
  pgque::Client client{dsn()};
  client.send(queue().name(), pgque::text("before"));
  Queue under_test{dsn()};
  auto transaction = client.begin();
  transaction.send(queue().name(), pgque::text("rolled back"));
  transaction.rollback();
  EXPECT_THAT(under_test.sent(queue().name()), IsEmpty());
  client.send(queue().name(), pgque::text("after"));
  const auto sent = under_test.sent(queue().name());
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].payload, "after");
}

TEST_F(SentTest, OfAHandlerThatFailsIsNothing) {
  QueueOptions options;
  options.others = {other_name()};
  Queue queue{dsn(), options};
  queue.send("1");
  queue.deliver({}, [&](pgque::Consumer& c) {
    c.on("*", [&](const pgque::Message& message, pgque::Context& context) {
      pgque::Transaction{context.transaction()}.send(other_name(), message);
      throw std::runtime_error{"after that"};
    });
  });
  EXPECT_THAT(queue.sent(other_name()), IsEmpty());
}

TEST_F(SentTest, ToItsOwnQueueLeavesOutRetries) {
  Queue queue{dsn()};
  queue.send("1");
  queue.deliver({},
                [](pgque::Consumer& c) { c.on("*", [](const pgque::Message&) { throw std::runtime_error{"no"}; }); });
  EXPECT_EQ(queue.make_retries_due(), 1);
  EXPECT_EQ(queue.sent(queue.name()).size(), 1U);
}

TEST_F(SentTest, ToAQueueThatIsNotThereSaysHowToMakeIt) {
  Queue queue{dsn()};
  try {
    queue.sent(other_name());
    FAIL();
  } catch (const pgque::QueueNotFound& error) {
    EXPECT_THAT(error.what(), HasSubstr("QueueOptions::others"));
    EXPECT_THAT(error.what(), HasSubstr(other_name()));
  }
}

}  // namespace
}  // namespace kit
