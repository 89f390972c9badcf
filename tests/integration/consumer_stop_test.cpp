// Starting, stopping, and what becomes of the batch that is being handled.

#include <csignal>
#include <memory>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <pgque/consumer.hpp>
#include <pgque/signals.hpp>
#include <pqxx/pqxx>

#include "child_process.hpp"
#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

// Without it, these tests would wait for the poll interval of 30 s, a handler or a lock.
constexpr auto promptly = 10s;

class ConsumerStopTest : public ConsumerTest {
 protected:
  std::vector<Message> left_for_redelivery() { return client().receive(queue(), consumer_name()); }
  // Returns how long it took, and records it.
  static Clock::duration stop(Running<Consumer>& running, const std::string& what) {
    const auto begin = Clock::now();
    running.stop_and_join();
    const auto took = Clock::now() - begin;
    record(what, took);
    return took;
  }
};

TEST_F(ConsumerStopTest, BeforeStartMakesTheNextStartReturnAtOnceAndNoOther) {
  publish("1");
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  consumer.stop();
  consumer.start();
  EXPECT_THAT(seen.payloads(), IsEmpty());
  EXPECT_EQ(log.count(LogEvent::connected), 0U);
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

TEST_F(ConsumerStopTest, WhileWaitingReturnsAtOnce) {
  for (int i = 0; i < 5; ++i) {
    Consumer consumer{dsn(), options()};
    consumer.on("*", ignore);
    Running running{consumer};
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    EXPECT_LT(stop(running, "stop_while_waiting"), promptly);
    EXPECT_EQ(running.error(), nullptr);
    EXPECT_EQ(consumer.stats().state, ConsumerState::idle);
  }
}

TEST_F(ConsumerStopTest, FromAHandlerFinishesTheBatch) {
  publish_numbers(3);
  publish("3");
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "0") consumer.stop();
    seen(message);
  });
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_F(ConsumerStopTest, WhileHandlingTheRestOfTheBatchIsHandledAndAcked) {
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    publish_numbers(5);
    Gate gate;
    Seen seen;
    std::atomic<bool> told{false};
    Consumer consumer{dsn(), options(mode)};
    consumer.on("t", [&](const Message& message, Context& context) {
      gate.pass();
      told = context.stop_requested();
      seen(message);
    });
    Running running{consumer};
    ASSERT_TRUE(gate.wait_arrived());
    consumer.stop();
    gate.open();
    ASSERT_TRUE(running.wait_ended());
    EXPECT_TRUE(told);
    EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(5)));
    EXPECT_EQ(consumer.stats().batches, 1U);
    EXPECT_THAT(left_for_redelivery(), IsEmpty());
  }
}

TEST_F(ConsumerStopTest, WhileHandlingNacksWhatFailsInTheRest) {
  publish_numbers(3);
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "0") consumer.stop();
    if (message.payload == "2") throw std::runtime_error{"no"};
  });
  consumer.start();
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_F(ConsumerStopTest, WithoutDrainTimeTheRestIsLeftForRedelivery) {
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    publish_numbers(3);
    auto impatient = options(mode);
    impatient.drain_timeout = 0ms;
    Seen seen;
    bool once = true;
    Consumer consumer{dsn(), impatient};
    consumer.on("t", [&](const Message& message) {
      seen(message);
      if (std::exchange(once, false)) consumer.stop();
    });
    consumer.start();
    EXPECT_THAT(seen.payloads(), ElementsAre("0"));
    EXPECT_EQ(consumer.stats().batches, 0U);
    EXPECT_EQ(consumer.stats().abandoned, 1U);
    EXPECT_EQ(log.lines(LogEvent::batch_abandoned).back().level, LogLevel::warning);
    finish_batches(consumer);
    EXPECT_THAT(seen.payloads(), ElementsAre("0", "0", "1", "2"));
  }
}

TEST_F(ConsumerStopTest, TheRestOfTheBatchHasNoLongerThanTheDrainTimeout) {
  publish_numbers(10);
  auto limited = options();
  limited.drain_timeout = 2s;
  Seen seen;
  Clock::time_point stopped_at;
  Consumer consumer{dsn(), limited};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (message.payload == "1") {
      stopped_at = Clock::now();
      consumer.stop();
    }
    // Of those begun after the stop, the one numbered 3 uses up the rest of the time.
    if (message.payload == "3") wait_until([&] { return Clock::now() - stopped_at > 2010ms; });
  });
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(4)));
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(left_for_redelivery().size(), 10U);
}

// Such as a signal and a shutdown path.
TEST_F(ConsumerStopTest, BySeveralCallersDrainsTheBatch) {
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    publish_numbers(3);
    Gate gate;
    Seen seen;
    Consumer consumer{dsn(), options(mode)};
    consumer.on("t", [&](const Message& message) {
      gate.pass();
      seen(message);
    });
    Running running{consumer};
    ASSERT_TRUE(gate.wait_arrived());
    std::thread other{[&] { consumer.stop(); }};
    consumer.stop();
    other.join();
    gate.open();
    ASSERT_TRUE(running.wait_ended());
    EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
    EXPECT_EQ(consumer.stats().batches, 1U);
    EXPECT_EQ(consumer.stats().abandoned, 0U);
    EXPECT_THAT(left_for_redelivery(), IsEmpty());
  }
}

TEST_F(ConsumerStopTest, FromTheHandlerOfEachMessageDrainsTheBatch) {
  auto paged = options();
  paged.max_messages = 2;
  auto concurrent = options();
  concurrent.concurrency = 3;
  for (const auto& with : {options(), paged, concurrent}) {
    publish_numbers(5);
    Seen seen;
    Consumer consumer{dsn(), with};
    consumer.on("t", [&](const Message& message) {
      consumer.stop();
      seen(message);
    });
    consumer.start();
    EXPECT_THAT(seen.payloads(), testing::UnorderedElementsAreArray(numbers(5)));
    EXPECT_EQ(consumer.stats().batches, 1U);
    EXPECT_EQ(consumer.stats().abandoned, 0U);
    EXPECT_THAT(left_for_redelivery(), IsEmpty());
  }
}

TEST_F(ConsumerStopTest, NowLeavesTheRestAfterTheRunningHandler) {
  for (const bool after_a_stop : {false, true}) {
    publish_numbers(3);
    Gate gate;
    Seen seen;
    Consumer consumer{dsn(), options()};
    consumer.on("t", [&](const Message& message) {
      gate.pass();
      seen(message);
    });
    Running running{consumer};
    ASSERT_TRUE(gate.wait_arrived());
    if (after_a_stop) consumer.stop();
    consumer.stop_now();
    gate.open();
    ASSERT_TRUE(running.wait_ended());
    EXPECT_EQ(running.error(), nullptr);
    EXPECT_THAT(seen.payloads(), ElementsAre("0"));
    EXPECT_EQ(consumer.stats().abandoned, 1U);
    const auto left = left_for_redelivery();
    ASSERT_EQ(left.size(), 3U);
    client().ack(left.front().batch_id);
  }
}

// The byte of a stop that raced with the end of a run, or that another process wrote. While it stayed in the pipe, the
// consumer cancelled its own statements and never slept.
TEST_F(ConsumerStopTest, AStaleWakeUpCancelsNoReceive) {
  Sql other;
  publish("1");
  std::optional<pqxx::work> holding{std::in_place, other.connection()};
  const auto held = holding->exec("select * from pgque.receive(" + sql().quote(queue().name()) + ", " +
                                  sql().quote(consumer_name()) + ")");
  ASSERT_EQ(held.size(), 1U);
  Seen seen;
  std::optional<Consumer> consumer;
  const auto pipe = pipe_made_by([&] { consumer.emplace(watched_dsn(), options()); });
  consumer->on("t", seen.handler());
  Running running{*consumer};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  pipe.write_byte();
  ASSERT_TRUE(wait_until([&] { return pipe.waiting() == 0; })) << "nobody has looked";
  holding.reset();
  ASSERT_TRUE(wait_batches(*consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(consumer->stats().last_error, "");
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 0U);
  EXPECT_FALSE(running.ended());
}

TEST_F(ConsumerStopTest, AStaleWakeUpEndsNoWaitAndHidesNoStop) {
  std::optional<Consumer> consumer;
  const auto pipe = pipe_made_by([&] { consumer.emplace(dsn(), options()); });
  Seen seen;
  consumer->on("t", seen.handler());
  Running running{*consumer};
  for (std::uint64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
    pipe.write_byte();
    ASSERT_TRUE(wait_until([&] { return pipe.waiting() == 0; })) << "nobody has looked";
    publish(std::to_string(i));
    ASSERT_TRUE(wait_batches(*consumer, i + 1));
  }
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_EQ(consumer->stats().last_error, "");
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
  pipe.write_byte();
  EXPECT_LT(stop(running, "stop_after_a_stale_wake_up"), promptly);
  EXPECT_EQ(running.error(), nullptr);
}

TEST_F(ConsumerStopTest, ReceivesNoFurtherBatch) {
  publish("1");
  publish("2");
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    consumer.stop();
  });
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(left_for_redelivery().size(), 1U);
}

class BlockedReceiveTest : public ConsumerStopTest,
                           public testing::WithParamInterface<std::pair<const char*, void (*)(ConsumerOptions&)>> {};

TEST_P(BlockedReceiveTest, IsInterrupted) {
  auto with = options();
  GetParam().second(with);
  Sql other;
  const auto queue_name = sql().quote(queue().name());
  const auto name = sql().quote(with.name);
  const bool coop = !with.subconsumer.empty();
  if (coop) client().subscribe_subconsumer(queue(), with.name, "other");
  publish("1");
  std::optional<pqxx::work> holding{std::in_place, other.connection()};
  const auto held = holding->exec(coop ? "select * from pgque.receive_coop(" + queue_name + ", " + name + ", 'other')"
                                       : "select * from pgque.receive(" + queue_name + ", " + name + ")");
  ASSERT_EQ(held.size(), 1U);

  Seen seen;
  Consumer consumer{watched_dsn(), with};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  EXPECT_EQ(consumer.stats().state, ConsumerState::receiving);
  const auto begin = Clock::now();
  consumer.stop();
  EXPECT_TRUE(running.wait_ended(promptly));
  record("stop_while_blocked", Clock::now() - begin);
  holding.reset();
  ASSERT_TRUE(running.wait_ended());
  EXPECT_EQ(running.error(), nullptr);
  EXPECT_THAT(seen.payloads(), IsEmpty());
  EXPECT_EQ(consumer.stats().last_error, "");  // a stop is not an error
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
}

INSTANTIATE_TEST_SUITE_P(ConsumerStopTest, BlockedReceiveTest,
                         testing::Values(std::pair{"PerBatch", +[](ConsumerOptions&) {}},
                                         std::pair{"Split",
                                                   +[](ConsumerOptions& o) { o.transaction = TransactionMode::split; }},
                                         std::pair{"Paged", +[](ConsumerOptions& o) { o.max_messages = 10; }},
                                         std::pair{"Cooperative",
                                                   +[](ConsumerOptions& o) {
                                                     o.name += "_group";
                                                     o.subconsumer = "w1";
                                                   }}),
                         [](const auto& instance) { return instance.param.first; });

// What it has not got to waits for the next start, in this process or another.
TEST_F(ConsumerStopTest, NeverUnsubscribes) {
  client().subscribe_subconsumer(queue(), group_name(), "w");
  for (const auto& with : {options(), worker("w")}) {
    Consumer consumer{dsn(), with};
    consumer.on("*", ignore);
    Running running{consumer};
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    running.stop_and_join();
  }
  publish("1");
  EXPECT_FALSE(client().subscribe(queue(), consumer_name()));
  EXPECT_THAT(left_for_redelivery(), testing::SizeIs(1));
  EXPECT_FALSE(client().subscribe_subconsumer(queue(), group_name(), "w"));
  EXPECT_THAT(client().receive_coop(queue(), group_name(), "w"), testing::SizeIs(1));
}

TEST_F(ConsumerStopTest, DuringThePauseAfterAnErrorReturnsAtOnce) {
  client().unsubscribe(queue(), consumer_name());
  auto patient = options();
  patient.on_error = [](const Error&) { return ErrorAction::retry; };
  patient.reconnect = {30s, 30s};
  Consumer consumer{dsn(), patient};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::backing_off));
  EXPECT_LT(stop(running, "stop_while_backing_off"), promptly);
  EXPECT_EQ(running.error(), nullptr);
}

TEST_F(ConsumerStopTest, StartCanBeCalledAgain) {
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  for (std::uint64_t i = 0; i < 3; ++i) {
    publish(std::to_string(i));
    finish_batches(consumer, i + 1);
  }
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
  // Counted are the connections lost, not the starts.
  EXPECT_EQ(consumer.stats().reconnects, 0U);
}

TEST_F(ConsumerStopTest, StartWhileRunningIsALogicErrorThatStopsNothing) {
  Consumer consumer{dsn(), options()};
  Seen seen;
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_THROW(consumer.start(), std::logic_error);
  publish("1");
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_FALSE(running.ended());
}

TEST_F(ConsumerStopTest, StartFromAHandlerIsALogicError) {
  publish("1");
  bool refused = false;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message&) {
    try {
      consumer.start();
    } catch (const std::logic_error&) {
      refused = true;
    }
  });
  finish_batches(consumer);
  EXPECT_TRUE(refused);
}

TEST_F(ConsumerStopTest, OnWhileRunningIsALogicError) {
  Consumer consumer{dsn(), options()};
  consumer.on("*", ignore);
  {
    Running running{consumer};
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    EXPECT_THROW(consumer.on("t", [](const Message&) {}), std::logic_error);
  }
  EXPECT_NO_THROW(consumer.on("t", [](const Message&) {}));
}

TEST_F(ConsumerStopTest, TheDestructorStopsAWaitingConsumerAndWaitsForStartToReturn) {
  auto consumer = std::make_unique<Consumer>(watched_dsn(), options());
  consumer->on("*", ignore);
  std::atomic<bool> returned{false};
  std::thread thread{[&, consumer = consumer.get()] {
    consumer->start();
    returned = true;
  }};
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  const auto begin = Clock::now();
  consumer.reset();
  EXPECT_LT(Clock::now() - begin, promptly);
  // Its session ends with the run, even if the thread goes on.
  EXPECT_TRUE(wait_until([&] { return sessions() == 0; }));
  EXPECT_EQ(log.count(LogEvent::stopped), 1U);
  thread.join();
  EXPECT_TRUE(returned);
}

TEST_F(ConsumerStopTest, TheDestructorWaitsForTheBatchThatIsBeingHandled) {
  publish_numbers(3);
  std::atomic<bool> handling{false};
  Seen seen;
  auto consumer = std::make_unique<Consumer>(dsn(), options());
  consumer->on("t", [&](const Message& message, Context& context) {
    handling = true;
    EXPECT_TRUE(wait_until([&] { return context.stop_requested(); }));  // by the destructor
    seen(message);
  });
  std::thread thread{[consumer = consumer.get()] { consumer->start(); }};
  ASSERT_TRUE(wait_until([&] { return handling.load(); }));
  consumer.reset();
  EXPECT_EQ(seen.size(), 3U);
  EXPECT_EQ(log.count(LogEvent::batch_acked), 1U);
  thread.join();
}

TEST_F(ConsumerStopTest, TheDestructorOfAConsumerThatNeverRanReturns) {
  Consumer consumer{dsn(), options()};
}

// In concurrent consumers handlers run on other threads than start().
class SelfDestructionTest : public ConsumerStopTest, public testing::WithParamInterface<std::int32_t> {};

TEST_P(SelfDestructionTest, AHandlerMayDestroyItsConsumer) {
  publish("1");
  // Shared, so that a deadlock fails this test without hanging the others.
  struct Shared {
    LogCapture log;
    std::unique_ptr<Consumer> consumer;
    std::atomic<bool> returned{false};
  };
  const auto shared = std::make_shared<Shared>();
  auto with = options();
  with.concurrency = GetParam();
  with.log = shared->log.sink();
  shared->consumer = std::make_unique<Consumer>(dsn(), with);
  shared->consumer->on("t", [shared = shared.get()](const Message&) { shared->consumer.reset(); });
  std::thread thread{[shared, consumer = shared->consumer.get()] {
    consumer->start();
    shared->returned = true;
  }};
  if (!wait_until([&] { return shared->returned.load(); }, 5s)) {
    thread.detach();
    FAIL() << "the destructor waits for the handler that called it";
  }
  thread.join();
  EXPECT_THAT(left_for_redelivery(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(ConsumerStopTest, SelfDestructionTest, testing::Values(1, 2),
                         [](const auto& instance) { return instance.param == 1 ? "Sequential" : "Concurrent"; });

TEST_F(ConsumerStopTest, AMovedConsumerRunsAndTheMovedFromOneDoesNot) {
  publish("1");
  Seen seen;
  Consumer first{dsn(), options()};
  first.on("t", seen.handler());
  Consumer second{std::move(first)};
  EXPECT_THROW(first.start(), std::logic_error);  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(first.stats(), std::logic_error);  // NOLINT(bugprone-use-after-move)
  first.stop();                                   // NOLINT(bugprone-use-after-move)
  finish_batches(second);
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

struct sigaction action_of(int signal) {
  struct sigaction action {};
  ::sigaction(signal, nullptr, &action);
  return action;
}
bool is_default(int signal) {
  return action_of(signal).sa_handler == SIG_DFL;
}

// The parent of this program may have told it to ignore the signal, as shells do with what runs in the background.
class SignalTest : public ConsumerStopTest, public testing::WithParamInterface<int> {
 protected:
  SignalTest() {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(GetParam(), &action, &previous_);
  }
  SignalTest(const SignalTest&) = delete;
  SignalTest& operator=(const SignalTest&) = delete;
  ~SignalTest() override { ::sigaction(GetParam(), &previous_, nullptr); }

 private:
  struct sigaction previous_ {};
};

TEST_P(SignalTest, StopsEveryConsumerThatAskedForItAndRestoresTheHandlers) {
  ASSERT_TRUE(is_default(GetParam()));
  const auto other_name = consumer_name() + "_other";
  client().subscribe(queue(), other_name);
  auto other = options();
  other.name = other_name;
  Consumer first{dsn(), options()};
  Consumer second{dsn(), other};
  first.on("*", ignore);
  second.on("*", ignore);
  stop_on_signals(first);
  stop_on_signals(second);
  EXPECT_TRUE(is_default(GetParam()));  // nothing yet
  {
    Running run_first{first};
    Running run_second{second};
    ASSERT_TRUE(wait_state(first, ConsumerState::waiting));
    ASSERT_TRUE(wait_state(second, ConsumerState::waiting));
    ASSERT_FALSE(is_default(GetParam()));
    const auto begin = Clock::now();
    ASSERT_EQ(::kill(::getpid(), GetParam()), 0);
    ASSERT_TRUE(run_first.wait_ended());
    ASSERT_TRUE(run_second.wait_ended());
    const auto took = Clock::now() - begin;
    record("stop_by_signal", took);
    EXPECT_LT(took, promptly);
    EXPECT_EQ(run_first.error(), nullptr);
  }
  EXPECT_TRUE(is_default(GetParam()));
}

TEST_P(SignalTest, DrainsTheBatch) {
  publish_numbers(3);
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "0") ::kill(::getpid(), GetParam());
    seen(message);
  });
  stop_on_signals(consumer);
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_TRUE(is_default(GetParam()));
}

// Each of three stops was meant, and the second one gave up the batch.
TEST_P(SignalTest, AndAShutdownPathDrainTheBatch) {
  publish_numbers(3);
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "0") consumer.stop();
    if (message.payload == "1") ::raise(GetParam());
    if (message.payload == "2") consumer.stop();
    seen(message);
  });
  stop_on_signals(consumer);
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
}

TEST_P(SignalTest, ASecondLaterAbandonsTheBatch) {
  publish_numbers(3);
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", [&](const Message& message) {
    ::raise(GetParam());
    const auto raised_at = Clock::now();
    EXPECT_TRUE(wait_until([&] { return Clock::now() - raised_at > 1010ms; }));
    ::raise(GetParam());
    seen(message);
  });
  stop_on_signals(consumer);
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAre("0"));
  EXPECT_EQ(consumer.stats().batches, 0U);
  EXPECT_EQ(consumer.stats().abandoned, 1U);
}

TEST_P(SignalTest, IsLeftAloneWithoutOptIn) {
  Consumer consumer{dsn(), options()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_TRUE(is_default(GetParam()));
}

TEST_P(SignalTest, StaysIgnoredIfItWas) {
  struct sigaction ignored {};
  ignored.sa_handler = SIG_IGN;
  struct sigaction before {};
  ASSERT_EQ(::sigaction(GetParam(), &ignored, &before), 0);
  {
    Consumer consumer{dsn(), options()};
    consumer.on("*", ignore);
    stop_on_signals(consumer);
    Running running{consumer};
    EXPECT_TRUE(wait_state(consumer, ConsumerState::waiting));
    EXPECT_EQ(action_of(GetParam()).sa_handler, SIG_IGN);
  }
  EXPECT_EQ(action_of(GetParam()).sa_handler, SIG_IGN);
  ::sigaction(GetParam(), &before, nullptr);
}

INSTANTIATE_TEST_SUITE_P(ConsumerStopTest, SignalTest, testing::Values(SIGTERM, SIGINT),
                         [](const auto& instance) { return instance.param == SIGTERM ? "Sigterm" : "Sigint"; });

}  // namespace
}  // namespace pgque::test
