// Consumers that are processes: killed, stopped, and two with one name.

#include <csignal>

#include "fault_fixture.hpp"
#include "worker_process.hpp"

namespace pgque::test {
namespace {

class Processes : public FaultModes {
 protected:
  std::string mode_argument() const { return mode() == TransactionMode::per_batch ? "per_batch" : "split"; }
};

TEST_P(Processes, KilledInTheMiddleOfABatch) {
  publish_numbers(count);
  Worker victim{queue(), consumer_name(), mode_argument(), {"hang_at=4"}};
  ASSERT_TRUE(victim.wait_line("begin 4"));
  victim.signal(SIGKILL);
  EXPECT_EQ(victim.wait(), 128 + SIGKILL);
  EXPECT_EQ(victim.count("end"), 4);

  Work work{queue(), mode()};
  Consumer consumer{dsn(), options()};
  work.handle_with(consumer);
  const Running running{consumer};
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), count) << "all of the batch comes again, once";
  expect_works_on(work, mode());
}

#ifdef __GLIBC__
// Its pthread_exit() unwinds the stack, and ends the process where that is caught, as every exception of a handler is.
TEST_P(Processes, AHandlerThatEndsItsThreadEndsTheProcessAndTheBatchComesAgain) {
  publish_numbers(count);
  Worker victim{queue(), consumer_name(), mode_argument(), {"crash_at=4", "crash_by=thread"}};
  EXPECT_EQ(victim.wait(), 128 + SIGABRT);
  EXPECT_EQ(victim.count("end"), 4);

  Work work{queue(), mode()};
  Consumer consumer{dsn(), options()};
  work.handle_with(consumer);
  const Running running{consumer};
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), count) << "all of the batch comes again, once";
}
#endif

TEST_P(Processes, TwoWithOneConsumerName) {
  publish_numbers(count);
  Worker first{queue(), consumer_name(), mode_argument(), {"hang_at=0"}};
  ASSERT_TRUE(first.wait_line("begin 0"));
  Worker second{queue(), consumer_name(), mode_argument(), {"hang_at=0"}};
  if (mode() == TransactionMode::per_batch) {
    // It waits for the first one's transaction and gets nothing of its batch.
    ASSERT_TRUE(wait_until(
        [&] { return sql().number("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == 1; }));
    first.go_on();
    ASSERT_TRUE(wait_until([&] { return drained(); }));
    for (const auto& payload : numbers(count)) EXPECT_EQ(rows(payload), 1);
    ASSERT_TRUE(first.wait_line("batch_acked"));  // and so has printed everything about it
    EXPECT_EQ(first.count("begin"), count);
    EXPECT_EQ(second.count("begin"), 0);
  } else {
    // It gets the same batch, as documented; only one of the two acks counts.
    ASSERT_TRUE(second.wait_line("begin 0"));
    first.go_on();
    ASSERT_TRUE(first.wait_line("batch_acked"));
    second.go_on();
    ASSERT_TRUE(second.wait_line("stale_ack"));
    EXPECT_EQ(first.count("end"), count);
    EXPECT_EQ(second.count("end"), count);
    EXPECT_EQ(second.count("batch_acked"), 0);
  }

  // Many batches for both.
  constexpr int batches = 20;
  for (int batch = 1; batch <= batches; ++batch) publish("\"batch " + std::to_string(batch) + '"');
  ASSERT_TRUE(wait_until([&] { return drained(); }));
  EXPECT_EQ(first.terminate(), 0);
  EXPECT_EQ(second.terminate(), 0);
  for (int batch = 1; batch <= batches; ++batch) {
    const auto payload = "\"batch " + std::to_string(batch) + '"';
    const auto handled = first.count("end " + payload) + second.count("end " + payload);
    if (mode() == TransactionMode::per_batch) {
      EXPECT_EQ(handled, 1) << payload;
      EXPECT_EQ(rows(payload), 1);
    } else {
      EXPECT_GE(handled, 1) << payload;
      EXPECT_LE(handled, 2) << payload;
    }
  }
  EXPECT_EQ(first.count("batch_acked") + second.count("batch_acked"), 1 + batches);
  // In split mode one may be told to stop while it has a second copy of a batch that the other has just finished.
  if (mode() == TransactionMode::per_batch) {
    EXPECT_EQ(first.count("batch_abandoned") + second.count("batch_abandoned"), 0);
  }
}

// While one process has the subscription's row locked, the other can still be stopped.
TEST_F(FaultTest, ProcessStoppedWhileItWaitsForAnotherOfItsName) {
  publish_numbers(count);
  Worker first{queue(), consumer_name(), "per_batch", {"hang_at=0"}};
  ASSERT_TRUE(first.wait_line("begin 0"));
  Worker second{queue(), consumer_name(), "per_batch"};
  ASSERT_TRUE(wait_until(
      [&] { return sql().number("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") == 1; }));
  const auto begin = Clock::now();
  EXPECT_EQ(second.terminate(), 0);
  EXPECT_LT(Clock::now() - begin, 10s);
  first.go_on();
  ASSERT_TRUE(wait_until([&] { return drained(); }));
  EXPECT_EQ(first.terminate(), 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, Processes, both_modes, mode_name);

class CooperativeProcesses : public FaultTest {
 protected:
  static constexpr std::chrono::milliseconds dead_interval = 5000ms;
  static constexpr std::chrono::milliseconds poll = 100ms;

  void SetUp() override {
    FaultTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    client().subscribe_subconsumer(queue(), group_name(), "process");
    client().subscribe_subconsumer(queue(), group_name(), "sibling");
  }
  // A worker sends a heartbeat every third of the interval that it is given.
  Worker start_worker(std::chrono::milliseconds its_interval = dead_interval) {
    return {queue(),
            group_name(),
            "process",
            {"hang_at=4", "dead=" + std::to_string(its_interval.count()), "poll=" + std::to_string(poll.count())}};
  }
  ConsumerOptions sibling() {
    auto options = worker("sibling");
    options.dead_interval = dead_interval;
    options.poll_interval = poll;
    return options;
  }
};

TEST_F(CooperativeProcesses, KilledOneIsTakenOverAfterDeadInterval) {
  publish_numbers(count);
  auto victim = start_worker();
  ASSERT_TRUE(victim.wait_line("begin 4"));
  Work work{queue(), TransactionMode::split};
  Consumer consumer{dsn(), sibling()};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto sign_of_life = sql().value(of_worker("sub_active", "process"));
  const auto begin = Clock::now();
  victim.signal(SIGKILL);
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  const auto took = Clock::now() - begin;
  record("killed_worker_taken_over", took);
  EXPECT_EQ(sql().value("select clock_timestamp() - timestamptz '" + sign_of_life.value() + "' >= interval '" +
                        std::to_string(dead_interval.count()) + " ms'"),
            "t");
  EXPECT_EQ(work.total(), count);
}

TEST_F(CooperativeProcesses, HandlerThatHangsBeyondDeadIntervalIsNotTakenOverWhileItsProcessLives) {
  publish_numbers(count);
  auto worker = start_worker(300ms);  // so there is a heartbeat every 100 ms, and a busy machine may delay fifty
  ASSERT_TRUE(worker.wait_line("begin 4"));
  Work work{queue(), TransactionMode::split};
  Consumer consumer{dsn(), sibling()};
  work.handle_with(consumer);
  const Running running{consumer};
  // The test checks that nothing happens for this long. The sibling would take over after dead_interval.
  constexpr auto longer = dead_interval + dead_interval / 2;
  const auto end = Clock::now() + longer;
  EXPECT_FALSE(wait_until([&] { return work.total() != 0; }, longer));
  EXPECT_GE(Clock::now(), end);
  worker.go_on();
  ASSERT_TRUE(worker.wait_line("batch_acked"));
  EXPECT_EQ(worker.count("end"), count);
  EXPECT_EQ(worker.terminate(), 0);
  EXPECT_EQ(worker.count("batch_lost"), 0);
  EXPECT_EQ(work.total(), 0);
}

// A process sends no heartbeat only while it is suspended. When it continues, it has lost its batch, and its next
// heartbeat notices that, although a handler hangs.
TEST_F(CooperativeProcesses, StoppedOneIsTakenOverAndDoesNotAckWhenItGoesOn) {
  publish_numbers(count);
  auto worker = start_worker();
  ASSERT_TRUE(worker.wait_line("begin 4"));
  worker.signal(SIGSTOP);
  Work work{queue(), TransactionMode::split};
  {
    Consumer consumer{dsn(), sibling()};
    work.handle_with(consumer);
    const Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
    EXPECT_EQ(work.total(), count);
    EXPECT_EQ(consumer.stats().lost, 0U) << "the winner has lost nothing";
  }
  worker.signal(SIGCONT);
  ASSERT_TRUE(worker.wait_line("batch_lost"));
  EXPECT_EQ(worker.count("end"), 4);
  worker.go_on();
  ASSERT_TRUE(worker.wait_line("end 4"));
  // The worker goes on with new batches.
  publish("\"afterwards\"");
  ASSERT_TRUE(worker.wait_line("batch_acked"));
  EXPECT_EQ(worker.count("end \"afterwards\""), 1);
  EXPECT_EQ(worker.count("end"), 6) << "no other handler of the lost batch has run";
  EXPECT_EQ(worker.count("batch_acked"), 1);
  EXPECT_EQ(worker.count("batch_lost"), 1);
  EXPECT_EQ(worker.terminate(), 0);
}

}  // namespace
}  // namespace pgque::test
