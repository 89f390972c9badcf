// Handlers called without a database. Not in namespace pgque, where `testing` would not be GoogleTest's.

#include <pgque/testing.hpp>

#include <functional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>

namespace kit {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using pgque::Context;
using pgque::Message;
using pgque::testing::handle;
using pgque::testing::message;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

struct Order {
  int id = 0;
};
void from_json(const json& from, Order& order) {
  from.at("order_id").get_to(order.id);
}

TEST(TestMessageTest, IsAsAConsumerWouldReceiveItFirst) {
  const auto one = message("order.created", json{{"order_id", 42}});
  EXPECT_EQ(one.type, "order.created");
  EXPECT_EQ(one.payload, R"({"order_id":42})");
  EXPECT_EQ(one.retry_count, std::nullopt);
  EXPECT_EQ(one.extra1, std::nullopt);
  EXPECT_EQ(one.extra4, std::nullopt);
  EXPECT_NE(one.msg_id, message("order.created", nullptr).msg_id);
  const auto now = std::chrono::system_clock::now();
  EXPECT_LT(std::chrono::abs(now - one.created_at), 1min);
}

TEST(TestMessageTest, TakesAnyPayload) {
  EXPECT_EQ(message("t", R"({"a": 1})").payload, R"({"a": 1})");
  EXPECT_EQ(message("t", std::string{"[1]"}).payload, "[1]");
  EXPECT_EQ(message("t", nullptr).payload, "null");
  EXPECT_EQ(message("t", std::nullopt).payload, std::nullopt);
  EXPECT_EQ(message("t", pgque::text("not JSON")).payload, "not JSON");
  EXPECT_EQ(message("t", std::vector<int>{1, 2}).payload, "[1,2]");
  EXPECT_EQ(message("", "1").type, "default");
}

TEST(TestMessageTest, OfAnEventHasItsKeyAndHeaders) {
  pgque::Event event{json(1), "t"};
  event.key = "customer";
  event.headers = {{"traceparent", "00-1"}};
  const auto one = message(event);
  EXPECT_EQ(one.type, "t");
  EXPECT_EQ(one.extra1, "customer");
  EXPECT_EQ(one.header("traceparent"), "00-1");
  EXPECT_EQ(pgque::to_event(one).key, "customer");
  event.key = "";
  EXPECT_THROW(message(event), std::invalid_argument);
}

TEST(TestHandleTest, AHandlerThatReturnsHasHandled) {
  std::string seen;
  const auto outcome = handle(message("t", "1"), [&](const Message& one) { seen = *one.payload; });
  EXPECT_TRUE(outcome.handled());
  EXPECT_EQ(seen, "1");
  EXPECT_EQ(outcome.reason(), "");
  EXPECT_EQ(outcome.retry_after(), std::nullopt);
  EXPECT_FALSE(outcome.gave_up());
  EXPECT_FALSE(outcome.postponed());
  EXPECT_FALSE(outcome.deferred());
  EXPECT_TRUE(outcome.sent().empty());
}

TEST(TestHandleTest, AnExceptionIsAFailureWithItsReason) {
  const auto outcome = handle(message("t", "1"), [](const Message&) { throw std::runtime_error{"boom"}; });
  EXPECT_FALSE(outcome.handled());
  EXPECT_EQ(outcome.reason(), "boom");
  EXPECT_EQ(outcome.retry_after(), std::nullopt);
  EXPECT_FALSE(outcome.gave_up());
  EXPECT_FALSE(outcome.postponed());
  std::ostringstream printed;
  printed << outcome;
  EXPECT_EQ(printed.str(), "failed: boom");
  EXPECT_FALSE(handle(message("t", "1"), [](const Message&) { throw 1; }).handled());
}

TEST(TestHandleTest, RetryAfterHasItsDelay) {
  const auto outcome = handle(message("t", "1"), [](const Message&) {
    throw pgque::RetryAfter{30s, "the bank is busy"};
  });
  EXPECT_FALSE(outcome.handled());
  EXPECT_EQ(outcome.reason(), "the bank is busy");
  EXPECT_EQ(outcome.retry_after(), 30s);
}

TEST(TestHandleTest, GiveUpGivesUp) {
  const auto outcome = handle(message("t", "1"), [](const Message&) { throw pgque::GiveUp{"no such product"}; });
  EXPECT_TRUE(outcome.gave_up());
  EXPECT_FALSE(outcome.handled());
  EXPECT_FALSE(outcome.postponed());
  EXPECT_EQ(outcome.reason(), "no such product");
  std::ostringstream printed;
  printed << outcome;
  EXPECT_EQ(printed.str(), "gave up: no such product");
}

TEST(TestHandleTest, WhatTheHandlerSendsIsKept) {
  const auto sending = [](const Message& one, Context& context) {
    pgque::Event event{json{{"audited", 42}}, "order.audited"};
    event.key = "customer";
    context.send("audit", event);
    context.send("mail", pgque::text("hello"), "mail");
    if (*one.payload == "fails") throw std::runtime_error{"after that"};
  };
  const auto outcome = handle(message("t", "1"), sending);
  EXPECT_TRUE(outcome.handled());
  EXPECT_EQ(outcome.deferred(), 0);
  ASSERT_EQ(outcome.sent().size(), 2U);
  EXPECT_EQ(outcome.sent()[0].queue, "audit");
  EXPECT_EQ(outcome.sent()[0].event.type, "order.audited");
  EXPECT_EQ(outcome.sent()[0].event.payload.text(), R"({"audited":42})");
  EXPECT_EQ(outcome.sent()[0].event.key, "customer");
  EXPECT_EQ(outcome.sent()[1].queue, "mail");
  EXPECT_EQ(outcome.sent()[1].event.type, "mail");
  EXPECT_TRUE(handle(message("t", pgque::text("fails")), sending).sent().empty()) << "it throws after that";
  const auto wrong = handle(message("t", "1"), [](const Message&, Context& context) { context.send("", "1"); });
  EXPECT_FALSE(wrong.handled()) << "as with a database";
}

TEST(TestHandleTest, NotNowPostpones) {
  const auto outcome = handle(message("t", "1"), [](const Message&) { throw pgque::NotNow{2s, "closed"}; });
  EXPECT_TRUE(outcome.postponed());
  EXPECT_FALSE(outcome.handled());
  EXPECT_EQ(outcome.postponed_for(), 2s);
  EXPECT_EQ(outcome.reason(), "closed");
}

TEST(TestHandleTest, TypedHandlersGetTheDecodedPayload) {
  const auto created = message("order.created", json{{"order_id", 42}});
  int id = 0;
  EXPECT_TRUE(handle<Order>(created, [&](const Order& order) { id = order.id; }).handled());
  EXPECT_EQ(id, 42);
  const auto with_context = [&](const json& order, Context& context) {
    id = order.at("order_id").get<int>() + context.attempt();
  };
  EXPECT_TRUE(handle<json>(created, with_context).handled());
  EXPECT_EQ(id, 43);
  const auto outcome = handle<Order>(message("order.created", json{{"id", 42}}), [](const Order&) {});
  EXPECT_FALSE(outcome.handled());
  EXPECT_THAT(outcome.reason(), HasSubstr("it has not the expected shape"));
}

void free_handler(const Message&, Context& context) {
  context.on_ack([](pqxx::transaction_base&) { FAIL() << "there is no transaction"; });
  context.on_ack([](pqxx::transaction_base&) {});
}

TEST(TestHandleTest, AnyCallableIsAHandler) {
  EXPECT_EQ(handle(message("t", "1"), free_handler).deferred(), 2);
  EXPECT_EQ(handle(message("t", "1"), &free_handler).deferred(), 2);
  EXPECT_TRUE(handle(message("t", "1"), std::function<void(const Message&)>{[](const Message&) {}}).handled());
  struct Counter {
    int calls = 0;
    void operator()(const Message&) { ++calls; }
  } counter;
  EXPECT_TRUE(handle(message("t", "1"), std::ref(counter)).handled());
  EXPECT_EQ(counter.calls, 1);
  EXPECT_THROW(handle(message("t", "1"), std::function<void(const Message&)>{}), std::invalid_argument);
}

TEST(TestHandleTest, NothingIsDeferredByAHandlerThatThrows) {
  const auto outcome = handle(message("t", "1"), [](const Message& one, Context& context) {
    free_handler(one, context);
    throw std::runtime_error{"after that"};
  });
  EXPECT_EQ(outcome.deferred(), 0);
}

TEST(TestHandleTest, TheContextKnowsTheMessage) {
  auto third = message("t", "1");
  third.retry_count = 2;
  const auto outcome = handle(third, [&](const Message& one, Context& context) {
    EXPECT_EQ(context.attempt(), 3);
    EXPECT_EQ(context.batch(), one.batch_id);
    EXPECT_EQ(context.message_count(), 1U);
    EXPECT_EQ(context.message().msg_id, third.msg_id);
    EXPECT_FALSE(context.stop_requested());
  });
  EXPECT_TRUE(outcome.handled());
}

TEST(TestHandleTest, ATransactionNeedsAQueueUnderTest) {
  const auto outcome = handle(message("t", "1"), [](const Message&, Context& context) {
    EXPECT_THAT([&] { context.transaction(); },
                ThrowsMessage<std::logic_error>(HasSubstr("use pgque::testing::Queue")));
    context.transaction();
  });
  EXPECT_THAT(outcome.reason(), HasSubstr("use pgque::testing::Queue"));
}

}  // namespace
}  // namespace kit
