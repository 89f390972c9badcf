// A normal consumer becomes a cooperative one, and the other way round.

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConsumerConvertTest : public ConsumerTest {
 protected:
  // A worker of consumer_name(), which is subscribed as a normal consumer.
  ConsumerOptions worker_of_normal(bool convert) {
    auto out = options();
    out.subconsumer = "w1";
    out.convert = convert;
    out.until_drained = true;
    return out;
  }
  std::string run(const ConsumerOptions& with, Seen& seen) {
    Consumer consumer{dsn(), with};
    consumer.on("t", seen.handler());
    Running running{consumer};
    EXPECT_TRUE(running.wait_ended());
    return running.error() ? what(running.error()) : "";
  }
  ConsumerRole role() { return Admin{dsn(), client_options()}.consumer(queue(), consumer_name()).role; }
  void remove_worker(BatchHandling handling = BatchHandling::refuse) {
    ASSERT_TRUE(client().unsubscribe_subconsumer(queue(), consumer_name(), "w1", handling));
  }
};

TEST_F(ConsumerConvertTest, WithoutConvertTheErrorSaysHow) {
  Seen seen;
  const auto error = run(worker_of_normal(false), seen);
  EXPECT_THAT(error, HasSubstr("explicit conversion is required"));
  EXPECT_THAT(error, HasSubstr("set ConsumerOptions::convert"));
  EXPECT_THAT(error, HasSubstr("pgque subscribe QUEUE CONSUMER --subconsumer NAME --convert"));
  EXPECT_EQ(role(), ConsumerRole::normal);
}

TEST_F(ConsumerConvertTest, ANormalConsumerBecomesCooperativeWithItsPositionAndItsRetries) {
  publish("\"retry\"");
  const auto failed = client().receive(queue(), consumer_name());
  ASSERT_THAT(failed, SizeIs(1));
  client().nack(failed[0]);
  ASSERT_TRUE(client().ack(failed[0].batch_id));
  publish("\"waiting\"");
  queue().expire_retries();
  queue().tick();
  Seen seen;
  EXPECT_EQ(run(worker_of_normal(true), seen), "");
  EXPECT_THAT(seen.payloads(), ElementsAre("\"waiting\"", "\"retry\""));
  EXPECT_EQ(role(), ConsumerRole::group);
  // Asking for it again does no harm.
  publish("\"next\"");
  EXPECT_EQ(run(worker_of_normal(true), seen), "");
  EXPECT_EQ(seen.payloads().back(), "\"next\"");
}

TEST_F(ConsumerConvertTest, AProcessThatRunsItAsANormalConsumerIsToldWhatToDo) {
  ASSERT_TRUE(client().subscribe_subconsumer(queue(), consumer_name(), "w1", true));
  Seen seen;
  const auto error = run(options(), seen);
  EXPECT_THAT(error, HasSubstr("set subconsumer to work as one of its workers"));
  EXPECT_THAT(error, HasSubstr("pgque unsubscribe QUEUE CONSUMER --workers --retry-batch"));
}

TEST_F(ConsumerConvertTest, AnOpenBatchIsFinishedOrGivenUpFirst) {
  publish("1");
  ASSERT_THAT(client().receive(queue(), consumer_name()), SizeIs(1));
  Seen seen;
  const auto error = run(worker_of_normal(true), seen);
  EXPECT_THAT(error, HasSubstr("cannot convert active normal consumer"));
  EXPECT_THAT(error, HasSubstr("its open batch has to be finished first"));
  EXPECT_THAT(seen.payloads(), IsEmpty());
  EXPECT_EQ(role(), ConsumerRole::normal);
  // To give it up, as the error says.
  Admin admin{dsn(), client_options()};
  admin.subscribe_at(queue(), consumer_name(), *admin.consumer(queue(), consumer_name()).last_tick);
  EXPECT_EQ(run(worker_of_normal(true), seen), "");
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

TEST_F(ConsumerConvertTest, TheWayBackPutsOpenBatchesUpForRetry) {
  ASSERT_TRUE(client().subscribe_subconsumer(queue(), consumer_name(), "w1", true));
  publish("\"open\"");
  ASSERT_THAT(client().receive_coop(queue(), consumer_name(), "w1"), SizeIs(1));
  publish("\"waiting\"");
  const auto refused = thrown<Error>([&] { client().unsubscribe(queue(), consumer_name()); });
  EXPECT_THAT(refused.what(), HasSubstr("pgque unsubscribe QUEUE CONSUMER --workers"));
  const auto busy = thrown<Error>([&] { client().unsubscribe_subconsumer(queue(), consumer_name(), "w1"); });
  EXPECT_THAT(busy.what(), HasSubstr("BatchHandling::retry, or --retry-batch"));
  remove_worker(BatchHandling::retry);
  EXPECT_EQ(role(), ConsumerRole::normal);
  queue().expire_retries();
  queue().tick();
  auto alone = options();
  alone.until_drained = true;
  Seen seen;
  EXPECT_EQ(run(alone, seen), "");
  EXPECT_THAT(seen.payloads(), ElementsAre("\"waiting\"", "\"open\""));
}

// Otherwise nobody could go back while a worker is running somewhere.
TEST_F(ConsumerConvertTest, AWorkerThatRunsDoesNotConvertTwice) {
  auto running_worker = worker_of_normal(true);
  running_worker.until_drained = false;
  Consumer consumer{dsn(), running_worker};
  consumer.on("t", [](const Message&) {});
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  remove_worker();
  publish("1");
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THAT(what(running.error()), HasSubstr("explicit conversion is required"));
  EXPECT_EQ(role(), ConsumerRole::normal);
}

}  // namespace
}  // namespace pgque::test
