#include <pgque/doctor.hpp>

#include <algorithm>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "doctor/judge.hpp"

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::judge;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// A system that is well: a Ticker is active, one queue is ticked at once, its consumer keeps up.
detail::Observations healthy() {
  detail::Observations seen;
  seen.user = "app";
  seen.database = "shop";
  seen.installed = true;
  seen.version = "0.2.0";
  seen.reader = seen.writer = true;
  seen.leader = detail::LeaderState{4711, "pgque ticker", 0s};
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
  seen.leader.reset();
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
  seen.leader.reset();
  EXPECT_EQ(only(seen).code, "no_grants");
}

TEST(Diagnosis, FindsThatNobodyTicks) {
  auto seen = healthy();
  seen.leader.reset();
  seen.queues[0].tick_age = 2min;
  EXPECT_EQ(only(seen).code, "no_ticker");
  EXPECT_EQ(only(seen).severity, Severity::error);
  EXPECT_EQ(
      only(seen).fact,
      "neither PgQue's own scheduler nor a Ticker is active, and the latest tick of any queue was made 2 min ago");
  // A scheduler would have ticked for these events.
  seen.queues[0].tick_age = 13s;
  seen.queues[0].waiting = 8s;
  EXPECT_EQ(only(seen).fact,
            "neither PgQue's own scheduler nor a Ticker is active, and the latest tick of any queue was made 13 s ago; "
            "events of queue 'orders' have waited for 8 s");
  seen.queues[0].waiting.reset();
  seen.queues[0].ticks = 1;  // the one it was created with
  seen.queues[0].tick_age = 1s;
  EXPECT_EQ(only(seen).fact,
            "neither PgQue's own scheduler nor a Ticker is active, and no queue has been ticked since it was created");
  seen.queues.clear();
  EXPECT_THAT(codes(seen), ElementsAre("no_ticker", "no_queues"));
  EXPECT_EQ(judge(seen, {})[0].fact, "neither PgQue's own scheduler nor a Ticker is active");
}

TEST(Diagnosis, MissesNoTickerWhereNoQueueIsToBeTicked) {
  auto seen = healthy();
  seen.leader.reset();
  seen.queues[0].tick_age = 2min;
  seen.queues[0].external_ticker = true;
  EXPECT_EQ(only(seen).code, "external_ticker");
  seen.queues.push_back(seen.queues[0]);
  seen.queues[1].name = "audit";
  seen.queues[1].external_ticker = false;
  seen.queues[1].paused = true;
  EXPECT_THAT(codes(seen), ElementsAre("queue_paused", "external_ticker"));
  seen.queues[1].paused = false;
  EXPECT_THAT(codes(seen), ElementsAre("no_ticker", "external_ticker"));
}

// The server replays the ticks of some time ago.
TEST(Diagnosis, OfAStandbyComparesNothingWithThePresentTime) {
  auto seen = healthy();
  seen.standby = seen.read_only = true;
  seen.leader.reset();
  seen.queues[0].due_retries = 1;
  seen.queues[0].retries_overdue = 1h;
  seen.queues[0].rotated_ago = 26h;
  seen.consumers[0].batch = 7;
  seen.consumers[0].silent = 1h;
  for (const auto age : {std::chrono::microseconds{1h}, std::chrono::microseconds{-1h}}) {
    seen.queues[0].tick_age = seen.queues[0].rotated_ago = age;
    for (const auto role : {ConsumerRole::normal, ConsumerRole::subconsumer}) {
      seen.consumers[0].role = role;
      EXPECT_EQ(only(seen).code, "read_only_server");
      EXPECT_THAT(only(seen).consequence, HasSubstr("it may lag behind the primary"));
    }
  }
  // The queue's ticks themselves tell this.
  seen.consumers[0].role = ConsumerRole::normal;
  seen.consumers[0].behind = 1h;
  EXPECT_THAT(codes(seen), ElementsAre("read_only_server", "consumer_behind"));
  // A session of the primary that is read-only sees all.
  seen.standby = false;
  EXPECT_THAT(codes(seen), Contains("stuck_batch"));
  EXPECT_THAT(judge(seen, {})[0].consequence, Not(HasSubstr("lag behind")));
}

TEST(Diagnosis, NamesAMessageThatCannotBeReadFirstWhereItIsLikely) {
  auto seen = healthy();
  seen.consumers[0].batch = 7;
  const auto remedy = [&] {
    const auto findings = judge(seen, {});
    const auto found = std::find_if(findings.begin(), findings.end(),
                                    [](const Finding& finding) { return !finding.consumer.empty(); });
    return found == findings.end() ? std::string{} : found->remedy;
  };
  const auto* const first = "see first whether receiving fails with SQLSTATE 22021: ";
  for (const bool stuck : {true, false}) {
    seen.consumers[0].silent = stuck ? 1h : 0h;
    seen.consumers[0].behind = stuck ? 0h : 1h;
    for (const auto role : {ConsumerRole::normal, ConsumerRole::subconsumer}) {
      seen.consumers[0].role = role;
      if (!stuck && role == ConsumerRole::subconsumer) continue;
      seen.encoding = "SQL_ASCII";
      EXPECT_THAT(remedy(), AllOf(StartsWith(first), HasSubstr("unchecked_encoding")));
      seen.encoding = "UTF8";
      EXPECT_THAT(remedy(), StartsWith("start "));
    }
  }
}

// An idle period of an hour excuses no ticker that leaves events waiting.
TEST(Diagnosis, FindsThatNobodyTicksWhateverTheIdlePeriod) {
  auto seen = healthy();
  seen.leader.reset();
  seen.queues[0].idle_period = 1h;
  seen.queues[0].tick_age = 50min;
  EXPECT_EQ(only(seen).code, "unknown_scheduler");
  seen.queues[0].waiting = 5s + 100ms;
  EXPECT_EQ(only(seen).code, "unknown_scheduler");
  seen.queues[0].waiting = 5s + 101ms;
  EXPECT_EQ(only(seen).code, "no_ticker");
  seen.queues[0].waiting = 49min;
  EXPECT_THAT(only(seen).fact, HasSubstr("; events of queue 'orders' have waited for 49 min"));
  // Another queue's tick of before that proves nothing, one of since then does.
  seen.queues.push_back(seen.queues[0]);
  seen.queues[1].name = "audit";
  seen.queues[1].waiting.reset();
  EXPECT_EQ(only(seen).code, "no_ticker");
  seen.queues[1].tick_age = 48min;
  EXPECT_THAT(codes(seen), ElementsAre("queue_not_ticked", "unknown_scheduler"));
  EXPECT_THAT(judge(seen, {})[0].fact, HasSubstr("50 min ago; events have waited for 49 min"));
  // A scheduler there is, and it leaves the queue out.
  seen.leader = healthy().leader;
  EXPECT_EQ(only(seen).code, "queue_not_ticked");
  // Events wait there as they should.
  seen.queues[0].paused = true;
  EXPECT_EQ(only(seen).code, "queue_paused");
}

TEST(Diagnosis, BelievesTheTicks) {
  auto seen = healthy();
  seen.leader.reset();
  EXPECT_EQ(only(seen).code, "unknown_scheduler");
  EXPECT_EQ(only(seen).severity, Severity::notice);
  seen.scheduler = "pg_cron";
  EXPECT_THAT(codes(seen), IsEmpty());
}

TEST(Diagnosis, KnowsATickerBehindAPooler) {
  auto seen = healthy();
  seen.leader.reset();
  seen.ticker_sessions = true;
  EXPECT_EQ(only(seen).code, "pooled_ticker");
  EXPECT_EQ(only(seen).severity, Severity::notice);
  EXPECT_THAT(only(seen).remedy, HasSubstr("`pgque tick` without --pooled"));
  // If there are no ticks, the sessions have been left behind.
  seen.queues[0].tick_age = 2min;
  EXPECT_EQ(only(seen).code, "no_ticker");
  // A direct one keeps the lock.
  EXPECT_THAT(codes(healthy()), IsEmpty());
}

TEST(Diagnosis, FindsALockThatAPoolerHasKept) {
  auto seen = healthy();
  seen.leader->idle = 10min;
  EXPECT_THAT(codes(seen), IsEmpty());  // the ticker's period is long
  seen.queues[0].tick_age = 10min;
  seen.queues.push_back(seen.queues[0]);
  seen.queues[1].name = "audit";
  EXPECT_EQ(only(seen).code, "stranded_ticker_lock");
  EXPECT_EQ(only(seen).severity, Severity::error);
  EXPECT_THAT(only(seen).fact, HasSubstr("session 4711 ('pgque ticker') holds the lock of the active ticker, but has "
                                         "executed nothing for 10 min"));
  EXPECT_THAT(only(seen).remedy, HasSubstr("select pg_catalog.pg_terminate_backend(4711);"));
  // A Ticker that ticks rarely is no reason to end its session.
  EXPECT_THAT(only(seen).fact, HasSubstr("or its tick_period is longer than that"));
  EXPECT_THAT(only(seen).remedy,
              StartsWith("if its Ticker has a tick_period (pgque tick --period) longer than that, "));
  DiagnoseOptions patient;
  patient.silent_ticker = 10min;
  EXPECT_THAT(codes(seen, patient), ElementsAre("queue_not_ticked", "queue_not_ticked"));
  // A role that may not see what the session does, and a session that works.
  seen.leader->idle.reset();
  EXPECT_THAT(codes(seen), ElementsAre("queue_not_ticked", "queue_not_ticked"));
  EXPECT_THAT(judge(seen, {})[0].remedy, HasSubstr("or has a tick_period (pgque tick --period) longer than that"));
  seen.leader->idle = 1min;
  EXPECT_THAT(codes(seen), ElementsAre("queue_not_ticked", "queue_not_ticked"));
}

TEST(Diagnosis, FindsAClockThatWentBack) {
  auto seen = healthy();
  seen.queues[0].tick_age = -5s;  // a transaction may begin a little later than this one
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.queues[0].tick_age = -54min;
  EXPECT_EQ(only(seen).code, "clock_went_back");
  EXPECT_EQ(only(seen).severity, Severity::error);
  EXPECT_EQ(only(seen).queue, "orders");
  EXPECT_THAT(only(seen).fact, HasSubstr("was made 54 min in the future"));
  EXPECT_THAT(only(seen).remedy, HasSubstr("select pgque.force_next_tick('orders');"));
  // Such a tick does not show that anything ticks.
  seen.leader.reset();
  EXPECT_THAT(codes(seen), ElementsAre("no_ticker", "clock_went_back"));
  seen = healthy();
  seen.queues[0].rotated_ago = -54min;
  EXPECT_EQ(only(seen).code, "clock_went_back");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  EXPECT_EQ(
      only(seen).remedy,
      "update pgque.queue set queue_switch_time = pg_catalog.now() where queue_name operator(pg_catalog.=) 'orders';");
  // The times of another system's ticks, and of consumers, matter less.
  seen = healthy();
  seen.queues[0].tick_age = -54min;
  seen.queues[0].external_ticker = true;
  seen.consumers[0].silent = -54min;
  seen.consumers[0].behind = 1h;
  EXPECT_THAT(codes(seen), ElementsAre("consumer_behind", "external_ticker"));
  for (const auto& finding : judge(seen, {})) EXPECT_THAT(finding.fact, HasSubstr(" 0 ms ago"));
}

TEST(Diagnosis, FindsAQueueThatIsNotTicked) {
  auto seen = healthy();
  seen.queues[0].tick_age = 1min + 15s;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.queues[0].tick_age = 1min + 16s;
  EXPECT_EQ(only(seen).code, "queue_not_ticked");
  EXPECT_EQ(only(seen).queue, "orders");
  EXPECT_EQ(
      only(seen).remedy,
      "see whether the ticker, session 4711 ('pgque ticker'), logs errors, or has a tick_period (pgque tick --period) "
      "longer than that; if there is no such ticker any more, a pooler has kept its session: select "
      "pg_catalog.pg_terminate_backend(4711);");
  seen.leader.reset();
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
  seen.leader.reset();
  seen.scheduler = "pg_cron";
  EXPECT_EQ(only(seen).code, "retries_waiting");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  EXPECT_THAT(only(seen).consequence, HasSubstr("moves ten"));
  // These functions run with the caller's path, and who reads this may be a superuser.
  EXPECT_THAT(only(seen).remedy, HasSubstr("set search_path = pg_catalog, pg_temp; and repeat select"));
}

TEST(Diagnosis, FindsTheQueueThatBlocksAllRetries) {
  auto seen = healthy();
  seen.queues[0].due_retries = 1;
  seen.queues.push_back(seen.queues[0]);
  seen.queues[1].name = "refusing";
  seen.queues[1].inserts_disabled = true;
  EXPECT_THAT(codes(seen), ElementsAre("retries_blocked", "inserts_disabled"));
  const auto blocked = judge(seen, {})[0];
  EXPECT_EQ(blocked.severity, Severity::error);
  EXPECT_EQ(blocked.queue, "refusing");
  EXPECT_THAT(blocked.consequence, HasSubstr("no retry of any queue comes back"));
  EXPECT_THAT(blocked.remedy, HasSubstr("update pgque.queue set queue_disable_insert = false where queue_name "
                                        "operator(pg_catalog.=) 'refusing'; or"));
  EXPECT_THAT(blocked.remedy,
              HasSubstr("delete from pgque.retry_queue where ev_queue operator(pg_catalog.=) (select queue_id from "
                        "pgque.queue where queue_name operator(pg_catalog.=) 'refusing');"));
  // The others wait for it.
  seen.queues[0].retries_overdue = 2min;
  EXPECT_THAT(codes(seen), ElementsAre("retries_blocked", "retries_waiting", "inserts_disabled"));
  EXPECT_EQ(judge(seen, {})[1].consequence, "they do not come back while queue 'refusing' blocks all retries");
  seen.queues[1].due_retries = 0;
  EXPECT_THAT(codes(seen), ElementsAre("retries_waiting", "inserts_disabled"));
  EXPECT_EQ(judge(seen, {})[0].consequence, "they come late");
}

TEST(Diagnosis, FindsARotationPeriodThatNoTableLivesToSee) {
  auto seen = healthy();
  seen.queues[0].rotation_period = 24h * 3653;
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.queues[0].rotation_period = std::chrono::seconds{3'155'760'000'000};  // as far as a duration is read
  seen.queues[0].rotated_ago = -std::chrono::seconds{3'155'760'000'000};
  EXPECT_THAT(codes(seen), ElementsAre("clock_went_back", "odd_rotation_period"));
  const auto odd = judge(seen, {})[1];
  EXPECT_EQ(odd.severity, Severity::warning);
  EXPECT_THAT(odd.fact, HasSubstr("is 36525000 d"));
  EXPECT_EQ(odd.remedy, "select pgque.set_queue_config('orders', 'rotation_period', '2 hours');");
}

TEST(Diagnosis, FindsNamesThatCannotBeRead) {
  auto seen = healthy();
  seen.unreadable = "invalid byte sequence for encoding \"UTF8\": 0xe9";
  EXPECT_EQ(only(seen).code, "unreadable_rows");
  EXPECT_EQ(only(seen).severity, Severity::warning);
  EXPECT_THAT(only(seen).fact, HasSubstr("cannot be read: invalid byte sequence for encoding \"UTF8\": 0xe9"));
  EXPECT_THAT(only(seen).remedy, HasSubstr("set client_encoding to SQL_ASCII;"));
}

TEST(Diagnosis, GivesTheAdviceForASlotToAnIdleSlot) {
  auto seen = healthy();
  seen.slots = true;
  seen.any_hash = false;
  seen.consumers[0].name = "c#0/2";
  seen.consumers.push_back(seen.consumers[0]);
  seen.consumers[1].name = "c#1/2";
  EXPECT_THAT(codes(seen), IsEmpty());
  seen.consumers[1].behind = 1h;
  EXPECT_EQ(only(seen).code, "consumer_behind");
  EXPECT_EQ(only(seen).consumer, "c#1/2");
  EXPECT_THAT(only(seen).remedy, HasSubstr("let a worker claim slot 1 of 'c' (pgque.claim_slot); or select "
                                           "pgque.unsubscribe_slot('orders', 'c', 1);"));
  EXPECT_THAT(only(seen).remedy, Not(HasSubstr("pgque.unsubscribe(")));
  seen.consumers[1].behind = 0s;
  seen.consumers[1].batch = 7;
  seen.consumers[1].silent = 1h;
  EXPECT_EQ(only(seen).code, "stuck_batch");
  EXPECT_THAT(only(seen).remedy, HasSubstr("select pgque.unsubscribe_slot('orders', 'c', 1);"));
}

TEST(Diagnosis, FindsSlotsThatAreNotSubscribed) {
  auto seen = healthy();
  seen.slots = true;
  seen.consumers[0].name = "c#1/3";
  EXPECT_EQ(only(seen).code, "slot_unsubscribed");
  EXPECT_EQ(only(seen).severity, Severity::error);
  EXPECT_EQ(only(seen).consumer, "c");
  EXPECT_THAT(only(seen).fact, HasSubstr("of the 3 slots of the partitioned consumer 'c' on queue 'orders', these are "
                                         "not subscribed: 0, 2"));
  EXPECT_THAT(only(seen).remedy, HasSubstr("select pgque.subscribe_slot('orders', 'c', slot, 3) from "
                                           "pg_catalog.unnest(array[0, 2]) as slot;"));
}

TEST(Diagnosis, FindsNamesThatAreReservedForSlots) {
  auto seen = healthy();
  seen.consumers[0].name = "a#b";
  seen.consumers[0].last_tick = 17;
  EXPECT_EQ(only(seen).code, "reserved_name");
  EXPECT_EQ(only(seen).severity, Severity::notice);
  EXPECT_EQ(only(seen).consumer, "a#b");
  EXPECT_THAT(only(seen).remedy, HasSubstr("select pgque.register_consumer_at('orders', 'a-b', 17); -- "));
  EXPECT_THAT(only(seen).remedy, HasSubstr("select pgque.unsubscribe('orders', 'a#b');"));
  // A slot of a PgQue that has none is just a name.
  seen.consumers[0].name = "c#0/1";
  EXPECT_EQ(only(seen).code, "reserved_name");
  seen.slots = true;
  EXPECT_THAT(codes(seen), IsEmpty());
  for (const auto* const no_slot : {"a#b", "c#1/1", "c#0/", "c#/1", "c#0/1x", "c#-1/2", "c/0#1", "c#0/9999"}) {
    seen.consumers[0].name = no_slot;
    EXPECT_EQ(only(seen).severity, Severity::notice) << no_slot;
  }
  seen.any_hash = false;
  EXPECT_EQ(only(seen).severity, Severity::error);
  EXPECT_THAT(only(seen).consequence, HasSubstr("can be neither received nor acknowledged"));
  // Of a group and its workers, the one that has it is named.
  seen.consumers[0].name = "g#";
  seen.consumers[0].role = ConsumerRole::group;
  seen.consumers.push_back(seen.consumers[0]);
  seen.consumers[1].role = ConsumerRole::subconsumer;
  seen.consumers[1].group = "g#";
  seen.consumers[1].name = "g#.w";
  EXPECT_EQ(only(seen).consumer, "g#");
  seen.consumers[0].name = seen.consumers[1].group = "g";
  seen.consumers[1].name = "g.w#1";
  EXPECT_EQ(only(seen).consumer, "g.w#1");
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
  EXPECT_THAT(judge(seen, patient)[0].remedy,
              HasSubstr("set search_path = pg_catalog, pg_temp; select pgque.maint();"));
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
  EXPECT_THAT(only(seen).remedy, StartsWith("`pgque dlq list 'orders'` shows the reasons"));
  EXPECT_THAT(only(seen).remedy, HasSubstr("`pgque dlq replay ID` sends one again, to all consumers"));
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
  seen.leader.reset();  // that of the primary cannot be seen from there
  EXPECT_EQ(only(seen).code, "read_only_server");
  seen.leader = healthy().leader;
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

TEST(Diagnosis, HasTheWorstFirstAlsoWhereItEndsEarly) {
  auto seen = healthy();
  seen.notified = false;
  seen.reader = seen.writer = seen.visible = false;
  EXPECT_THAT(codes(seen), ElementsAre("no_grants", "listen_unavailable"));
  seen.installed = false;
  EXPECT_THAT(codes(seen), ElementsAre("not_installed", "listen_unavailable"));
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
