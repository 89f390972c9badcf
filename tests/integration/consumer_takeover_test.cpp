// A worker takes over the batch of another one, and says so.

#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::SizeIs;

// How the worker reads its batches: each way is a statement of its own.
struct Reading {
  std::string name;
  std::function<void(ConsumerOptions&)> set;
};

class ConsumerTakeoverTest : public ConsumerTest, public testing::WithParamInterface<Reading> {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    client().subscribe_subconsumer(queue(), group_name(), "heir");
  }
  ConsumerOptions heir() {
    auto out = worker("heir");
    out.dead_interval = 10min;
    GetParam().set(out);
    return out;
  }
  // A worker with a batch, from which nothing has been heard for an hour.
  std::vector<Message> die_with_batch(const std::string& name) {
    auto messages = client().receive_coop(queue(), group_name(), name);
    grow_silent(name);
    return messages;
  }
  void grow_silent(const std::string& name) {
    sql()(
        "update pgque.subscription set sub_active = sub_active - interval '1 hour' where sub_consumer = (select "
        "co_id from pgque.consumer where co_name = " +
        sql().quote(group_name() + '.' + name) + ") and sub_queue = " + queue_id());
  }
  void expect_one_takeover(const Consumer& consumer, const std::string& from, BatchId batch) {
    const auto stats = consumer.stats();
    EXPECT_EQ(stats.takeovers, 1U);
    EXPECT_EQ(stats.lost, 0U);
    const auto lines = log.lines(LogEvent::batch_taken_over);
    ASSERT_EQ(lines.size(), 1U);
    EXPECT_EQ(lines[0].level, LogLevel::warning);
    EXPECT_EQ(lines[0].batch_id, batch);
    EXPECT_THAT(lines[0].message, AllOf(HasSubstr("'" + group_name() + '.' + from + "'"), HasSubstr("10 min")));
  }
};

TEST_P(ConsumerTakeoverTest, ATakeoverIsLoggedAndCountedByTheWorkerThatTakesOver) {
  publish_numbers(3);
  const auto dead = die_with_batch("dead");
  ASSERT_THAT(dead, SizeIs(3));
  const auto next = publish_numbers(1);
  Seen seen;
  Consumer consumer{dsn(), heir()};
  consumer.on("t", seen.handler());
  finish_batches(consumer, 2);
  auto ids = std::vector{dead[0].msg_id, dead[1].msg_id, dead[2].msg_id};
  ids.push_back(next[0]);
  ASSERT_THAT(seen.ids(), ElementsAreArray(ids));
  expect_one_takeover(consumer, "dead", seen.messages()[0].batch_id);
}

// The batch that is taken over first is empty, so the worker looks ahead, and takes over another one by that.
TEST_P(ConsumerTakeoverTest, ATakeoverByALookAheadIsLoggedAndCounted) {
  queue().empty_tick();
  ASSERT_NE(sql().value("select pgque.next_batch(" + sql().quote(queue().name()) + ", " + sql().quote(group_name()) +
                        ", 'empty')"),
            std::nullopt);
  grow_silent("empty");
  grow_silent("empty");
  publish_numbers(1);
  ASSERT_THAT(die_with_batch("dead"), SizeIs(1));
  Seen seen;
  Consumer consumer{dsn(), heir()};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  ASSERT_EQ(seen.size(), 1U);
  expect_one_takeover(consumer, "dead", seen.messages()[0].batch_id);
}

TEST_P(ConsumerTakeoverTest, NeitherItsOwnBatchNorANewOneIsATakeover) {
  publish_numbers(3);
  ASSERT_THAT(die_with_batch("heir"), SizeIs(3));
  publish_numbers(2);
  ASSERT_THAT(client().receive_coop(queue(), group_name(), "busy"), SizeIs(2));
  publish_numbers(1);
  Seen seen;
  Consumer consumer{dsn(), heir()};
  consumer.on("t", seen.handler());
  finish_batches(consumer, 2);
  EXPECT_EQ(seen.size(), 4U);
  EXPECT_EQ(consumer.stats().takeovers, 0U);
  EXPECT_EQ(log.count(LogEvent::batch_taken_over), 0U);
}

INSTANTIATE_TEST_SUITE_P(
    , ConsumerTakeoverTest,
    testing::Values(Reading{"OnePage", [](ConsumerOptions&) {}},
                    Reading{"Whole", [](ConsumerOptions& options) { options.max_messages = std::nullopt; }},
                    Reading{"Pages", [](ConsumerOptions& options) { options.max_messages = 1; }},
                    Reading{"CatchUp", [](ConsumerOptions& options) { options.catch_up = CatchUp{1}; }},
                    Reading{"CatchUpInPages",
                            [](ConsumerOptions& options) {
                              options.catch_up = CatchUp{1};
                              options.max_messages = 1;
                            }}),
    [](const auto& reading) { return reading.param.name; });

}  // namespace
}  // namespace pgque::test
