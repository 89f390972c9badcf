// catch_up, which merges tick windows, and min_lag, which holds young ones back.

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"
#include "row_trigger.hpp"

namespace pgque::test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::Ge;
using testing::UnorderedElementsAreArray;

// What "at once" means on a busy machine, and yet far from the poll interval of 30 s.
constexpr auto promptly = 10s;

struct Mode {
  const char* name;
  void (*apply)(ConsumerOptions&);
};

class ConsumerBacklogTest : public ConsumerTest, public testing::WithParamInterface<Mode> {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const auto with = options_of_mode();
    if (!with.subconsumer.empty()) client().subscribe_subconsumer(queue(), with.name, with.subconsumer);
    sql()("update pgque.queue set queue_external_ticker = true where queue_id = " + queue_id());
  }

  ConsumerOptions options_of_mode() {
    auto out = options();
    out.max_messages = default_max_messages;
    GetParam().apply(out);
    out.name += out.subconsumer.empty() ? "" : "_group";
    return out;
  }
  ConsumerOptions catching_up(std::int32_t events) {
    auto out = options_of_mode();
    out.catch_up = CatchUp{events};
    return out;
  }
  ConsumerOptions late(std::chrono::milliseconds min_lag) {
    auto out = options_of_mode();
    out.min_lag = min_lag;
    return out;
  }
  static ConsumerOptions until_drained(ConsumerOptions options) {
    options.until_drained = true;
    return options;
  }

  // Adds windows as a ticker would: without the numbers that force_next_tick() skips. Their messages go on counting.
  void add_windows(int count, int messages) {
    const auto name = sql().quote(queue().name());
    sql()("do $$ begin for w in 1.." + std::to_string(count) + " loop perform pgque.send_batch(" + name +
          ", 't', array(select i::text from generate_series(" + std::to_string(sent_) + " + (w - 1) * " +
          std::to_string(messages) + ", " + std::to_string(sent_) + " + w * " + std::to_string(messages) +
          " - 1) i)); commit; perform pgque.ticker(" + name + ", tick_id + 1, clock_timestamp(), tick_event_seq + " +
          std::to_string(messages) + ") from pgque.tick where tick_queue = " + queue_id() +
          " order by tick_id desc limit 1; commit; end loop; end $$");
    sent_ += count * messages;
  }
  // Makes the ticks there are look older.
  void age_ticks(const std::string& interval) {
    sql()("update pgque.tick set tick_time = tick_time - interval '" + interval + "' where tick_queue = " + queue_id());
  }

  Seen seen;

 private:
  int sent_ = 0;
};

void cooperative(ConsumerOptions& options) {
  options.subconsumer = "w1";
}

void split(ConsumerOptions& options) {
  options.transaction = TransactionMode::split;
}

INSTANTIATE_TEST_SUITE_P(Modes, ConsumerBacklogTest,
                         testing::Values(Mode{"PerBatch", [](ConsumerOptions&) {}}, Mode{"Split", split},
                                         Mode{"Whole", [](ConsumerOptions& o) { o.max_messages = std::nullopt; }},
                                         Mode{"PerBatchPaged", [](ConsumerOptions& o) { o.max_messages = 30; }},
                                         Mode{"SplitPaged",
                                              [](ConsumerOptions& o) {
                                                split(o);
                                                o.max_messages = 30;
                                              }},
                                         Mode{"Cooperative", cooperative},
                                         Mode{"CooperativePaged",
                                              [](ConsumerOptions& o) {
                                                cooperative(o);
                                                o.max_messages = 30;
                                              }}),
                         [](const auto& instance) { return instance.param.name; });

// While more than 200 are left, a batch has the first windows with 100 events; the rest is one batch.
TEST_P(ConsumerBacklogTest, ABacklogIsHandledInFewBatchesAndInOrder) {
  add_windows(400, 2);
  Consumer consumer{dsn(), until_drained(catching_up(100))};
  consumer.on("t", seen.handler());
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(800)));
  EXPECT_EQ(consumer.stats().batches, 7U);
  EXPECT_EQ(consumer.stats().stale_acks, 0U);
}

TEST_P(ConsumerBacklogTest, WithoutCatchUpEveryWindowIsABatch) {
  add_windows(20, 2);
  Consumer consumer{dsn(), until_drained(options_of_mode())};
  consumer.on("t", seen.handler());
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(40)));
  EXPECT_EQ(consumer.stats().batches, 20U);
}

TEST_P(ConsumerBacklogTest, NoMessageWaitsForMoreOfThem) {
  Consumer consumer{dsn(), catching_up(500)};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  for (std::uint64_t round = 1; round <= 5; ++round) {
    add_windows(1, 1);
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == round; }, promptly)) << round;
  }
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(5)));
}

TEST_P(ConsumerBacklogTest, AFailedMessageOfAMergedBatchAloneComesAgain) {
  add_windows(50, 2);
  Consumer consumer{dsn(), until_drained(catching_up(500))};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (*message.payload == "77") throw std::runtime_error{"no"};
  });
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(100)));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(consumer.stats().retries, 1U);
  EXPECT_EQ(queue().retries(), 1);
}

TEST_P(ConsumerBacklogTest, EmptyWindowsAreSkippedInOneStride) {
  add_windows(100, 0);
  add_windows(1, 1);
  // The batches that are opened, not only those with messages.
  const auto opened = "public." + unique_name("opened");
  sql()("create sequence " + opened);
  {
    const RowTrigger count{"update", "pgque.subscription",
                           "new.sub_batch is not null and old.sub_batch is null and new.sub_queue = " + queue_id(),
                           "perform nextval('" + opened + "');"};
    Consumer consumer{dsn(), until_drained(catching_up(500))};
    consumer.on("t", seen.handler());
    consumer.start();
    EXPECT_EQ(consumer.stats().batches, 1U);
  }
  EXPECT_THAT(seen.payloads(), ElementsAre("0"));
  EXPECT_EQ(sql().number("select nextval('" + opened + "')"), 2);
  sql()("drop sequence " + opened);
}

// It skips numbers, so that each window seems to have enough: nothing is merged, and nothing else happens.
TEST_P(ConsumerBacklogTest, ForcedTicksAreNotMergedAndNothingIsLateOrLost) {
  sql()("update pgque.queue set queue_external_ticker = false where queue_id = " + queue_id());
  for (int i = 0; i < 10; ++i) {
    publish(std::to_string(i));
    queue().empty_tick();
  }
  Consumer consumer{dsn(), catching_up(500)};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 10; }, promptly));
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  publish("10");
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 11; }, promptly));
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(11)));
  EXPECT_EQ(consumer.stats().stale_acks, 0U);
}

TEST_P(ConsumerBacklogTest, YoungMessagesComeWhenTheyAreOldEnoughAndNotAtTheNextPoll) {
  const auto age_of_latest_tick =
      "select (1000 * extract(epoch from clock_timestamp() - max(tick_time)))::bigint from pgque.tick where "
      "tick_queue = " +
      queue_id();
  std::vector<std::int64_t> ages;
  Sql observer;
  Consumer consumer{dsn(), late(1500ms)};
  consumer.on("t", [&](const Message& message) {
    ages.push_back(observer.number(age_of_latest_tick));
    seen(message);
  });
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  for (std::uint64_t round = 1; round <= 2; ++round) {
    add_windows(1, 1);
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == round; }, promptly)) << round;
  }
  running.stop_and_join();
  EXPECT_THAT(seen.payloads(), ElementsAre("0", "1"));
  EXPECT_THAT(ages, Each(Ge(1500)));
}

// Later ticks are younger still, so what they notify is nothing to ask for.
TEST_P(ConsumerBacklogTest, WhileATickRipensNotificationsMakeNoQueries) {
  add_windows(1, 1);
  auto with = late(1h);
  with.poll_interval = 1h;
  Consumer consumer{watched_dsn(), with};
  consumer.on("t", seen.handler());
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto latest_query = [&] { return sql().value("select max(query_start)" + watched()); };
  const auto before = latest_query();
  client().subscribe(queue(), "other_" + consumer_name());
  auto at_once = options();
  at_once.name = "other_" + consumer_name();
  Consumer prompt{dsn(), at_once};
  Seen seen_at_once;
  prompt.on("t", seen_at_once.handler());
  Running running_prompt{prompt};
  ASSERT_TRUE(wait_state(prompt, ConsumerState::waiting));
  for (std::uint64_t round = 1; round <= 3; ++round) {
    add_windows(1, 1);
    ASSERT_TRUE(wait_until([&] { return prompt.stats().batches == round; }, promptly)) << round;
  }
  EXPECT_EQ(latest_query(), before);
  EXPECT_EQ(seen.size(), 0U);
}

// It also has a look at what comes after an empty window.
TEST_P(ConsumerBacklogTest, YoungMessagesDoNotCountUntilDrained) {
  add_windows(2, 0);
  add_windows(1, 1);
  age_ticks("2 hours");
  add_windows(2, 0);
  age_ticks("1 hour");
  add_windows(2, 1);
  for (const auto catch_up : {std::optional<CatchUp>{}, std::optional{CatchUp{}}}) {
    auto with = until_drained(late(30min));
    with.catch_up = catch_up;
    Consumer consumer{dsn(), with};
    consumer.on("t", seen.handler());
    consumer.start();
    EXPECT_THAT(seen.payloads(), ElementsAre("0"));
  }
  Consumer consumer{dsn(), until_drained(options_of_mode())};
  consumer.on("t", seen.handler());
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
}

TEST_P(ConsumerBacklogTest, OldWindowsAreMergedWhileYoungOnesAreHeldBack) {
  add_windows(100, 2);
  age_ticks("2 hours");
  add_windows(100, 2);
  auto with = until_drained(catching_up(1000));
  with.min_lag = 1h;
  Consumer consumer{dsn(), with};
  consumer.on("t", seen.handler());
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(200)));
  EXPECT_EQ(consumer.stats().batches, 1U);
}

using ConsumerLagTest = ConsumerTest;

TEST_F(ConsumerLagTest, TheBatchOfASilentWorkerIsTakenOverWhateverItsAge) {
  client().subscribe_subconsumer(queue(), group_name(), "silent");
  publish("1");
  ASSERT_EQ(client().receive_coop(queue(), group_name(), "silent").size(), 1U);
  publish("2");
  auto with = worker("w1");
  with.dead_interval = 1ms;
  with.min_lag = 1h;
  with.catch_up = CatchUp{};
  with.until_drained = true;
  Seen seen;
  Consumer consumer{dsn(), with};
  consumer.on("t", seen.handler());
  consumer.start();
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

// Two workers never have the same messages, also when each merges what it is given.
TEST_F(ConsumerLagTest, WorkersOfAGroupShareABacklogInLargeBatches) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  client().subscribe_subconsumer(queue(), group_name(), "w2");
  for (int i = 0; i < 60; ++i) {
    client().send(queue(), std::to_string(i), "t");
    sql()(
        "insert into pgque.tick (tick_queue, tick_id, tick_event_seq) select tick_queue, tick_id + 1, "
        "tick_event_seq + 1 from pgque.tick where tick_queue = " +
        queue_id() + " order by tick_id desc limit 1");
  }
  Seen seen;
  std::uint64_t batches = 0;
  {
    auto one = worker("w1");
    auto two = worker("w2");
    one.catch_up = two.catch_up = CatchUp{10};
    Consumer first{dsn(), one};
    Consumer second{dsn(), two};
    first.on("t", seen.handler());
    second.on("t", seen.handler());
    Running run_first{first};
    Running run_second{second};
    EXPECT_TRUE(wait_until([&] { return seen.size() == 60; }));
    EXPECT_TRUE(wait_state(first, ConsumerState::waiting));
    EXPECT_TRUE(wait_state(second, ConsumerState::waiting));
    batches = first.stats().batches + second.stats().batches;
  }
  EXPECT_THAT(seen.payloads(), UnorderedElementsAreArray(numbers(60)));
  EXPECT_EQ(batches, 5U);  // four with ten, and the rest
}

}  // namespace
}  // namespace pgque::test
