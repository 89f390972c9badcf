// Events that handlers send by Context::send(): they commit together with the ack, or not at all.

#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pgque/json.hpp>

#include "consumer_fixture.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConsumerSendTest : public ConsumerTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    audit_.emplace(sql(), "audit");
    client().subscribe(*audit_, consumer_name());
  }
  void TearDown() override {
    audit_.reset();
    ConsumerTest::TearDown();
  }
  // To be made before anything is sent.
  ConsumerOptions mode() {
    const std::string name = GetParam();
    if (name == "PerBatch") return options(TransactionMode::per_batch);
    auto with = options(TransactionMode::split);
    if (name == "Concurrent") with.concurrency = 4;
    if (name != "Worker") return with;
    client().subscribe_subconsumer(queue(), group_name(), "w1");
    return worker("w1");
  }
  static bool per_batch() { return std::string{GetParam()} == "PerBatch"; }
  const std::string& audit() { return audit_->name(); }
  // What has been sent there, as type=payload.
  std::vector<std::string> sent() {
    audit_->tick();
    std::vector<std::string> found;
    for (const auto& message : client().receive(audit(), consumer_name())) {
      found.push_back(message.type.value_or("NULL") + '=' + message.payload.value_or("NULL"));
    }
    return found;
  }

 private:
  std::optional<TestQueue> audit_;
};

INSTANTIATE_TEST_SUITE_P(In, ConsumerSendTest, testing::Values("PerBatch", "Split", "Concurrent", "Worker"),
                         [](const auto& instance) { return std::string{instance.param}; });

TEST_P(ConsumerSendTest, CommitsWithTheAckInTheOrderOfTheMessages) {
  auto with = mode();
  with.concurrency = 1;
  publish_numbers(3);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.send(audit(), Event{text("order " + *message.payload), "made"});
    context.send(audit(), nlohmann::json{{"id", *message.payload}}, "seen");
  });
  finish_batches(consumer);
  EXPECT_THAT(sent(), ElementsAre("made=order 0", "seen={\"id\":\"0\"}", "made=order 1", "seen={\"id\":\"1\"}",
                                  "made=order 2", "seen={\"id\":\"2\"}"));
}

TEST_P(ConsumerSendTest, KeepsKeyAndHeaders) {
  const auto with = mode();
  publish("1");
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) {
    Event event{"1", "made"};
    event.key = "customer 7";
    event.headers = {{"traceparent", "00-1"}};
    context.send(audit(), event);
  });
  finish_batches(consumer);
  sent();
  const auto messages = client().receive(audit(), consumer_name());
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].extra1, "customer 7");
  EXPECT_EQ(messages[0].header("traceparent"), "00-1");
}

TEST_P(ConsumerSendTest, NothingIsSentForAMessageThatFails) {
  const auto with = mode();
  publish_numbers(2);
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.send(audit(), text(*message.payload), "made");
    if (*message.payload == "0") throw std::runtime_error{"no"};
  });
  finish_batches(consumer);
  EXPECT_THAT(sent(), ElementsAre("made=1"));
}

// The batch is handled twice, and the event is sent once.
TEST_P(ConsumerSendTest, ABatchThatIsPostponedSendsOnce) {
  const auto with = mode();
  publish("1");
  std::atomic<int> calls{0};
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) {
    context.send(audit(), text("a"), "made");
    if (++calls == 1) throw NotNow{1ms};
  });
  finish_batches(consumer);
  EXPECT_EQ(calls, 2);
  EXPECT_THAT(sent(), ElementsAre("made=a"));
}

TEST_P(ConsumerSendTest, BadArgumentsThrowAtOnceAndNameTheArgument) {
  const auto with = mode();
  publish("1");
  std::vector<std::string> errors;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) {
    const auto refused = [&](const auto& send) { errors.emplace_back(thrown<std::invalid_argument>(send).what()); };
    refused([&] { context.send("", text("a")); });
    refused([&] { context.send(audit(), text("\xFF")); });
    refused([&] { context.send(audit(), text("a"), "\xFF"); });
    refused([&] {
      Event event{text("a")};
      event.key = "";
      context.send(audit(), event);
    });
  });
  finish_batches(consumer);
  EXPECT_THAT(errors, ElementsAre(HasSubstr("queue"), HasSubstr("payload"), HasSubstr("type"), HasSubstr("key")));
  EXPECT_EQ(consumer.stats().failures, 0U);
  EXPECT_THAT(sent(), IsEmpty());
}

TEST_P(ConsumerSendTest, AnUnknownQueueFailsTheMessageAndNamesTheQueue) {
  const auto with = mode();
  queue().config("max_retries", "0");
  publish("1");
  const auto nowhere = unique_name("nowhere");
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) { context.send(nowhere, text("a")); });
  finish_batches(consumer);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(1));
  EXPECT_THAT(*reasons[0], AllOf(HasSubstr(nowhere), HasSubstr(per_batch() ? "handler error: " : "on_ack() error: ")));
}

TEST_P(ConsumerSendTest, TheInterceptorSeesTheEventWhenItIsSent) {
  auto with = mode();
  with.concurrency = 1;
  std::vector<std::string> order;
  with.on_send = [&](Event& event) {
    order.push_back("sent " + event.type);
    event.headers["span"] = "7";
  };
  publish("1");
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) {
    context.send(audit(), Event{text("a"), ""});
    order.emplace_back("handled");
  });
  finish_batches(consumer);
  EXPECT_THAT(order, ElementsAre("sent default", "handled"));
  EXPECT_THAT(sent(), ElementsAre("default=a"));
  EXPECT_EQ(client().receive(audit(), consumer_name()).at(0).header("span"), "7");
}

TEST_P(ConsumerSendTest, AfterTheHandlerItIsALogicError) {
  const auto with = mode();
  publish("1");
  Context* kept = nullptr;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) { kept = &context; });
  Running running{consumer};
  ASSERT_TRUE(wait_batches(consumer, 1));
  EXPECT_THAT(thrown<std::logic_error>([&] { kept->send(audit(), text("a")); }).what(), HasSubstr("Context::send()"));
}

}  // namespace
}  // namespace pgque::test
