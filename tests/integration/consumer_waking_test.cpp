// When a waiting consumer goes on: at notifications, across backlogs and empty windows, and at the poll interval.

#include <algorithm>
#include <deque>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

// What "at once" means on a busy machine, and yet far from the poll interval of 30 s.
constexpr auto promptly = 10s;

struct Mode {
  const char* name;
  void (*apply)(ConsumerOptions&);
};

class ConsumerWakingTest : public ConsumerTest, public testing::WithParamInterface<Mode> {
 protected:
  ConsumerOptions options_of_mode() {
    auto out = options();
    GetParam().apply(out);
    return out;
  }
};

void cooperative(ConsumerOptions& options) {
  options.name += "_group";
  options.subconsumer = "w1";
}

INSTANTIATE_TEST_SUITE_P(Modes, ConsumerWakingTest,
                         testing::Values(Mode{"PerBatch", [](ConsumerOptions&) {}},
                                         Mode{"Split",
                                              [](ConsumerOptions& o) { o.transaction = TransactionMode::split; }},
                                         Mode{"PerBatchPaged", [](ConsumerOptions& o) { o.max_messages = 2; }},
                                         Mode{"SplitPaged",
                                              [](ConsumerOptions& o) {
                                                o.transaction = TransactionMode::split;
                                                o.max_messages = 2;
                                              }},
                                         Mode{"Cooperative", cooperative},
                                         Mode{"CooperativePaged",
                                              [](ConsumerOptions& o) {
                                                cooperative(o);
                                                o.max_messages = 2;
                                              }}),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(ConsumerWakingTest, EveryTickWakesAWaitingConsumer) {
  constexpr int rounds = 50;
  std::mutex mutex;
  Clock::time_point handled_at;
  std::atomic<int> handled{0};
  Consumer consumer{dsn(), options_of_mode()};
  consumer.on("t", [&](const Message&) {
    {
      const std::lock_guard lock{mutex};
      handled_at = Clock::now();
    }
    ++handled;
  });
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  std::vector<Clock::duration> latencies;
  for (int round = 1; round <= rounds; ++round) {
    client().send(queue(), "1", "t");
    client().force_next_tick(queue());
    const auto begin = Clock::now();
    client().ticker(queue());
    ASSERT_TRUE(wait_until([&] { return handled == round; }, promptly)) << "round " << round;
    const std::lock_guard lock{mutex};
    latencies.push_back(handled_at - begin);
  }
  std::sort(latencies.begin(), latencies.end());
  record("tick_to_handler_median", latencies[rounds / 2]);
  record("tick_to_handler_max", latencies.back());
}

TEST_P(ConsumerWakingTest, ABacklogIsDrainedAtOnce) {
  auto with = options_of_mode();
  if (with.subconsumer.empty()) {
    client().subscribe(queue(), with.name);
  } else {
    client().subscribe_subconsumer(queue(), with.name, with.subconsumer);
  }
  for (int i = 0; i < 10; ++i) publish(std::to_string(i));
  Seen seen;
  Consumer consumer{dsn(), with};
  consumer.on("t", seen.handler());
  const auto begin = Clock::now();
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 10; }, promptly));
  record("start_to_tenth_batch", Clock::now() - begin);
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(10)));
}

TEST_P(ConsumerWakingTest, EmptyTickWindowsCostNoPollInterval) {
  auto with = options_of_mode();
  if (with.subconsumer.empty()) {
    client().subscribe(queue(), with.name);
  } else {
    client().subscribe_subconsumer(queue(), with.name, with.subconsumer);
  }
  for (int i = 0; i < 10; ++i) queue().empty_tick();
  publish("1");
  for (int i = 0; i < 10; ++i) queue().empty_tick();
  publish("2");
  Seen seen;
  Consumer consumer{dsn(), with};
  consumer.on("t", seen.handler());
  const auto begin = Clock::now();
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return seen.size() == 2; }, promptly));
  record("across_twenty_empty_windows", Clock::now() - begin);
  EXPECT_THAT(seen.payloads(), ElementsAre("1", "2"));
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
}

TEST_P(ConsumerWakingTest, WhatIsNotifiedWhileAHandlerRunsIsNotLost) {
  Gate gate;
  Seen seen;
  Consumer consumer{dsn(), options_of_mode()};
  consumer.on("t", [&](const Message& message) {
    if (message.payload == "0") gate.pass();
    seen(message);
  });
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  publish("0");
  ASSERT_TRUE(gate.wait_arrived());
  for (int i = 1; i < 6; ++i) {
    publish(std::to_string(i));
    queue().empty_tick();
  }
  gate.open();
  EXPECT_TRUE(wait_until([&] { return seen.size() == 6; }, promptly));
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(6)));
}

class ChannelNameTest : public ConsumerTest, public testing::WithParamInterface<std::pair<const char*, const char*>> {};

TEST_P(ChannelNameTest, IsListenedToAsItIs) {
  TestQueue odd{sql(), GetParam().second};
  client().subscribe(odd, "c");
  auto with = options();
  with.queue = odd;
  with.name = "c";
  Seen seen;
  Consumer consumer{dsn(), with};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  client().send(odd, "1", "t");
  odd.tick();
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }, promptly));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_EQ(log.count(LogEvent::listen_unavailable), 0U);
}

INSTANTIATE_TEST_SUITE_P(ConsumerWakingTest, ChannelNameTest,
                         testing::Values(std::pair{"Quoted", "We\"ird; Na me \xC3\xA9"},
                                         std::pair{"UpperCase", "UPPER"}, std::pair{"SingleQuote", "it's; drop table"},
                                         std::pair{"Backslash", "back\\slash.dot"},
                                         std::pair{"LongUnicode", "\xF0\x9F\x90\x98\xF0\x9F\x90\x98\xF0\x9F\x90\x98"}),
                         [](const auto& instance) { return instance.param.first; });

TEST_F(ConsumerTest, AWaitingConsumerLeavesTheServerAlone) {
  Consumer consumer{watched_dsn(), options()};
  consumer.on("*", ignore);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  // Every statement would set state_change anew.
  EXPECT_TRUE(wait_until([&] {
    return sql().value("select state = 'idle' and clock_timestamp() - state_change > interval '200 ms'" + watched()) ==
           "t";
  }));
}

TEST_F(ConsumerTest, PollsAtThePollIntervalEvenWithoutNotifications) {
  const auto before = *client().force_next_tick(queue());
  publish("1");
  auto frequent = options();
  frequent.poll_interval = 20ms;
  Seen seen;
  Consumer consumer{dsn(), frequent};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return seen.size() == 1; }));
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  // The consumer's position is set back, which causes no notification.
  sql()("select pgque.register_consumer_at(" + sql().quote(queue().name()) + ", " + sql().quote(consumer_name()) +
        ", " + to_string(before) + ")");
  EXPECT_TRUE(wait_until([&] { return seen.size() == 2; }, promptly));
}

TEST_F(ConsumerTest, NotificationsOfOthersDoNoHarm) {
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  for (int i = 0; i < 20; ++i) sql()("notify \"pgque_" + queue().name() + "\", 'forged'");
  publish("1");
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }, promptly));
  EXPECT_EQ(seen.size(), 1U);
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
}

// Uses up the process's lower file descriptors.
class ManyOpenFiles {
 public:
  explicit ManyOpenFiles(int lowest_free) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    auto raised = before_;
    raised.rlim_cur = std::max<rlim_t>(before_.rlim_cur, static_cast<rlim_t>(lowest_free) + 200);
    if (::setrlimit(RLIMIT_NOFILE, &raised) != 0) return;
    int last = -1;
    while (last < lowest_free && (last = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) files_.push_back(last);
    reached_ = last >= lowest_free;
  }
  ManyOpenFiles(const ManyOpenFiles&) = delete;
  ManyOpenFiles& operator=(const ManyOpenFiles&) = delete;
  ~ManyOpenFiles() {
    for (const int file : files_) ::close(file);
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }
  bool reached() const { return reached_; }

 private:
  struct rlimit before_ {};
  std::deque<int> files_;
  bool reached_ = false;
};

TEST_F(ConsumerTest, WaitsOnDescriptorsAboveThoseOfSelect) {
  const ManyOpenFiles files{1100};
  if (!files.reached()) GTEST_SKIP() << "the limit on open files cannot be raised";
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  publish("1");
  EXPECT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }, promptly));
  EXPECT_LT(running.stop_and_join(), promptly);
  EXPECT_EQ(running.error(), nullptr);
}

using ConsumerDrainTest = ConsumerTest;

TEST_F(ConsumerDrainTest, EndsWhenDrainedIfToldTo) {
  publish_numbers(3);
  queue().empty_tick();
  publish("3");
  auto draining = options();
  draining.until_drained = true;
  Seen seen;
  Consumer consumer{dsn(), draining};
  consumer.on("*", seen.handler());
  consumer.start();
  EXPECT_EQ(seen.payloads(), numbers(4));
  EXPECT_EQ(consumer.stats().batches, 2U);
  consumer.start();
  EXPECT_EQ(seen.size(), 4U);
}

}  // namespace
}  // namespace pgque::test
