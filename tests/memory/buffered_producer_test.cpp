// What a producer does when its sending thread gets no memory.

#include <pgque/buffered_producer.hpp>

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "database.hpp"
#include "failing_new.hpp"
#include "producer_ledger.hpp"

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using Failure = AllocationFailure;

class BufferedProducerMemory : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    client_.emplace(dsn(), client_options());
    client_->subscribe(queue(), consumer_name());
  }
  void TearDown() override {
    client_.reset();
    DatabaseTest::TearDown();
  }

  static BufferedProducerOptions options() {
    BufferedProducerOptions options;
    options.linger = 1h;  // so only a flush sends
    options.reconnect = {1ms, 5ms};
    options.log = [](const LogRecord&) {};
    options.pooled = pooled();
    return options;
  }
  // Everything that has been committed.
  std::vector<Message> stored() {
    queue().tick();
    std::vector<Message> messages;
    for (bool more = true; more;) {
      const auto batch = client_->receive(queue(), consumer_name());
      if (!batch.empty()) client_->ack(batch[0].batch_id);
      messages.insert(messages.end(), batch.begin(), batch.end());
      more = !batch.empty();
    }
    return messages;
  }

 private:
  std::optional<Client> client_;
};

// One failure at each allocation in turn, of everything that the producer's threads do for two queues, one of which
// does not exist. The producer is always the same.
TEST_F(BufferedProducerMemory, AFailureAtAnyAllocationFailsNothingButABatchAndTheProducerGoesOn) {
  const auto missing = unique_name("missing");
  ProducerLedger ledger;
  BufferedProducer producer{dsn(), options()};
  int failures = 0;
  for (int number = 1;; ++number) {
    bool failed = false;
    std::future<EventId> refused;
    {
      const Failure failure{Failure::In::other_threads, number};
      ledger.send_one(producer, queue(), 0, number, "t");
      ledger.send_one(producer, queue(), 0, number + 1'000'000, "u");
      ledger.send_one(producer, queue(), 0, number + 2'000'000, "keyed", std::string(100, 'k'));
      refused = producer.send(missing, text("x"));
      ASSERT_TRUE(producer.flush(60s)) << "allocation " << number;
      failed = failure.happened();
    }
    EXPECT_EQ(outcome_of(refused).kind, Outcome::Kind::refused) << "allocation " << number;
    const auto stats = producer.stats();
    EXPECT_EQ(stats.buffered, 0u);
    EXPECT_EQ(stats.buffered_bytes, 0u);
    EXPECT_EQ(stats.sent + stats.failed, static_cast<std::uint64_t>(4 * number));
    if (!failed) break;
    ++failures;
  }
  EXPECT_GT(failures, 50) << "there is more to allocate than that";
  const auto sent = ledger.count(Outcome::Kind::sent);
  EXPECT_GE(sent, static_cast<std::size_t>(failures)) << "a failure fails one batch";
  EXPECT_EQ(producer.stats().sent, sent);
  ledger.expect_agrees_with(stored());
  EXPECT_TRUE(producer.close());
}

// The same, but no allocation succeeds any more: nothing can be sent or even connected, and every future still tells
// what became of its event.
TEST_F(BufferedProducerMemory, WithoutAnyMemoryEveryFutureBecomesReadyAndTellsTheTruth) {
  ProducerLedger ledger;
  auto settings = options();
  settings.delivery_timeout = 50ms;
  for (int number = 1;; ++number) {
    BufferedProducer producer{dsn(), settings};
    bool failed = false;
    {
      const Failure failure{Failure::In::other_threads, number, Failure::all_later};
      ledger.send_one(producer, queue(), 0, 2 * number, "t");
      ledger.send_one(producer, queue(), 1, 2 * number, "u", "key");
      EXPECT_TRUE(producer.flush(60s)) << "allocation " << number;
      ledger.send_one(producer, queue(), 0, 2 * number + 1, "t");
      producer.close();
      ledger.outcomes();
      failed = failure.happened();
    }
    EXPECT_EQ(producer.stats().buffered, 0u);
    if (!failed) {
      EXPECT_GT(number, 20) << "there is more to allocate than that";
      break;
    }
  }
  ledger.expect_agrees_with(stored());
}

}  // namespace
}  // namespace pgque::test
