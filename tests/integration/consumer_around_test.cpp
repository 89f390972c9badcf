// ConsumerOptions::around: code around each call of a handler.

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;

class ConsumerAroundTest : public ConsumerTest {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    queue().config("max_retries", "0");
  }
  void note(const std::string& what) {
    const std::lock_guard lock{mutex_};
    notes.push_back(what);
  }
  // Notes when it begins and ends.
  Around noting(const std::string& name) {
    return [this, name](const Message& message, Context&, const std::function<void()>& next) {
      note(name + " begins " + *message.payload);
      next();
      note(name + " ends " + *message.payload);
    };
  }
  // Runs a consumer with this around two messages, of which the second fails.
  void run(const Around& around) {
    publish_numbers(2);
    auto with = options();
    with.around = around;
    Consumer consumer{dsn(), with};
    consumer.on("t", [&](const Message& message) {
      note("handler of " + *message.payload);
      if (message.payload == "1") throw std::runtime_error{"no"};
    });
    finish_batches(consumer);
    stats = consumer.stats();
  }

  std::vector<std::string> notes;
  ConsumerStats stats;

 private:
  std::mutex mutex_;
};

TEST_F(ConsumerAroundTest, IsAroundEachHandler) {
  run(noting("it"));
  EXPECT_THAT(notes, ElementsAre("it begins 0", "handler of 0", "it ends 0", "it begins 1", "handler of 1"));
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre(std::optional<std::string>{"handler error: no"}));
}

TEST_F(ConsumerAroundTest, TheFirstOfAChainIsTheOutermost) {
  run(chain({noting("a"), {}, noting("b")}));
  EXPECT_THAT(notes, ElementsAre("a begins 0", "b begins 0", "handler of 0", "b ends 0", "a ends 0", "a begins 1",
                                 "b begins 1", "handler of 1"));
}

void call(const Message&, Context&, const std::function<void()>& next) {
  next();
}
void call_too(const Message&, Context&, const std::function<void()>& next) {
  next();
}

TEST_F(ConsumerAroundTest, AChainTakesPlainFunctions) {
  run(chain({call, call_too}));
  EXPECT_THAT(notes, ElementsAre("handler of 0", "handler of 1"));
}

TEST_F(ConsumerAroundTest, AnEmptyChainIsNone) {
  EXPECT_FALSE(chain(std::vector<Around>{}));
  EXPECT_FALSE(chain({Around{}, Around{}}));
}

TEST_F(ConsumerAroundTest, SeesExceptionsAndMayReplaceThem) {
  run([&](const Message& message, Context&, const std::function<void()>& next) {
    try {
      next();
    } catch (const std::exception& error) {
      note(std::string{"saw "} + error.what());
      throw std::runtime_error{"failed at " + *message.payload};
    }
  });
  EXPECT_THAT(notes, ElementsAre("handler of 0", "handler of 1", "saw no"));
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre(std::optional<std::string>{"handler error: failed at 1"}));
}

TEST_F(ConsumerAroundTest, CannotSwallowAnException) {
  run([&](const Message&, Context&, const std::function<void()>& next) {
    try {
      next();
    } catch (const std::exception&) {
      note("swallowed");
    }
  });
  EXPECT_THAT(notes, ElementsAre("handler of 0", "handler of 1", "swallowed"));
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre(std::optional<std::string>{"handler error: no"}));
  EXPECT_EQ(stats.failures, 1U);
}

TEST_F(ConsumerAroundTest, CannotSwallowAMessage) {
  run([](const Message&, Context&, const std::function<void()>&) {});
  EXPECT_THAT(notes, ElementsAre());
  const std::optional<std::string> reason{"handler error: around: it returned without having called next()"};
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre(reason, reason));
  EXPECT_EQ(stats.messages, 0U);
  EXPECT_EQ(stats.failures, 2U);
}

TEST_F(ConsumerAroundTest, CannotHandleAMessageTwice) {
  run([](const Message&, Context&, const std::function<void()>& next) {
    next();
    next();
  });
  EXPECT_THAT(notes, ElementsAre("handler of 0", "handler of 1"));
  EXPECT_THAT(queue().dead_letter_reasons(),
              ElementsAre(std::optional<std::string>{"handler error: around: next() may be called only once"},
                          std::optional<std::string>{"handler error: no"}));
}

TEST_F(ConsumerAroundTest, LetsNotNowAndRetryAfterThrough) {
  publish_numbers(1);
  auto with = options();
  with.around = noting("it");
  int calls = 0;
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&) {
    if (++calls == 1) throw NotNow{1ms, "down"};
    throw RetryAfter{0s, "later"};
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().postponed, 1U);
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre(std::optional<std::string>{"later"}));
}

TEST_F(ConsumerAroundTest, IsCalledOnceForABatchWithAllOfItsMessages) {
  publish_numbers(3);
  auto with = options();
  with.around = [&](const Message& message, Context& context, const std::function<void()>& next) {
    EXPECT_EQ(&message, &context.message());
    note(*message.payload + " of " + std::to_string(context.message_count()));
    next();
    note("last " + *context.message(2).payload);
  };
  Consumer consumer{dsn(), with};
  consumer.on_batch("t", [&](const std::vector<Message>&) { note("handler"); });
  finish_batches(consumer);
  EXPECT_THAT(notes, ElementsAre("0 of 3", "handler", "last 2"));
  EXPECT_EQ(consumer.stats().messages, 3U);
}

TEST_F(ConsumerAroundTest, MayDeferWritesToo) {
  publish_numbers(1);
  auto with = options(TransactionMode::split);
  with.around = [&](const Message&, Context& context, const std::function<void()>& next) {
    context.on_ack([&](pqxx::transaction_base&) { note("first"); });
    next();
    context.on_ack([&](pqxx::transaction_base&) { note("last"); });
  };
  Consumer consumer{dsn(), with};
  consumer.on("t", [&](const Message&, Context& context) {
    context.on_ack([&](pqxx::transaction_base&) { note("handler's"); });
  });
  finish_batches(consumer);
  EXPECT_THAT(notes, ElementsAre("first", "handler's", "last"));
}

TEST_F(ConsumerAroundTest, RunsOnTheHandlersThreads) {
  publish_numbers(2);
  auto with = options();
  with.concurrency = 2;
  std::atomic<int> inside{0};
  std::atomic<int> together{0};
  with.around = [&](const Message&, Context&, const std::function<void()>& next) {
    ++inside;
    if (wait_until([&] { return inside == 2; })) ++together;
    next();
  };
  Seen seen;
  Consumer consumer{dsn(), with};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_EQ(together, 2);
  EXPECT_EQ(seen.size(), 2U);
}

}  // namespace
}  // namespace pgque::test
