// Messages that end the process, and consumers with a crash_guard. Consumers that crash are processes; worker.cpp says
// how they end in a program that was built with a sanitizer.

#include <atomic>
#include <csignal>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <unistd.h>

#include "fault_fixture.hpp"
#include "thrown.hpp"
#include "worker_process.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr auto segmentation_fault = 128 + SIGSEGV;
const std::string reason = "crash_guard: the process ended 3 times while this message was handled";

class CrashGuardFaults : public FaultTest {
 protected:
  void SetUp() override {
    FaultTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    client().subscribe_subconsumer(queue(), group_name(), "w1");
    client().subscribe_subconsumer(queue(), group_name(), "w2");
    queue().config("max_retries", "1");
  }
  void TearDown() override {
    for (const auto* const name : {"", ".other"}) ::unlink((guard() + name).c_str());
    FaultTest::TearDown();
  }
  std::string guard() const { return testing::TempDir() + consumer_name() + ".guard"; }
  std::vector<std::string> with_guard(std::vector<std::string> settings) const {
    settings.push_back("guard=" + guard());
    return settings;
  }
  ConsumerOptions guarded(TransactionMode mode) {
    auto out = FaultTest::options(mode);
    out.crash_guard = CrashGuard{guard()};
    return out;
  }
  // Two consumers, each with the message 1 as a suspect.
  std::pair<ConsumerOptions, ConsumerOptions> two_with_suspects() {
    auto first = guarded(TransactionMode::split);
    auto second = first;
    second.name = consumer_name() + "_other";
    second.crash_guard = CrashGuard{guard() + ".other"};
    client().subscribe(queue(), second.name);
    publish("1");
    for (const auto& options : {first, second}) {
      Worker worker{queue(), options.name, "split", {"crash_at=1", "guard=" + options.crash_guard->file}};
      EXPECT_EQ(worker.wait(), segmentation_fault);
    }
    return {first, second};
  }
  void crash_three_times(const std::string& mode, const std::vector<std::string>& settings) {
    for (int crashes = 0; crashes < 3; ++crashes) {
      Worker worker{queue(), consumer_name(), mode, settings};
      ASSERT_EQ(worker.wait(), segmentation_fault);
    }
  }
  // The message 1 of three is refused at the next start, without its handler.
  void expect_nacked_then(const std::string& mode, const std::vector<std::string>& settings) {
    Worker worker{queue(), consumer_name(), mode, settings};
    ASSERT_TRUE(worker.wait_line("batch_acked"));
    EXPECT_EQ(worker.terminate(), 0);
    EXPECT_EQ(worker.count("begin 1"), 0);
    EXPECT_EQ(worker.count("end"), 2);
    EXPECT_EQ(queue().retries(), 1);
  }
  // Four messages, 0 to 3, are being handled when one of them crashes the process.
  void crash_with_four_in_flight() {
    Worker worker{queue(), consumer_name(), "split", with_guard({"concurrency=4", "crash_at=2", "beside=3"})};
    ASSERT_EQ(worker.wait(), segmentation_fault);
    ASSERT_EQ(worker.count("begin"), 4);
  }
};

enum class Kind { per_batch, split, concurrent, cooperative };

class CrashGuardInEachMode : public CrashGuardFaults, public testing::WithParamInterface<Kind> {
 protected:
  Worker start(std::vector<std::string> settings = {}) {
    const bool cooperative = GetParam() == Kind::cooperative;
    if (GetParam() == Kind::concurrent) settings.emplace_back("concurrency=4");
    return {queue(), cooperative ? group_name() : consumer_name(),
            GetParam() == Kind::per_batch ? "per_batch"
            : cooperative                 ? "w1"
                                          : "split",
            with_guard(std::move(settings))};
  }
};

TEST_P(CrashGuardInEachMode, NacksAMessageThatCrashedTheProcessThreeTimesUntilItIsADeadLetter) {
  publish_numbers(count);
  for (int crashes = 0; crashes < 3; ++crashes) {
    auto worker = start({"crash_at=4"});
    ASSERT_EQ(worker.wait(), segmentation_fault);
    EXPECT_EQ(worker.count("begin 4"), 1);
    EXPECT_GE(worker.count("crash_suspected"), crashes == 0 ? 0 : 1);
    EXPECT_EQ(worker.count("handler_failed"), 0);
  }
  {
    auto worker = start({"crash_at=4"});
    ASSERT_TRUE(worker.wait_line("batch_acked"));
    EXPECT_EQ(worker.terminate(), 0);
    EXPECT_EQ(worker.count("begin 4"), 0);
    EXPECT_EQ(worker.count("handler_failed"), 1);
    EXPECT_THAT(worker.lines(), Contains(AllOf(StartsWith("handler_failed "), HasSubstr(reason))));
    for (const auto& payload : numbers(count)) {
      EXPECT_EQ(worker.count("end " + payload), payload == "4" ? 0 : 1) << payload;
      if (GetParam() == Kind::per_batch) {
        EXPECT_EQ(rows(payload), payload == "4" ? 0 : 1) << payload;
      }
    }
  }
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(queue().dead_letters(), 0);

  queue().expire_retries();
  auto worker = start({"crash_at=4"});
  ASSERT_TRUE(worker.wait_line("batch_acked"));
  EXPECT_EQ(worker.terminate(), 0);
  EXPECT_EQ(worker.count("begin"), 0);
  EXPECT_EQ(worker.count("crash_suspected"), 0) << "it was not in flight the last time";
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre(reason));
}

// The handler survives each time, and what it deferred does not.
TEST_P(CrashGuardInEachMode, NacksAMessageWhoseDeferredWritesCrashedTheProcessThreeTimes) {
  publish_numbers(count);
  for (int crashes = 0; crashes < 3; ++crashes) {
    auto worker = start({"callback_crashes_at=4"});
    ASSERT_EQ(worker.wait(), segmentation_fault);
    EXPECT_EQ(worker.count("end 4"), 1);
  }
  auto worker = start({"callback_crashes_at=4"});
  ASSERT_TRUE(worker.wait_line("batch_acked"));
  EXPECT_EQ(worker.terminate(), 0);
  EXPECT_EQ(worker.count("begin 4"), 0);
  EXPECT_EQ(worker.count("end"), count - 1);
  EXPECT_THAT(worker.lines(), Contains(AllOf(StartsWith("handler_failed "), HasSubstr(reason))));
  EXPECT_EQ(queue().retries(), 1);
}

// Which message of a call it was is not known at first. So they come one by one, and no other is blamed.
TEST_P(CrashGuardInEachMode, FindsTheMessageOfABatchHandlerThatCrashesTheProcess) {
  publish_numbers(count);
  for (int crashes = 0; crashes < 4; ++crashes) {
    auto worker = start({"many=1", "crash_at=4"});
    ASSERT_EQ(worker.wait(), segmentation_fault);
    EXPECT_EQ(worker.count("begin 4"), 1);
    EXPECT_EQ(worker.count("handler_failed"), 0);
  }
  auto worker = start({"many=1", "crash_at=4"});
  ASSERT_TRUE(worker.wait_line("batch_acked"));
  EXPECT_EQ(worker.terminate(), 0);
  EXPECT_EQ(worker.count("begin 4"), 0);
  EXPECT_EQ(worker.count("end"), count - 1);
  EXPECT_EQ(worker.count("handler_failed"), 1);
  EXPECT_THAT(worker.lines(), Contains(AllOf(StartsWith("handler_failed "), HasSubstr(reason))));
  EXPECT_EQ(queue().retries(), 1);
}

std::string kind_name(const testing::TestParamInfo<Kind>& info) {
  switch (info.param) {
    case Kind::per_batch:
      return "per_batch";
    case Kind::split:
      return "split";
    case Kind::concurrent:
      return "concurrent";
    case Kind::cooperative:
      return "cooperative";
  }
  return "unknown";
}

INSTANTIATE_TEST_SUITE_P(Kinds, CrashGuardInEachMode,
                         testing::Values(Kind::per_batch, Kind::split, Kind::concurrent, Kind::cooperative), kind_name);

// What was in flight beside the crashing message is never nacked, and handled alone until it is known to be innocent.
TEST_F(CrashGuardFaults, NacksNoInnocentThatWasInFlightBesideTheCrashingMessage) {
  publish_numbers(count);
  crash_with_four_in_flight();
  const auto settings = with_guard({"concurrency=4", "crash_at=2"});
  const auto handlers = [](const Worker& worker) {
    std::vector<std::string> lines;
    for (const auto& line : worker.lines()) {
      if (line.compare(0, 6, "begin ") == 0 || line.compare(0, 4, "end ") == 0) lines.push_back(line);
    }
    return lines;
  };
  {
    Worker worker{queue(), consumer_name(), "split", settings};
    ASSERT_EQ(worker.wait(), segmentation_fault);
    EXPECT_EQ(worker.count("crash_suspected"), 4);
    EXPECT_THAT(handlers(worker), ElementsAre("begin 0", "end 0", "begin 1", "end 1", "begin 2"));
  }
  {
    Worker worker{queue(), consumer_name(), "split", settings};
    ASSERT_EQ(worker.wait(), segmentation_fault);
    EXPECT_EQ(worker.count("crash_suspected"), 1);
    EXPECT_EQ(worker.count("end 0") + worker.count("end 1"), 2);
    EXPECT_EQ(handlers(worker).back(), "begin 2");
    EXPECT_EQ(handlers(worker).size(), 5U);
  }
  Worker worker{queue(), consumer_name(), "split", settings};
  ASSERT_TRUE(worker.wait_line("batch_acked"));
  EXPECT_EQ(worker.terminate(), 0);
  EXPECT_EQ(worker.count("handler_failed"), 1);
  EXPECT_EQ(worker.count("begin 2"), 0);
  for (const auto& payload : numbers(count)) EXPECT_EQ(worker.count("end " + payload), payload == "2" ? 0 : 1);
  const auto lines = handlers(worker);
  ASSERT_EQ(lines.size(), 18U);
  EXPECT_EQ(lines[4], "begin 3");
  EXPECT_EQ(lines[5], "end 3");
  EXPECT_EQ(queue().retries(), 1);
}

// What crashes is not the handler itself.
TEST_F(CrashGuardFaults, NacksAMessageWhoseRetryDelayCrashedTheProcess) {
  publish_numbers(3);
  const auto settings = with_guard({"delay_crashes_at=1"});
  crash_three_times("split", settings);
  expect_nacked_then("split", settings);
}

// The handler has returned before the violation is found.
TEST_F(CrashGuardFaults, NacksAMessageWhoseRetryDelayCrashedTheProcessAfterALateViolation) {
  const auto table = "public." + unique_name("pgque_test_late");
  sql()("create table " + table + "_parent (id int primary key)");
  sql()("create table " + table + " (id int references " + table + "_parent deferrable initially deferred)");
  publish_numbers(3);
  const auto settings = with_guard({"delay_crashes_at=1", "late=" + table});
  crash_three_times("per_batch", settings);
  expect_nacked_then("per_batch", settings);
  sql()("drop table " + table + ", " + table + "_parent");
}

TEST_F(CrashGuardFaults, NacksAMessageOfAnUnknownTypeThatCrashedTheProcess) {
  client().send(queue(), "0", "t");
  client().send(queue(), "1", "unknown");
  publish("2", "t");
  const auto settings = with_guard({"type=t", "crash_of_unknown=1"});
  crash_three_times("split", settings);
  expect_nacked_then("split", settings);
}

TEST_F(CrashGuardFaults, HandlesSuspectsAloneAndKeepsTheOrderOfKeys) {
  const auto ids = publish_numbers(count);
  crash_with_four_in_flight();

  auto options = guarded(TransactionMode::split);
  options.concurrency = 4;
  options.key = [](const Message& message) { return std::to_string(std::stoi(*message.payload) % 2); };
  Consumer consumer{dsn(), options};
  std::atomic<int> running{0};
  Seen seen;
  consumer.on("t", [&](const Message& message) {
    ++running;
    seen(message);
    if (std::stoi(*message.payload) < 4) {
      // Nothing comes to its side, however long that takes.
      EXPECT_FALSE(wait_until([&] { return running != 1; }, 100ms)) << *message.payload;
    }
    --running;
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().messages, static_cast<std::uint64_t>(count));
  EXPECT_EQ(consumer.stats().failures, 0U);
  std::vector<std::string> even;
  std::vector<std::string> odd;
  for (const auto& payload : seen.payloads()) (std::stoi(payload) % 2 == 0 ? even : odd).push_back(payload);
  EXPECT_THAT(even, ElementsAre("0", "2", "4", "6", "8"));
  EXPECT_THAT(odd, ElementsAre("1", "3", "5", "7", "9"));

  std::vector<EventId> suspects;
  for (const auto& line : log.lines(LogEvent::crash_suspected)) {
    EXPECT_EQ(line.level, LogLevel::warning);
    EXPECT_EQ(line.consumer, consumer_name());
    EXPECT_EQ(line.message, "the process ended while this message was handled, once so far");
    suspects.push_back(line.msg_id.value());
  }
  EXPECT_EQ(suspects, std::vector<EventId>(ids.begin(), ids.begin() + 4));
}

TEST_F(CrashGuardFaults, CountsEveryEndOfTheProcess) {
  publish("1");
  for (const auto& [how, status] :
       std::vector<std::pair<std::string, int>>{{"abort", 128 + SIGABRT}, {"exit", 3}, {"kill", 128 + SIGKILL}}) {
    Worker worker{queue(), consumer_name(), "per_batch", with_guard({"crash_at=1", "crash_by=" + how})};
    ASSERT_EQ(worker.wait(), status);
  }
  Consumer consumer{dsn(), guarded(TransactionMode::per_batch)};
  Seen seen;
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), IsEmpty());
  EXPECT_EQ(consumer.stats().failures, 1U);
  EXPECT_EQ(log.lines(LogEvent::handler_failed).at(0).message, reason);
}

// Otherwise they would be refused in the end, because their batch is never acknowledged.
TEST_F(CrashGuardFaults, AHandlerThatThrowsHasSurvived) {
  publish_numbers(count);
  for (int i = 0; i < 4; ++i) {
    crash_with_four_in_flight();
    Consumer consumer{dsn(), guarded(TransactionMode::split)};
    consumer.on("t", [&](const Message& message) {
      if (message.payload == "3") throw NotNow{1h, "not now"};
      throw std::runtime_error{"no"};
    });
    const Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return consumer.stats().postponed == 1; }));
    EXPECT_EQ(consumer.stats().failures, 3U);
  }
  ASSERT_EQ(log.count(LogEvent::crash_suspected), 16U);
  for (const auto& line : log.lines(LogEvent::crash_suspected)) EXPECT_THAT(line.message, HasSubstr("once so far"));
}

TEST_F(CrashGuardFaults, GivesAMessageAnotherChanceWhenTheFileIsDeleted) {
  publish("1");
  for (int i = 0; i < 3; ++i) {
    Worker worker{queue(), consumer_name(), "split", with_guard({"crash_at=1"})};
    ASSERT_EQ(worker.wait(), segmentation_fault);
  }
  ASSERT_EQ(::unlink(guard().c_str()), 0);
  Consumer consumer{dsn(), guarded(TransactionMode::split)};
  Seen seen;
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

// The key of a message that has crashed the process is not asked for again.
TEST_F(CrashGuardFaults, SurvivesAFunctionOfTheKeyThatCrashes) {
  publish_numbers(count);
  const auto settings = with_guard({"concurrency=4", "key_crashes_at=4"});
  {
    Worker worker{queue(), consumer_name(), "split", settings};
    ASSERT_EQ(worker.wait(), segmentation_fault);
    EXPECT_EQ(worker.count("begin"), 0);
  }
  Worker worker{queue(), consumer_name(), "split", settings};
  ASSERT_TRUE(worker.wait_line("batch_acked"));
  EXPECT_EQ(worker.terminate(), 0);
  EXPECT_EQ(worker.count("end"), count);
}

TEST_F(CrashGuardFaults, CooperativeWorkersCountForThemselves) {
  publish("1");
  for (int i = 0; i < 3; ++i) {
    Worker worker{queue(), group_name(), "w1", with_guard({"crash_at=1"})};
    ASSERT_EQ(worker.wait(), segmentation_fault);
  }
  {
    Worker worker{queue(), group_name(), "w1", with_guard({"crash_at=1"})};
    ASSERT_TRUE(worker.wait_line("batch_acked"));
    EXPECT_EQ(worker.terminate(), 0);
  }
  queue().expire_retries();
  Worker worker{queue(), group_name(), "w2", {"guard=" + guard() + ".other", "crash_at=1"}};
  EXPECT_EQ(worker.wait(), segmentation_fault);
}

TEST_F(CrashGuardFaults, StartThrowsWhileAnotherProcessHasTheFile) {
  publish("1");
  Worker worker{queue(), consumer_name(), "split", with_guard({"hang_at=1"})};
  ASSERT_TRUE(worker.wait_line("begin 1"));
  Consumer consumer{dsn(), guarded(TransactionMode::split)};
  Seen seen;
  consumer.on("t", seen.handler());
  const auto error = thrown<Error>([&] { consumer.start(); });
  EXPECT_THAT(error.what(), AllOf(HasSubstr("crash_guard \"" + guard() + '"'),
                                  HasSubstr("process " + std::to_string(worker.pid()) + " has it")));
  EXPECT_THAT(log.lines(), IsEmpty()) << "it has not connected";
  worker.signal(SIGKILL);
  EXPECT_EQ(worker.wait(), 128 + SIGKILL);
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(log.count(LogEvent::crash_suspected), 1U);
}

// Otherwise a message that takes long would be counted each time when that of another consumer crashes the process.
TEST_F(CrashGuardFaults, SuspectsOfTwoConsumersOfAProcessTakeTurns) {
  const auto [first, second] = two_with_suspects();
  std::atomic<int> running{0};
  const auto handler = [&](const Message&) {
    ++running;
    EXPECT_FALSE(wait_until([&] { return running != 1; }, 200ms));
    --running;
  };
  Consumer one{dsn(), first};
  Consumer two{dsn(), second};
  one.on("t", handler);
  two.on("t", handler);
  const Running running_one{one};
  const Running running_two{two};
  EXPECT_TRUE(wait_batches(one, 1));
  EXPECT_TRUE(wait_batches(two, 1));
  EXPECT_EQ(one.stats().messages + two.stats().messages, 2U);
}

// It waits for its turn for 10 s, and is not counted then: it would seem to be alone in each crash of the other one.
TEST_F(CrashGuardFaults, ASuspectBesideAnotherOneThatHangsIsHandledAndNotCounted) {
  const auto consumers = two_with_suspects();
  const auto file = consumers.second.crash_guard->file;
  std::atomic<bool> hangs{false};
  std::atomic<bool> go_on{false};
  Consumer one{dsn(), consumers.first};
  Consumer two{dsn(), consumers.second};
  one.on("t", [&](const Message&) {
    hangs = true;
    EXPECT_TRUE(wait_until([&] { return go_on.load(); }, 60s));
  });
  const auto copy = guard() + ".copy";
  two.on("t", [&](const Message&) {
    // As if the process ended now.
    std::ofstream{copy, std::ios::binary} << std::ifstream{file, std::ios::binary}.rdbuf();
  });
  const Running running_one{one};
  ASSERT_TRUE(wait_until([&] { return hangs.load(); }));
  {
    const Running running_two{two};
    EXPECT_TRUE(wait_until([&] { return two.stats().batches == 1; }, 40s));
  }
  go_on = true;
  EXPECT_TRUE(wait_batches(one, 1));
  const auto suspected = log.count(LogEvent::crash_suspected);
  auto again = consumers.second;
  again.crash_guard = CrashGuard{copy};
  again.until_drained = true;
  Consumer third{dsn(), again};
  third.on("*", ignore);
  third.start();
  EXPECT_EQ(log.count(LogEvent::crash_suspected), suspected);
  ::unlink(copy.c_str());
}

// A consumer that waits for its turn can be stopped.
TEST_F(CrashGuardFaults, AConsumerThatWaitsForItsTurnCanBeStopped) {
  auto [first, second] = two_with_suspects();
  second.drain_timeout = 0s;
  Gate gate;
  Seen seen;
  Consumer one{dsn(), first};
  Consumer two{dsn(), second};
  one.on("t", [&](const Message&) { gate.pass(); });
  two.on("t", seen.handler());
  Running running_one{one};
  ASSERT_TRUE(gate.wait_arrived());
  Running running_two{two};
  ASSERT_TRUE(wait_state(two, ConsumerState::handling));
  running_two.stop_and_join();
  EXPECT_EQ(running_two.error(), nullptr);
  EXPECT_EQ(two.stats().abandoned, 1U);
  EXPECT_THAT(seen.payloads(), IsEmpty());
  gate.open();
  EXPECT_TRUE(wait_batches(one, 1));
}

}  // namespace
}  // namespace pgque::test
