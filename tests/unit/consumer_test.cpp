#include <pgque/consumer.hpp>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

// What a consumer does without a server. The rest is in tests/integration.

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

ConsumerOptions quiet(LogSink log = [](const LogRecord&) {}) {
  ConsumerOptions options;
  options.queue = "orders";
  options.name = "worker";
  options.log = std::move(log);
  return options;
}

void ignore(const Message&) {}

TEST(Consumer, FindsAMalformedDsnAtOnce) {
  EXPECT_THAT([] { Consumer("password=geheim x", quiet()); }, ThrowsMessage<ConnectionError>(Not(HasSubstr("geheim"))));
}

TEST(Consumer, ThrowsAtOnceWhenTheFirstConnectionFails) {
  Consumer consumer{nowhere, quiet()};
  consumer.on("*", ignore);
  for (int attempt = 0; attempt < 2; ++attempt) {
    EXPECT_THAT([&] { consumer.start(); },
                ThrowsMessage<ConnectionError>(AllOf(StartsWith("connect: "), Not(HasSubstr("geheim")))));
  }
  EXPECT_THAT(consumer.stats().last_error, StartsWith("connect: "));
  EXPECT_EQ(consumer.stats().reconnects, 0u);
  EXPECT_EQ(consumer.stats().state, ConsumerState::idle);
}

TEST(Consumer, ReturnsWithoutConnectingWhenStoppedBefore) {
  Consumer consumer{nowhere, quiet()};
  consumer.on("*", ignore);
  consumer.stop();
  EXPECT_NO_THROW(consumer.start());
  EXPECT_EQ(consumer.stats().last_error, "");
  EXPECT_THROW(consumer.start(), ConnectionError);  // the request is used up
}

TEST(Consumer, ReturnsWithoutConnectingWhenStoppedNowBefore) {
  Consumer consumer{nowhere, quiet()};
  consumer.on("*", ignore);
  consumer.stop_now();
  EXPECT_NO_THROW(consumer.start());
  EXPECT_THROW(consumer.start(), ConnectionError);
}

TEST(Consumer, WithoutAHandlerDoesNotStart) {
  Consumer consumer{nowhere, quiet()};
  consumer.stop();
  EXPECT_THAT([&] { consumer.start(); },
              ThrowsMessage<std::logic_error>(
                  AllOf(HasSubstr("no handler is registered"), HasSubstr("call on(type, handler) before start()"))));
  consumer.on_batch("t", [](const std::vector<Message>&) {});
  EXPECT_NO_THROW(consumer.start());  // the request to stop is still there
}

TEST(Consumer, RefusesASecondHandlerForAType) {
  Consumer consumer{nowhere, quiet()};
  consumer.on("order.created", ignore);
  EXPECT_THAT([&] { consumer.on("order.created", ignore); },
              ThrowsMessage<std::invalid_argument>(
                  "type: \"order.created\" has a handler already, by on(); a type has one handler"));
}

TEST(Consumer, SaysWhenItBeginsAndEnds) {
  std::vector<LogEvent> events;
  Consumer consumer{nowhere, quiet([&](const LogRecord& record) {
                      events.push_back(record.event);
                      EXPECT_EQ(record.queue, "orders");
                      EXPECT_EQ(record.consumer, "worker");
                    })};
  consumer.on("*", ignore);
  consumer.stop();
  consumer.start();
  EXPECT_THAT(events, testing::ElementsAre(LogEvent::started, LogEvent::stopped));
}

TEST(Consumer, LogsTheWorkersNameWithTheGroups) {
  std::string consumer_name;
  auto options = quiet([&](const LogRecord& record) { consumer_name = record.consumer; });
  options.subconsumer = "w1";
  Consumer consumer{nowhere, options};
  consumer.on("*", ignore);
  consumer.stop();
  consumer.start();
  EXPECT_EQ(consumer_name, "worker.w1");
}

TEST(Consumer, RefusesToBeChangedOrStartedWhileItRuns) {
  Consumer* running = nullptr;
  int refused = 0;
  Consumer consumer{nowhere, quiet([&](const LogRecord& record) {
                      if (record.event != LogEvent::started) return;
                      EXPECT_THROW(running->on("a", ignore), std::logic_error);
                      EXPECT_THROW(running->start(), std::logic_error);
                      ++refused;
                    })};
  running = &consumer;
  consumer.on("*", ignore);
  consumer.stop();
  consumer.start();
  EXPECT_EQ(refused, 1);
  EXPECT_NO_THROW(consumer.on("a", ignore));
}

TEST(Consumer, RefusesAnEmptyHandler) {
  Consumer consumer{nowhere, quiet()};
  const auto refused = ThrowsMessage<std::invalid_argument>(StartsWith("handler: "));
  EXPECT_THAT([&] { consumer.on("a", std::function<void(const Message&, Context&)>{}); }, refused);
  EXPECT_THAT([&] { consumer.on("a", std::function<void(const Message&)>{}); }, refused);
}

TEST(Consumer, RefusesATypeThatNoMessageCanHave) {
  Consumer consumer{nowhere, quiet()};
  EXPECT_THAT([&] { consumer.on("\xFF", ignore); },
              ThrowsMessage<std::invalid_argument>(StartsWith("type: is not valid UTF-8")));
  EXPECT_THAT([&] { consumer.on(std::string("a\0", 2), ignore); },
              ThrowsMessage<std::invalid_argument>(StartsWith("type: contains a NUL byte")));
}

TEST(Consumer, TakesHandlersOfBothKindsInAChain) {
  Consumer consumer{nowhere, quiet()};
  auto& same = consumer.on("a", [](const Message&) {}).on("*", [](const Message&, Context&) {});
  EXPECT_EQ(&same, &consumer);
}

TEST(Consumer, CanBeMovedAndIsOfNoUseThen) {
  Consumer original{nowhere, quiet()};
  Consumer consumer{std::move(original)};
  EXPECT_NO_THROW(consumer.on("a", ignore));
  // Using it is what is tested here.
  EXPECT_THROW(original.on("a", ignore), std::logic_error);  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(original.start(), std::logic_error);
  EXPECT_THROW(original.stats(), std::logic_error);
  original.stop();
  original.stop_now();
}

TEST(ConsumerState, HasAName) {
  const std::pair<ConsumerState, std::string_view> names[] = {
      {ConsumerState::idle, "idle"},           {ConsumerState::connecting, "connecting"},
      {ConsumerState::receiving, "receiving"}, {ConsumerState::handling, "handling"},
      {ConsumerState::waiting, "waiting"},     {ConsumerState::backing_off, "backing_off"},
      {ConsumerState::paused, "paused"},
  };
  for (const auto& [state, name] : names) EXPECT_EQ(to_string(state), name);
  EXPECT_EQ(to_string(static_cast<ConsumerState>(std::size(names))), "unknown");  // the list is complete
}

}  // namespace
}  // namespace pgque::test
