#include <pgque/doctor.hpp>

#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "doctor/judge.hpp"

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::judge;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A system that is well: a Ticker is active, one queue is ticked at once, its consumer keeps up.
detail::Observations healthy() {
  detail::Observations seen;
  seen.user = "app";
  seen.database = "shop";
  seen.installed = true;
  seen.version = "0.2.0";
  seen.reader = seen.writer = true;
  seen.ticker = true;
  detail::QueueState queue;
  queue.name = "orders";
  queue.max_lag = 100ms;
  queue.idle_period = 1min;
  queue.rotation_period = 2h;
  queue.rotated_ago = 1h;
  queue.ticks = 2;
  queue.tick_age = 30s;
  queue.consumers = 1;
  seen.queues = {queue};
  detail::SubscriptionState consumer;
  consumer.queue = "orders";
  consumer.name = "worker";
  consumer.silent = 5s;
  seen.consumers = {consumer};
  return seen;
}

std::vector<std::string> codes(const detail::Observations& seen, const DiagnoseOptions& options = {}) {
  std::vector<std::string> codes;
  for (const auto& finding : judge(seen, options)) codes.push_back(finding.code);
  return codes;
}

// The only finding.
Finding only(const detail::Observations& seen) {
  const auto findings = judge(seen, {});
  if (findings.size() != 1) throw std::runtime_error{"there are " + std::to_string(findings.size()) + " findings"};
  EXPECT_NE(findings[0].fact, "");
  EXPECT_NE(findings[0].consequence, "");
  EXPECT_NE(findings[0].remedy, "");
  return findings[0];
}

TEST(Diagnosis, OfWhatIsWellIsEmpty) {
  EXPECT_THAT(codes(healthy()), IsEmpty());
}

TEST(Diagnosis, WithoutPgQueEndsThere) {
  auto seen = healthy();
  seen.installed = false;
  seen.ticker = false;
  const auto finding = only(seen);
  EXPECT_EQ(finding.code, "not_installed");
  EXPECT_EQ(finding.severity, Severity::error);
  EXPECT_EQ(finding.fact, "the database 'shop' has no schema pgque");
}

TEST(Diagnosis, FindsAnOldPgQue) {
  auto seen = healthy();
  seen.version = "0.1.3";
  EXPECT_EQ(only(seen).code, "too_old");
  seen.version = "0.3.0-devel";
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.missing = "pgque.receive_coop(text)";
  EXPECT_THAT(only(seen).fact, HasSubstr("without pgque.receive_coop(text)"));
}

TEST(Diagnosis, FindsAnEncodingThatChecksNothing) {
  auto seen = healthy();
  for (const auto* const encoding : {"UTF8", "LATIN1"}) {
    seen.encoding = encoding;
    EXPECT_THAT(judge(seen, {}), IsEmpty()) << encoding;
  }
  seen.encoding = "SQL_ASCII";
  const auto finding = only(seen);
  EXPECT_EQ(finding.code, "unchecked_encoding");
  EXPECT_EQ(finding.severity, Severity::warning);
  EXPECT_THAT(finding.fact, HasSubstr("'shop'"));
  EXPECT_THAT(finding.remedy, HasSubstr("pgque.ack"));
}

TEST(Diagnosis, FindsMissingGrants) {
  auto seen = healthy();
  seen.user = "My App";
  seen.reader = false;
  EXPECT_EQ(only(seen).code, "limited_view");
  EXPECT_EQ(only(seen).severity, Severity::notice);
  seen.writer = false;
  EXPECT_EQ(only(seen).code, "no_grants");
  EXPECT_EQ(only(seen).severity, Severity::error);
  EXPECT_EQ(only(seen).remedy, "grant pgque_reader, pgque_writer to \"My App\";");
  seen.visible = false;
  seen.queues.clear();
  seen.ticker = false;
  EXPECT_EQ(only(seen).code, "no_grants");
}

TEST(Diagnosis, FindsThatNobodyTicks) {
  auto seen = healthy();
  seen.ticker = false;
  seen.queues[0].tick_age = 2min;
  EXPECT_EQ(only(seen).code, "no_ticker");
  EXPECT_EQ(only(seen).severity, Severity::error);
  seen.queues[0].ticks = 1;  // the one it was created with
  seen.queues[0].tick_age = 1s;
  EXPECT_EQ(only(seen).code, "no_ticker");
  seen.queues.clear();
  EXPECT_THAT(codes(seen), ElementsAre("no_ticker", "no_queues"));
}

TEST(Diagnosis, BelievesTheTicks) {
  auto seen = healthy();
  seen.ticker = false;
  EXPECT_EQ(only(seen).code, "unknown_scheduler");
  EXPECT_EQ(only(seen).severity, Severity::notice);
  seen.scheduler = "pg_cron";
  EXPECT_THAT(codes(seen), IsEmpty());
}

TEST(Diagnosis, FindsAQueueThatIsNotTicked) {
  auto seen = healthy();
  seen.queues[0].tick_age = 1min + 15s;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.queues[0].tick_age = 1min + 16s;
  EXPECT_EQ(only(seen).code, "queue_not_ticked");
  EXPECT_EQ(only(seen).queue, "orders");
  EXPECT_EQ(only(seen).remedy, "see whether the ticker logs errors");
  seen.ticker = false;
  seen.scheduler = "pg_cron";
  EXPECT_THAT(only(seen).remedy, HasSubstr("pgque.start()"));
  seen.queues[0].ticks = 1;
  seen.queues[0].tick_age = 6s;
  EXPECT_THAT(only(seen).fact, HasSubstr("when it was created"));
}

TEST(Diagnosis, FindsARestoreIntoAYoungerCluster) {
  auto seen = healthy();
  seen.transaction = 1000;
  seen.queues[0].tick_transaction = 1000;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.queues[0].tick_transaction = 1001;
  seen.queues[0].tick_age = 2h;  // which is not a finding of its own
  EXPECT_EQ(only(seen).code, "younger_cluster");
  EXPECT_EQ(only(seen).severity, Severity::error);
  EXPECT_THAT(only(seen).fact, HasSubstr("queue 'orders' recorded transaction ids up to 1001, but the server is only "
                                         "at 1000"));
  EXPECT_THAT(only(seen).consequence, HasSubstr("Invalid PgQ state"));
  EXPECT_THAT(only(seen).remedy, HasSubstr("pg_resetwal -e 1 "));
  seen.queues.push_back(seen.queues[0]);
  seen.queues[1].name = "audit";
  seen.queues[1].tick_transaction = (std::int64_t{3} << 32) + 5;
  seen.queues[1].consumers = 1;
  EXPECT_THAT(only(seen).fact, HasSubstr("queues 'orders', 'audit' recorded transaction ids up to 12884901893"));
  EXPECT_THAT(only(seen).remedy, HasSubstr("pg_resetwal -e 4 "));
  seen.queues[0].paused = seen.queues[1].external_ticker = true;
  EXPECT_THAT(codes(seen), ElementsAre("queue_paused", "external_ticker"));
}

TEST(Diagnosis, OfAPausedOrExternalQueueIsNotAboutItsTicks) {
  auto seen = healthy();
  seen.queues[0].tick_age = 1h;
  seen.queues[0].paused = true;
  EXPECT_EQ(only(seen).code, "queue_paused");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  EXPECT_EQ(only(seen).remedy, "select pgque.set_queue_config('orders', 'ticker_paused', 'false');");
  seen.queues[0].paused = false;
  seen.queues[0].external_ticker = true;
  EXPECT_EQ(only(seen).code, "external_ticker");
  EXPECT_EQ(only(seen).severity, Severity::notice);
}

TEST(Diagnosis, TellsWhatToExpectOfTheDefaultLag) {
  auto seen = healthy();
  seen.queues[0].max_lag = 1s;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.queues[0].max_lag = 3s;
  EXPECT_EQ(only(seen).code, "slow_ticks");
  EXPECT_EQ(only(seen).severity, Severity::notice);
  EXPECT_THAT(only(seen).consequence, HasSubstr("up to 3 s, half of it in the median"));
}

TEST(Diagnosis, FindsRetriesThatDoNotComeBack) {
  auto seen = healthy();
  seen.queues[0].due_retries = 10;
  seen.queues[0].retries_overdue = 1min;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.queues[0].retries_overdue = 61s;
  seen.queues[0].due_retries = 1;
  EXPECT_EQ(only(seen).fact, "1 retry of queue 'orders' is due, the oldest for 1 min 1 s");
  // A Ticker is about to bring them back.
  seen.queues[0].due_retries = 11;
  seen.queues[0].retries_overdue = 0s;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.ticker = false;
  seen.scheduler = "pg_cron";
  EXPECT_EQ(only(seen).code, "retries_waiting");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  EXPECT_THAT(only(seen).consequence, HasSubstr("moves ten"));
}

TEST(Diagnosis, FindsABatchThatIsKeptOpen) {
  auto seen = healthy();
  seen.consumers[0].batch = 7;
  seen.consumers[0].silent = 10min;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.consumers[0].silent = 1h;
  const auto finding = only(seen);
  EXPECT_EQ(finding.code, "stuck_batch");
  EXPECT_EQ(finding.severity, Severity::error);
  EXPECT_EQ(finding.consumer, "worker");
  EXPECT_EQ(finding.fact, "consumer 'worker' on queue 'orders' has kept batch 7 open for 1 h");
  EXPECT_THAT(finding.consequence, HasSubstr("will not be rotated when it is time, in 1 h"));
  seen.queues[0].rotated_ago = 26h;
  EXPECT_THAT(only(seen).consequence, HasSubstr("have not been rotated for 1 d 2 h, instead of every 2 h"));
  DiagnoseOptions patient;
  patient.stuck_after = 2h;
  EXPECT_THAT(codes(seen, patient), ElementsAre("rotation_stalled"));
}

TEST(Diagnosis, FindsASilentWorker) {
  auto seen = healthy();
  seen.consumers[0].role = ConsumerRole::subconsumer;
  seen.consumers[0].group = "g";
  seen.consumers[0].name = "g.w1";
  seen.consumers[0].silent = 1h;
  EXPECT_THAT(codes(seen), IsEmpty());  // it holds nothing
  seen.consumers[0].batch = 7;
  const auto finding = only(seen);
  EXPECT_EQ(finding.code, "stale_subconsumer");
  EXPECT_EQ(finding.severity, Severity::error);
  EXPECT_EQ(finding.queue, "orders");
  EXPECT_EQ(finding.consumer, "g.w1");
  EXPECT_EQ(finding.fact, "the worker 'g.w1' on queue 'orders' holds batch 7 and has sent no heartbeat for 1 h");
  EXPECT_THAT(finding.consequence, HasSubstr("nobody is given the messages of that batch"));
  EXPECT_THAT(finding.consequence, HasSubstr("will not be rotated when it is time, in 1 h"));
  EXPECT_THAT(finding.remedy, HasSubstr("start a worker named 'w1', or one with a dead_interval"));
  EXPECT_THAT(finding.remedy, HasSubstr("select pgque.unsubscribe_subconsumer('orders', 'g', 'w1', 1);"));
}

TEST(Diagnosis, WarnsOfAWorkerThatMissedSixHeartbeats) {
  auto seen = healthy();
  seen.consumers[0].role = ConsumerRole::subconsumer;
  seen.consumers[0].group = "g";
  seen.consumers[0].name = "g.w1";
  seen.consumers[0].batch = 7;
  seen.consumers[0].silent = 1min;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.consumers[0].silent = 61s;
  EXPECT_EQ(only(seen).code, "stale_subconsumer");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  seen.consumers[0].silent = 10min;
  EXPECT_EQ(only(seen).severity, Severity::warning);
  seen.consumers[0].silent = 10min + 1s;
  EXPECT_EQ(only(seen).severity, Severity::error);
  // Who asks to be told sooner is told sooner.
  DiagnoseOptions impatient;
  impatient.stuck_after = 30s;
  seen.consumers[0].silent = 31s;
  EXPECT_THAT(codes(seen), IsEmpty());
  EXPECT_EQ(judge(seen, impatient).at(0).severity, Severity::error);
  // But a healthy worker may be silent between two heartbeats.
  impatient.stuck_after = 5s;
  seen.consumers[0].silent = 20s;
  EXPECT_THAT(judge(seen, impatient), IsEmpty());
  seen.consumers[0].silent = 21s;
  EXPECT_EQ(judge(seen, impatient).at(0).severity, Severity::error);
}

TEST(Diagnosis, FindsAConsumerThatDoesNotRun) {
  auto seen = healthy();
  seen.consumers[0].behind = 1h;
  EXPECT_EQ(only(seen).code, "consumer_behind");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  EXPECT_THAT(only(seen).remedy, HasSubstr("select pgque.unsubscribe('orders', 'worker');"));
  // It runs, but does not catch up.
  seen.consumers[0].batch = 7;
  EXPECT_EQ(only(seen).code, "consumer_behind");
}

TEST(Diagnosis, FindsDeadLetters) {
  auto seen = healthy();
  seen.dead_letters = {{"orders", 5, 0}};
  EXPECT_EQ(only(seen).code, "dead_letters");
  EXPECT_EQ(only(seen).severity, Severity::notice);
  seen.dead_letters = {{"orders", 5, 2}};
  EXPECT_EQ(only(seen).code, "dead_letters_growing");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  EXPECT_EQ(only(seen).fact, "queue 'orders' has 5 dead letters, 2 of them from the last 1 h");
  EXPECT_THAT(only(seen).remedy, HasSubstr("sends to all consumers"));
}

TEST(Diagnosis, FindsQueuesThatNobodyReadsOrWrites) {
  auto seen = healthy();
  seen.queues[0].consumers = 0;
  seen.consumers.clear();
  EXPECT_EQ(only(seen).code, "no_consumers");
  seen = healthy();
  seen.queues[0].inserts_disabled = true;
  EXPECT_EQ(only(seen).code, "inserts_disabled");
}

TEST(Diagnosis, FindsServersAndPoolersThatDoNotNotify) {
  auto seen = healthy();
  seen.standby = seen.read_only = true;
  seen.notified = false;
  EXPECT_EQ(only(seen).code, "read_only_server");
  EXPECT_EQ(only(seen).fact, "the server is a standby");
  seen.ticker = false;  // that of the primary cannot be seen from there
  EXPECT_EQ(only(seen).code, "read_only_server");
  seen.ticker = true;
  seen.standby = false;
  seen.notified = true;
  EXPECT_THAT(only(seen).fact, HasSubstr("transaction_read_only"));
  seen = healthy();
  seen.pooler = true;
  EXPECT_EQ(only(seen).code, "pooler");
  seen.notified = false;
  EXPECT_EQ(only(seen).code, "listen_unavailable");
  EXPECT_THAT(only(seen).fact, HasSubstr("there is a connection pooler in between"));
}

TEST(Diagnosis, HasTheWorstFirst) {
  auto seen = healthy();
  seen.queues[0].max_lag = 3s;
  seen.queues[0].inserts_disabled = true;
  seen.consumers[0].batch = 7;
  seen.consumers[0].silent = 1h;
  EXPECT_THAT(codes(seen), ElementsAre("stuck_batch", "inserts_disabled", "slow_ticks"));
}

// Names are quoted, so that the statements do what they say.
TEST(Diagnosis, QuotesNames) {
  auto seen = healthy();
  seen.queues[0].name = "it's";
  seen.queues[0].paused = true;
  seen.consumers.clear();
  EXPECT_EQ(only(seen).remedy, "select pgque.set_queue_config('it''s', 'ticker_paused', 'false');");
}

}  // namespace
}  // namespace pgque::test
