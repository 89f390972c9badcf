// Which handler gets a message, and what becomes of messages that none takes.

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pgque/json.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

class ConsumerDispatchTest : public ConsumerTest {
 protected:
  // The events of the batch, with types and payloads that send() would not make.
  void insert_raw(const std::string& type, const std::string& payload) {
    sql()("select pgque.insert_event(" + sql().quote(queue().name()) + ", " + type + "::text, " + payload + "::text)");
  }
};

TEST_F(ConsumerDispatchTest, EachTypeGoesToItsHandler) {
  client().send(queue(), "1", "a");
  client().send(queue(), "2", "b");
  client().send(queue(), "3", "a");
  queue().tick();

  Seen a, b;
  Consumer consumer{dsn(), options()};
  consumer.on("a", a.handler()).on("b", b.handler());
  finish_batches(consumer);
  EXPECT_THAT(a.payloads(), ElementsAre("1", "3"));
  EXPECT_THAT(b.payloads(), ElementsAre("2"));
  EXPECT_EQ(queue().retries(), 0);
}

TEST_F(ConsumerDispatchTest, StarTakesTheTypesWithoutAHandler) {
  client().send(queue(), "1", "known");
  client().send(queue(), "2", "unknown");
  client().send(queue(), "3", "*");
  queue().tick();

  Seen known, rest;
  Consumer consumer{dsn(), options()};
  consumer.on("*", rest.handler()).on("known", known.handler());
  finish_batches(consumer);
  EXPECT_THAT(known.payloads(), ElementsAre("1"));
  EXPECT_THAT(rest.payloads(), ElementsAre("2", "3"));
  EXPECT_EQ(consumer.stats().unknown, 0U);
}

TEST_F(ConsumerDispatchTest, NullTypeGoesToStarAndTheEmptyTypeToItsOwnHandler) {
  insert_raw("null", "null");
  insert_raw("''", "'empty'");
  queue().tick();

  Seen empty, rest;
  Consumer consumer{dsn(), options()};
  consumer.on("", empty.handler()).on("*", rest.handler());
  finish_batches(consumer);
  EXPECT_THAT(empty.payloads(), ElementsAre("empty"));
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_EQ(rest.messages()[0].type, std::nullopt);
  EXPECT_EQ(rest.messages()[0].payload, std::nullopt);
}

TEST_F(ConsumerDispatchTest, UnknownTypesAreNackedByDefaultWhileTheBatchGoesOn) {
  client().send(queue(), "1", "unknown");
  client().send(queue(), "2", "known");
  queue().tick();
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("known", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("2"));
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(queue().dead_letters(), 0);
  EXPECT_THAT(client().receive(queue(), consumer_name()), IsEmpty());
  ASSERT_EQ(log.count(LogEvent::unknown_type), 1U);
  EXPECT_EQ(log.lines(LogEvent::unknown_type)[0].level, LogLevel::warning);
}

TEST_F(ConsumerDispatchTest, TheDeadLetterOfAnUnknownTypeNamesTheType) {
  queue().config("max_retries", "0");
  client().send(queue(), "1", "order \"x\"");
  insert_raw("null", "'2'");
  queue().tick();
  Consumer consumer{dsn(), options()};
  consumer.on("known", ignore);
  finish_batches(consumer);
  EXPECT_THAT(queue().dead_letter_reasons(),
              ElementsAre("no handler for type \"order \"x\"\"", "no handler for type NULL"));
}

TEST_F(ConsumerDispatchTest, UnknownTypesAreAckedWithAWarningThatNamesThemByPolicy) {
  client().send(queue(), "1", "surprise");
  client().send(queue(), "2", "known");
  insert_raw("null", "'3'");
  queue().tick();
  auto by_policy = options();
  by_policy.unknown_handler_policy = UnknownHandlerPolicy::ack;
  Seen seen;
  Consumer consumer{dsn(), by_policy};
  consumer.on("known", seen.handler());
  finish_batches(consumer);

  EXPECT_THAT(seen.payloads(), ElementsAre("2"));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(queue().dead_letters(), 0);
  EXPECT_THAT(client().receive(queue(), consumer_name()), IsEmpty());
  const auto warnings = log.lines(LogEvent::unknown_type);
  ASSERT_EQ(warnings.size(), 2U);
  EXPECT_EQ(warnings[0].level, LogLevel::warning);
  EXPECT_THAT(warnings[0].message, HasSubstr("\"surprise\""));
  EXPECT_EQ(warnings[1].level, LogLevel::warning);
  EXPECT_THAT(warnings[1].message, HasSubstr("NULL"));
  EXPECT_EQ(consumer.stats().unknown, 2U);
  EXPECT_EQ(consumer.stats().retries, 0U);
}

TEST_F(ConsumerDispatchTest, ContextTellsAttemptBatchAndStop) {
  const auto id = publish("1");
  std::vector<std::int32_t> attempts;
  std::vector<BatchId> batches;
  std::vector<bool> stops;
  Seen seen;
  auto soon = options();
  soon.retry_after = 0s;
  Consumer consumer{dsn(), soon};
  consumer.on("t", [&](const Message& message, Context& context) {
    seen(message);
    attempts.push_back(context.attempt());
    batches.push_back(context.batch());
    stops.push_back(context.stop_requested());
    if (attempts.size() == 1) throw std::runtime_error{"once more"};
    consumer.stop();
    stops.push_back(context.stop_requested());
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  queue().bring_retries_back();
  ASSERT_TRUE(running.wait_ended());

  EXPECT_THAT(seen.ids(), ElementsAre(id, id));
  EXPECT_THAT(attempts, ElementsAre(1, 2));
  EXPECT_EQ(seen.messages()[0].retry_count, std::nullopt);
  EXPECT_EQ(seen.messages()[1].retry_count, 1);
  EXPECT_THAT(batches, ElementsAre(seen.messages()[0].batch_id, seen.messages()[1].batch_id));
  EXPECT_NE(batches[0], batches[1]);
  EXPECT_THAT(stops, ElementsAre(false, false, true));
}

struct Order {
  int id = 0;
};
void from_json(const nlohmann::json& json, Order& order) {
  json.at("order_id").get_to(order.id);
}

TEST_F(ConsumerDispatchTest, TypedHandlersGetTheDecodedPayload) {
  client().send(queue(), nlohmann::json{{"order_id", 42}}, "order");
  client().send(queue(), nlohmann::json{{"order_id", 43}}, "order with context");
  client().send(queue(), nlohmann::json::array({1, 2}), "json");
  queue().tick();
  std::vector<int> orders;
  nlohmann::json json;
  std::int32_t attempt = 0;
  Consumer consumer{dsn(), options()};
  consumer.on<Order>("order", [&](const Order& order) { orders.push_back(order.id); });
  consumer.on<Order>("order with context", [&](const Order& order, Context& context) {
    orders.push_back(order.id);
    attempt = context.attempt();
  });
  consumer.on<nlohmann::json>("json", [&](const nlohmann::json& value) { json = value; });
  finish_batches(consumer);
  EXPECT_THAT(orders, ElementsAre(42, 43));
  EXPECT_EQ(attempt, 1);
  EXPECT_EQ(json, nlohmann::json::parse("[1, 2]"));
  EXPECT_EQ(consumer.stats().messages, 3U);
}

TEST_F(ConsumerDispatchTest, APayloadOfAnotherShapeIsAFailureThatDoesNotQuoteIt) {
  queue().config("max_retries", "0");
  client().send(queue(), R"({"order_id": "secret"})", "order");
  client().send(queue(), text("secret {"), "order");
  client().send(queue(), std::nullopt, "order");
  client().send(queue(), R"({"order_id": 1})", "order");
  queue().tick();
  std::vector<int> orders;
  Consumer consumer{dsn(), options()};
  consumer.on<Order>("order", [&](const Order& order) { orders.push_back(order.id); });
  finish_batches(consumer);
  EXPECT_THAT(orders, ElementsAre(1));
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 3U);
  EXPECT_THAT(*reasons[0], HasSubstr("it has not the expected shape"));
  EXPECT_THAT(*reasons[1], HasSubstr("it is not JSON"));
  EXPECT_THAT(*reasons[2], HasSubstr("it is SQL NULL"));
  for (const auto& reason : reasons) {
    EXPECT_THAT(*reason, testing::StartsWith("handler error: "));
    EXPECT_THAT(*reason, testing::Not(HasSubstr("secret")));
  }
  EXPECT_EQ(consumer.stats().failures, 3U);
}

TEST_F(ConsumerDispatchTest, ABatchHasNoHiddenLimit) {
  publish_numbers(105);
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(105)));
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_F(ConsumerDispatchTest, ConsumersOfDistinctNamesEachGetEveryMessage) {
  const auto other_name = consumer_name() + "_other";
  client().subscribe(queue(), other_name);
  publish_numbers(10);
  auto other_options = options();
  other_options.name = other_name;
  Seen one, other;
  Consumer first{dsn(), options()};
  first.on("t", one.handler());
  Consumer second{dsn(), other_options};
  second.on("t", other.handler());
  Running run_first{first};
  Running run_second{second};
  EXPECT_TRUE(wait_until([&] { return first.stats().batches == 1 && second.stats().batches == 1; }));
  EXPECT_THAT(one.payloads(), ElementsAreArray(numbers(10)));
  EXPECT_THAT(other.payloads(), ElementsAreArray(numbers(10)));
}

TEST_F(ConsumerDispatchTest, NothingIsLostOrRepeatedWhileProducersSend) {
  constexpr int producers = 2;
  constexpr int each = 150;
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("*", seen.handler());
  Running running{consumer};

  std::mutex mutex;
  std::vector<EventId> sent;
  std::vector<std::thread> threads;
  for (int i = 0; i < producers; ++i) {
    threads.emplace_back([&] {
      Client producer{dsn(), client_options()};
      for (int n = 0; n < each; ++n) {
        const auto id = producer.send(queue(), std::to_string(n));
        const std::lock_guard lock{mutex};
        sent.push_back(id);
      }
    });
  }
  const auto all_seen = [&] {
    queue().tick();
    return seen.size() >= producers * each;
  };
  EXPECT_TRUE(wait_until(all_seen));
  for (auto& thread : threads) thread.join();
  running.stop_and_join();
  EXPECT_THAT(seen.ids(), testing::UnorderedElementsAreArray(sent));
}

}  // namespace
}  // namespace pgque::test
