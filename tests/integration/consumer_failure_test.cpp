// Handlers that fail: how, with which reason and when their messages come back.

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Le;

class ConsumerFailureTest : public ConsumerTest {
 protected:
  // Publishes one message, has it fail, and returns its dead letter's reason.
  std::string reason_of(const std::function<void()>& fail) {
    queue().config("max_retries", "0");
    publish("1");
    Consumer consumer{dsn(), options()};
    consumer.on("t", [&](const Message&) { fail(); });
    finish_batches(consumer);
    const auto reasons = queue().dead_letter_reasons();
    return reasons.size() == 1 ? reasons[0].value_or("NULL") : std::to_string(reasons.size()) + " dead letters";
  }
  // The delays after which the pending retries come back, oldest message first, to the second.
  std::vector<int> retry_delays() {
    std::vector<int> delays;
    const auto name = sql().quote(queue().name());
    for (const auto& row : sql()("select ceil(extract(epoch from ev_retry_after - clock_timestamp())) from "
                                 "pgque.retry_queue join pgque.queue on queue_id = ev_queue where queue_name = " +
                                 name + " order by ev_id")) {
      delays.push_back(std::stoi(row[0].c_str()));
    }
    return delays;
  }
};

// Seconds may pass between the nack and the look at it.
auto about(int seconds) {
  return AllOf(Ge(seconds - 5), Le(seconds));
}

TEST_F(ConsumerFailureTest, AnExceptionsTextReachesTheDeadLetter) {
  EXPECT_EQ(reason_of([] { throw std::runtime_error{"no stock"}; }), "handler error: no stock");
}

TEST_F(ConsumerFailureTest, ExceptionsOfAnyTypeAreFailures) {
  struct Anything {};
  queue().config("max_retries", "0");
  client().send(queue(), "1", "int");
  client().send(queue(), "2", "struct");
  client().send(queue(), "3", "good");
  queue().tick();
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("int", [](const Message&) { throw 42; });
  consumer.on("struct", [](const Message&) { throw Anything{}; });
  consumer.on("good", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("handler error: an exception that is not a std::exception",
                                                         "handler error: an exception that is not a std::exception"));
  EXPECT_THAT(seen.payloads(), ElementsAre("3"));
  EXPECT_EQ(consumer.stats().failures, 2U);
}

TEST_F(ConsumerFailureTest, AReasonKeepsItsQuotesBracesAndBackslashes) {
  const std::string text = R"(it's "quoted", {braced}, \escaped, $1 and NULL
on two lines)";
  EXPECT_EQ(reason_of([&] { throw std::runtime_error{text}; }), "handler error: " + text);
}

TEST_F(ConsumerFailureTest, AReasonThatIsNotUtf8IsRepaired) {
  EXPECT_EQ(reason_of([] { throw std::runtime_error{"bad \xFF\xC3 bytes"}; }),
            "handler error: bad \xEF\xBF\xBD\xEF\xBF\xBD bytes");
}

TEST_F(ConsumerFailureTest, AVeryLongReasonIsCutBetweenCharacters) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "\xC3\xA9";
  const auto reason = reason_of([&] { throw std::runtime_error{text}; });
  // 4000 bytes at most; after the 15 of "handler error: ", characters of two bytes each.
  EXPECT_EQ(reason, "handler error: " + text.substr(0, 3984));
}

TEST_F(ConsumerFailureTest, RetryAfterSetsReasonAndDelay) {
  EXPECT_EQ(reason_of([] { throw RetryAfter{0s, "later, please"}; }), "later, please");
  queue().config("max_retries", "5");
  publish("2");
  Consumer consumer{dsn(), options()};
  consumer.on("t", [](const Message&) { throw RetryAfter{1h}; });
  finish_batches(consumer);
  EXPECT_THAT(retry_delays(), ElementsAre(about(3600)));
}

TEST_F(ConsumerFailureTest, TheDelayIsSixtySecondsUnlessRetryAfterSaysOtherwise) {
  client().send(queue(), "1", "fails");
  client().send(queue(), "2", "unknown");
  queue().tick();
  const auto fail = [](const Message&) { throw std::runtime_error{"no"}; };
  {
    Consumer consumer{dsn(), options()};
    consumer.on("fails", fail);
    finish_batches(consumer);
  }
  EXPECT_THAT(retry_delays(), ElementsAre(about(60), about(60)));
  queue().expire_retries();
  auto slow = options();
  slow.retry_after = 7200s;
  Consumer consumer{dsn(), slow};
  consumer.on("fails", fail);
  finish_batches(consumer);
  EXPECT_THAT(retry_delays(), ElementsAre(about(7200), about(7200)));
}

TEST_F(ConsumerFailureTest, RetryDelayIsAskedPerMessageAndAttempt) {
  client().send(queue(), "1", "fails");
  client().send(queue(), "2", "unknown");
  queue().tick();
  std::vector<std::string> asked;
  auto computed = options();
  computed.retry_after = 7s;
  computed.retry_delay = [&](const Message& message, std::int32_t attempt) {
    asked.push_back(*message.payload + '/' + std::to_string(attempt));
    return std::chrono::seconds{std::stoi(*message.payload) * 1000 * attempt};
  };
  Consumer consumer{dsn(), computed};
  consumer.on("fails", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer, 1);
  EXPECT_THAT(retry_delays(), ElementsAre(about(1000), about(2000)));
  queue().expire_retries();
  finish_batches(consumer, 2);
  EXPECT_THAT(retry_delays(), ElementsAre(about(2000), about(4000)));
  EXPECT_THAT(asked, ElementsAre("1/1", "2/1", "1/2", "2/2"));
}

TEST_F(ConsumerFailureTest, ARetryDelayThatThrowsFallsBackToRetryAfter) {
  client().send(queue(), "1", "t");
  client().send(queue(), "2", "t");
  queue().tick();
  auto broken = options();
  broken.retry_after = 500s;
  broken.retry_delay = [](const Message& message, std::int32_t) -> std::chrono::seconds {
    if (message.payload == "1") throw std::runtime_error{"no delay today"};
    throw 42;
  };
  Consumer consumer{dsn(), broken};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer);
  EXPECT_THAT(retry_delays(), ElementsAre(about(500), about(500)));
  const auto errors = log.lines(LogEvent::failed);
  ASSERT_EQ(errors.size(), 2U);
  EXPECT_EQ(errors[0].level, LogLevel::error);
  EXPECT_THAT(errors[0].message, HasSubstr("no delay today"));
}

TEST_F(ConsumerFailureTest, ARetryDelayOutsideOfWhatPgqueTakesIsBroughtIntoRange) {
  client().send(queue(), "1", "t");
  client().send(queue(), "2", "t");
  queue().tick();
  auto strange = options();
  strange.retry_delay = [](const Message& message, std::int32_t) {
    return message.payload == "1" ? -5s : std::chrono::seconds::max();
  };
  Consumer consumer{dsn(), strange};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer);
  EXPECT_THAT(retry_delays(), ElementsAre(about(0), about(2147483647)));
}

TEST_F(ConsumerFailureTest, ExponentialRetryDoublesTheDelay) {
  publish("1");
  auto growing = options();
  growing.retry_delay = exponential_retry(1000s, 3000s);
  Consumer consumer{dsn(), growing};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
  std::uint64_t batches = 0;
  for (const int longest : {1000, 2000, 3000}) {
    finish_batches(consumer, ++batches);
    const auto delays = retry_delays();
    ASSERT_EQ(delays.size(), 1U);
    EXPECT_THAT(delays[0], AllOf(Ge(longest / 2 - 5), Le(longest)));
    queue().expire_retries();
  }
}

TEST_F(ConsumerFailureTest, OnlyTheFailedMessageOfABatchComesBack) {
  client().send(queue(), "1", "ok");
  const auto failed = client().send(queue(), "2", "boom");
  client().send(queue(), "3", "ok");
  queue().tick();
  Seen ok, boom;
  Consumer consumer{dsn(), options()};
  consumer.on("ok", ok.handler());
  consumer.on("boom", [&](const Message& message) {
    boom(message);
    if (!message.retry_count) throw std::runtime_error{"boom"};
  });
  finish_batches(consumer, 1);
  EXPECT_THAT(ok.payloads(), ElementsAre("1", "3"));
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_THAT(client().receive(queue(), consumer_name()), IsEmpty());

  queue().expire_retries();
  finish_batches(consumer, 2);
  EXPECT_THAT(ok.payloads(), ElementsAre("1", "3"));
  EXPECT_THAT(boom.ids(), ElementsAre(failed, failed));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(queue().dead_letters(), 0);
}

TEST_F(ConsumerFailureTest, EveryFailureOfALargeBatchComesBackWithItsOwnReason) {
  queue().config("max_retries", "0");
  publish_numbers(300);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [](const Message& message) {
    if (std::stoi(*message.payload) % 3 == 0) throw std::runtime_error{"no " + *message.payload};
  });
  finish_batches(consumer);
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_EQ(reasons.size(), 100U);
  for (std::size_t i = 0; i < reasons.size(); ++i) {
    EXPECT_EQ(reasons[i], "handler error: no " + std::to_string(3 * i));
  }
  EXPECT_EQ(consumer.stats().retries, 100U);
}

TEST_F(ConsumerFailureTest, MessagesThatAreNotJsonCanFailToo) {
  client().send(queue(), text("hello"));
  client().send(queue(), "\"hello\"");
  client().send(queue(), text("{\"torn"));
  queue().tick();
  Consumer consumer{dsn(), options()};
  consumer.on("*", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer, 1);
  EXPECT_EQ(queue().retries(), 3);
  queue().expire_retries();
  Seen seen;
  Consumer second{dsn(), options()};
  second.on("*", seen.handler());
  finish_batches(second, 1);
  EXPECT_THAT(seen.payloads(), ElementsAre("hello", "\"hello\"", "{\"torn"));
}

TEST_F(ConsumerFailureTest, AFailureIsLoggedWithItsFieldsAndWithoutThePayload) {
  const auto id = publish("\"secret\"");
  Consumer consumer{dsn(), options()};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no stock"}; });
  finish_batches(consumer);
  const auto lines = log.lines(LogEvent::handler_failed);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(lines[0].level, LogLevel::warning);
  EXPECT_EQ(lines[0].message, "handler error: no stock");
  EXPECT_EQ(lines[0].queue, queue().name());
  EXPECT_EQ(lines[0].consumer, consumer_name());
  EXPECT_EQ(lines[0].msg_id, id);
  EXPECT_EQ(lines[0].attempt, 1);
  EXPECT_EQ(lines[0].batch_id, log.lines(LogEvent::batch_acked).at(0).batch_id);
  for (const auto& line : log.lines()) EXPECT_THAT(line.message, testing::Not(HasSubstr("secret")));
}

TEST_F(ConsumerFailureTest, AFailureIsPrintedToStandardErrorByDefault) {
  publish("1");
  auto silent = options();
  silent.log = {};
  testing::internal::CaptureStderr();
  {
    Consumer consumer{dsn(), silent};
    consumer.on("t", [](const Message&) { throw std::runtime_error{"no stock"}; });
    finish_batches(consumer);
  }
  const auto printed = testing::internal::GetCapturedStderr();
  EXPECT_THAT(printed, HasSubstr("warning handler_failed queue=" + queue().name()));
  EXPECT_THAT(printed, HasSubstr("no stock\n"));
}

TEST_F(ConsumerFailureTest, ALogSinkThatThrowsStopsNothing) {
  publish("1");
  auto broken = options();
  broken.log = [](const LogRecord&) { throw std::runtime_error{"disk full"}; };
  Seen seen;
  Consumer consumer{dsn(), broken};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

}  // namespace
}  // namespace pgque::test
