// How batches are finished and messages put up for retry.

#include <limits>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages.hpp"
#include "support.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class AckTest : public WayTest {
 protected:
  // One batch of these payloads, received.
  std::vector<Message> batch_of(const std::vector<Payload>& payloads) {
    subscribe();
    send_batch(payloads);
    return deliver();
  }
};
INSTANTIATE_TEST_SUITE_P(By, AckTest, testing::ValuesIn(main_ways), way_name);

TEST_P(AckTest, IsTrueOnceAndFalseTheSecondTime) {
  const auto messages = batch_of({"1"});
  EXPECT_TRUE(ack(messages.at(0).batch_id));
  EXPECT_FALSE(ack(messages[0].batch_id));
}

TEST_P(AckTest, OfABatchThatNeverWasIsFalse) {
  EXPECT_FALSE(ack(no_batch));
  EXPECT_FALSE(ack(BatchId{0}));
  EXPECT_FALSE(ack(BatchId{-1}));
  EXPECT_FALSE(ack(BatchId{std::numeric_limits<std::int64_t>::min()}));
  EXPECT_FALSE(ack(BatchId{9007199254740993}));
}

// The server sends a warning besides; what to do about a stale ack is for the caller to decide, not for stderr.
TEST_P(AckTest, ThatIsStalePrintsNothing) {
  testing::internal::CaptureStderr();
  EXPECT_FALSE(ack(no_batch));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

using NackTest = AckTest;
INSTANTIATE_TEST_SUITE_P(By, NackTest, testing::ValuesIn(main_ways), way_name);

TEST_P(NackTest, PutsTheMessageUpForRetryAndDoesNotFinishTheBatch) {
  const auto messages = batch_of({"1", "2"});
  nack(messages.at(0));
  EXPECT_EQ(queue().retries(), 1);
  EXPECT_EQ(queue().dead_letters(), 0);
  EXPECT_EQ(ids_of(receive()), ids_of(messages));
  EXPECT_TRUE(ack(messages[0].batch_id));
}

TEST_P(NackTest, OnlyTheNackedMessageComesAgainWithItsRetryCount) {
  const auto first = batch_of({"1", "2", "3"});
  nack(first.at(1), NackOptions{seconds{0}});
  EXPECT_TRUE(ack(first[0].batch_id));
  queue().bring_retries_back();
  const auto second = receive();
  ASSERT_THAT(ids_of(second), ElementsAre(first[1].msg_id));
  EXPECT_EQ(second[0].retry_count, 1);
  EXPECT_EQ(second[0].payload, "2");
  EXPECT_EQ(second[0].type, first[1].type);
  EXPECT_EQ(second[0].created_at, first[1].created_at);
  EXPECT_NE(second[0].batch_id, first[0].batch_id);
}

TEST_P(NackTest, ByIdsIsTheSame) {
  const auto messages = batch_of({"1", "2"});
  call([&](Operations& ops) { ops.nack(messages.at(1).batch_id, messages[1].msg_id, NackOptions{seconds{0}}); });
  ack(messages[0].batch_id);
  queue().bring_retries_back();
  EXPECT_THAT(ids_of(receive()), ElementsAre(messages[1].msg_id));
}

TEST_P(NackTest, NeedsOnlyTheIdsOfTheMessage) {
  const auto messages = batch_of({R"({"real": true})"});
  Message forged;
  forged.batch_id = messages.at(0).batch_id;
  forged.msg_id = messages[0].msg_id;
  forged.payload = "forged";
  forged.retry_count = 99;
  nack(forged, NackOptions{seconds{0}});
  ack(messages[0].batch_id);
  queue().bring_retries_back();
  const auto again = receive();
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].payload, R"({"real": true})");
  EXPECT_EQ(again[0].retry_count, 1);
}

TEST_P(NackTest, WaitsAsLongAsAskedFor) {
  const auto messages = batch_of({"1", "2", "3", "4"});
  nack(messages.at(0));
  nack(messages[1], NackOptions{seconds{3600}});
  nack(messages[2], NackOptions{seconds{0}});
  nack(messages[3], NackOptions{seconds{2'147'483'647}});
  // Both are of the transaction that nacked, so the difference to the present is a matter of milliseconds.
  const auto rows = sql()(
      "select round(extract(epoch from ev_retry_after - now()) / 60)::int8 from pgque.retry_queue join pgque.queue on "
      "queue_id = ev_queue where queue_name = " +
      sql().quote(queue().name()) + " order by ev_id");
  std::vector<std::int64_t> minutes;
  for (const auto& row : rows) minutes.push_back(row[0].as<std::int64_t>());
  EXPECT_THAT(minutes, ElementsAre(1, 60, 0, 2'147'483'647 / 60));
}

TEST_P(NackTest, ADelayOutOfRangeIsRefused) {
  const auto messages = batch_of({"1"});
  for (const auto delay : {seconds{-1}, seconds{2'147'483'648}, seconds::max(), seconds::min()}) {
    EXPECT_EQ(class_thrown([&] { nack(messages.at(0), NackOptions{delay}); }), "std::invalid_argument")
        << delay.count();
  }
  EXPECT_STREQ(thrown<std::invalid_argument>([&] { nack(messages[0], NackOptions{seconds{-5}}); }).what(),
               "retry_after: must be between 0 s and 2147483647 s, is -5 s");
  EXPECT_EQ(queue().retries(), 0);
}

TEST_P(NackTest, TwiceIsAsOnce) {
  const auto messages = batch_of({"1"});
  nack(messages.at(0));
  nack(messages[0]);
  EXPECT_EQ(queue().retries(), 1);
}

TEST_P(NackTest, WithoutRetriesLeftBuriesTheMessageWithTheReason) {
  queue().config("max_retries", "0");
  const auto messages = batch_of({"1", "2", "3", "4"});
  nack(messages.at(0), NackOptions{seconds{60}, "it's \"odd\" 🚀; $1"});
  nack(messages[1]);
  nack(messages[2], NackOptions{seconds{60}, ""});
  nack(messages[3], NackOptions{seconds{60}, std::nullopt});
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_THAT(queue().dead_letter_reasons(),
              ElementsAre("it's \"odd\" 🚀; $1", "max retries exceeded", "", "max retries exceeded"));
}

TEST_P(NackTest, BuriesTheMessageOnceTheRetriesAreExhausted) {
  queue().config("max_retries", "2");
  auto messages = batch_of({"1"});
  const auto id = messages.at(0).msg_id;
  std::vector<std::optional<std::int32_t>> retry_counts;
  for (int delivery = 1; delivery <= 3; ++delivery) {
    ASSERT_THAT(ids_of(messages), ElementsAre(id));
    retry_counts.push_back(messages[0].retry_count);
    EXPECT_EQ(queue().dead_letters(), 0);
    nack(messages[0], NackOptions{seconds{0}, "failed"});
    EXPECT_TRUE(ack(messages[0].batch_id));
    queue().bring_retries_back();
    messages = receive();
  }
  EXPECT_THAT(messages, IsEmpty());
  EXPECT_THAT(retry_counts, ElementsAre(std::nullopt, 1, 2));
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("failed"));
}

// Upstream's Ruby client sends the payload back as JSON, so these could never be nacked.
TEST_P(NackTest, WorksWhateverThePayloadIs) {
  const auto messages = batch_of(
      {text("hello"), R"("a JSON string")", std::nullopt, nullptr, text(""), text(R"(\u0000)"), text("a,b)(\"")});
  for (const auto& message : messages) nack(message, NackOptions{seconds{0}});
  EXPECT_EQ(queue().retries(), 7);
  EXPECT_TRUE(ack(messages.at(0).batch_id));
  queue().bring_retries_back();
  EXPECT_EQ(payloads_of(receive()), payloads_of(messages));
}

TEST_P(NackTest, AfterTheAckThrowsBatchNotFound) {
  const auto messages = batch_of({"1"});
  ack(messages.at(0).batch_id);
  const auto error = thrown<BatchNotFound>([&] { nack(messages[0]); });
  EXPECT_EQ(error.server_message(), "batch not found: " + to_string(messages[0].batch_id));
  EXPECT_EQ(error.sqlstate(), "P0001");
  EXPECT_EQ(error.operation(), "nack (batch " + to_string(messages[0].batch_id) + ")");
  EXPECT_EQ(queue().retries(), 0);
}

TEST_P(NackTest, InABatchThatNeverWasThrowsBatchNotFound) {
  const auto error = thrown<BatchNotFound>([&] { call([](Operations& ops) { ops.nack(no_batch, no_event); }); });
  EXPECT_EQ(error.server_message(), "batch not found: 9223372036854775807");
}

TEST_P(NackTest, OfAMessageThatIsNotInTheBatchThrowsError) {
  const auto messages = batch_of({"1"});
  const auto error = thrown<Error>(
      [&] { call([&](Operations& ops) { ops.nack(messages.at(0).batch_id, EventId{9007199254740993}); }); });
  EXPECT_EQ(error.server_message(), "msg_id 9007199254740993 not found in batch " + to_string(messages[0].batch_id));
  EXPECT_EQ(error.sqlstate(), "P0001");
}

TEST_P(NackTest, AndAckInOneTransactionBothHold) {
  const auto messages = batch_of({"1", "2"});
  call([&](Operations& ops) {
    ops.nack(messages.at(0), NackOptions{seconds{0}});
    return ops.ack(messages[0].batch_id);
  });
  queue().bring_retries_back();
  EXPECT_THAT(ids_of(receive()), ElementsAre(messages[0].msg_id));
}

}  // namespace
}  // namespace pgque::test
