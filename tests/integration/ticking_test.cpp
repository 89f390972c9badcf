// force_next_tick, ticker and ticker_all.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::SizeIs;

class TickingTest : public WayTest {
 protected:
  TickId latest_tick() {
    return TickId{
        sql().number("select max(tick_id) from pgque.tick join pgque.queue on queue_id = tick_queue where "
                     "queue_name = " +
                     sql().quote(queue().name()))};
  }
  std::optional<TickId> force() {
    return call([&](Operations& ops) { return ops.force_next_tick(queue()); });
  }
  std::optional<TickId> ticker() {
    return call([&](Operations& ops) { return ops.ticker(queue()); });
  }
};
INSTANTIATE_TEST_SUITE_P(By, TickingTest, testing::ValuesIn(main_ways), way_name);

TEST_P(TickingTest, TickerIsEmptyWhenNoTickIsNeeded) {
  const auto before = latest_tick();
  EXPECT_EQ(ticker(), std::nullopt);
  EXPECT_EQ(latest_tick(), before);
}

TEST_P(TickingTest, ForceNextTickReturnsTheLatestTickAndMakesNone) {
  const auto before = latest_tick();
  EXPECT_EQ(force(), before);
  EXPECT_EQ(latest_tick(), before);
}

TEST_P(TickingTest, TickerReturnsTheNewTickAfterForceNextTickAndNoneTheSecondTime) {
  const auto before = latest_tick();
  force();
  const auto tick = ticker();
  ASSERT_TRUE(tick);
  EXPECT_EQ(*tick, latest_tick());
  EXPECT_GT(*tick, before);
  EXPECT_EQ(ticker(), std::nullopt);
}

TEST_P(TickingTest, TheOldNameOfForceNextTickDoesTheSame) {
  const auto before = latest_tick();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  EXPECT_EQ(call([&](Operations& ops) { return ops.force_tick(queue()); }), before);
#pragma GCC diagnostic pop
  EXPECT_TRUE(ticker());
}

TEST_P(TickingTest, ForceAndTickMakeEventsVisible) {
  subscribe();
  send("1");
  force();
  ticker();
  EXPECT_THAT(receive(), SizeIs(1));
}

TEST_P(TickingTest, TickerAllTicksTheQueuesThatAreDueAndCountsThem) {
  TestQueue idle{sql()};
  const auto ticks_of_idle = [&] {
    return sql().number(
        "select count(*) from pgque.tick join pgque.queue on queue_id = tick_queue where queue_name = " +
        sql().quote(idle.name()));
  };
  const auto before = latest_tick();
  const auto idle_before = ticks_of_idle();
  force();
  EXPECT_GE(call([](Operations& ops) { return ops.ticker_all(); }), 1);
  EXPECT_GT(latest_tick(), before);
  EXPECT_EQ(ticks_of_idle(), idle_before);
}

TEST_P(TickingTest, APausedQueueIsAnError) {
  queue().config("ticker_paused", "true");
  EXPECT_EQ(thrown<Error>([&] { ticker(); }).server_message(), "Ticker has been paused for this queue");
  EXPECT_EQ(thrown<Error>([&] { force(); }).server_message(),
            "queue " + queue().name() + " is paused (queue_ticker_paused = true)");
}

}  // namespace
}  // namespace pgque::test
