// Queues, information, dead letters, maintenance.

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>

#include "database.hpp"
#include "messages.hpp"
#include "row_trigger.hpp"
#include "support.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class AdminTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    admin_.emplace(dsn(), client_options());
    client_.emplace(dsn(), client_options());
  }
  void TearDown() override {
    admin_.reset();
    client_.reset();
    DatabaseTest::TearDown();
  }

  Admin& admin() { return *admin_; }
  Client& client() { return *client_; }
  // Makes dead letters of these payloads, in this order, for consumer_name().
  void bury(const std::vector<Payload>& payloads, const std::string& reason = "why") {
    client().subscribe(queue(), consumer_name());
    queue().config("max_retries", "0");
    for (const auto& payload : payloads) {
      client().send(queue(), payload, "t");
      queue().tick();
      const auto messages = client().receive(queue(), consumer_name());
      NackOptions options;
      options.reason = reason;
      for (const auto& message : messages) client().nack(message, options);
      client().ack(messages.at(0).batch_id);
    }
  }
  std::vector<std::string> payloads(const std::vector<DeadLetter>& letters) {
    std::vector<std::string> out;
    for (const auto& letter : letters) out.push_back(letter.payload.value_or("NULL"));
    return out;
  }
  const std::string nowhere = unique_name("nowhere");

 private:
  std::optional<Admin> admin_;
  std::optional<Client> client_;
};

TEST_F(AdminTest, CreatesAndDropsQueues) {
  const auto name = unique_name("admin's");
  EXPECT_TRUE(admin().create_queue(name));
  EXPECT_FALSE(admin().create_queue(name));
  EXPECT_EQ(admin().queue(name).queue, name);
  admin().drop_queue(name);
  EXPECT_THROW(admin().queue(name), QueueNotFound);
  EXPECT_THROW(admin().drop_queue(name), QueueNotFound);
}

TEST_F(AdminTest, DropsAQueueWithConsumersOnlyWhenToldTo) {
  const auto name = unique_name("drop");
  admin().create_queue(name);
  client().subscribe(name, "c_" + name);
  client().subscribe_subconsumer(name, "g_" + name, "w1");
  client().subscribe_subconsumer(name, "g_" + name, "w2");
  client().send(name, "1");
  client().force_next_tick(name);
  client().ticker(name);
  EXPECT_THAT(client().receive_coop(name, "g_" + name, "w1"), SizeIs(1));  // holds a batch
  const auto error = thrown<Error>([&] { admin().drop_queue(name); });
  EXPECT_EQ(error.server_message(), "cannot drop queue, consumers still attached");
  EXPECT_THAT(error.what(), HasSubstr("unsubscribe them first"));
  EXPECT_TRUE(admin().is_open());
  admin().drop_queue(name, true);
  EXPECT_THROW(admin().queue(name), QueueNotFound);
}

TEST_F(AdminTest, ConfiguresQueues) {
  const auto name = unique_name("config");
  QueueSettings settings;
  settings.ticker_max_count = 7;
  settings.ticker_max_lag = 1500ms;
  settings.ticker_idle_period = 90s;
  settings.rotation_period = 3h;
  settings.max_retries = 2;
  settings.paused = true;
  EXPECT_TRUE(admin().create_queue(name, settings));
  auto info = admin().queue(name);
  EXPECT_EQ(info.ticker_max_count, 7);
  EXPECT_EQ(info.ticker_max_lag, 1500ms);
  EXPECT_EQ(info.ticker_idle_period, 90s);
  EXPECT_EQ(info.rotation_period, 3h);
  EXPECT_EQ(info.max_retries, 2);
  EXPECT_TRUE(info.paused);
  EXPECT_FALSE(info.external_ticker);

  QueueSettings change;
  change.paused = false;
  change.external_ticker = true;
  change.reset = {QueueSetting::ticker_max_lag, QueueSetting::max_retries};
  admin().configure_queue(name, change);
  info = admin().queue(name);
  EXPECT_EQ(info.ticker_max_count, 7);
  EXPECT_EQ(info.ticker_max_lag, 3s);
  EXPECT_EQ(info.max_retries, std::nullopt);
  EXPECT_FALSE(info.paused);
  EXPECT_TRUE(info.external_ticker);

  QueueSettings late;
  late.ticker_max_count = 9;
  EXPECT_FALSE(admin().create_queue(name, late));
  EXPECT_EQ(admin().queue(name).ticker_max_count, 9);
  admin().drop_queue(name);
}

TEST_F(AdminTest, RefusesSettingsBeforeItCreatesAnything) {
  QueueSettings settings;
  settings.max_retries = -1;
  EXPECT_THROW(admin().create_queue(nowhere, settings), std::invalid_argument);
  EXPECT_THROW(admin().queue(nowhere), QueueNotFound);
  EXPECT_THROW(admin().create_queue(std::string(58, 'q')), std::invalid_argument);
}

TEST_F(AdminTest, ASettingThatTheServerRefusesLeavesNoQueueBehind) {
  const auto name = unique_name("refused");
  const RowTrigger refuses{"update", "pgque.queue",
                           "new.queue_name = " + sql().quote(name) + " and new.queue_max_retries = 7",
                           "raise exception 'seven is refused';"};
  QueueSettings settings;
  settings.ticker_max_count = 9;
  settings.max_retries = 7;
  EXPECT_EQ(thrown<Error>([&] { admin().create_queue(name, settings); }).server_message(), "seven is refused");
  EXPECT_THROW(admin().queue(name), QueueNotFound);
  settings.max_retries = 8;
  EXPECT_TRUE(admin().create_queue(name, settings));
  EXPECT_EQ(admin().queue(name).max_retries, 8);
  // Nor does it change some of the settings of a queue that is there.
  settings.ticker_max_count = 10;
  settings.max_retries = 7;
  EXPECT_EQ(thrown<Error>([&] { admin().create_queue(name, settings); }).server_message(), "seven is refused");
  EXPECT_EQ(admin().queue(name).ticker_max_count, 9);
  EXPECT_EQ(admin().queue(name).max_retries, 8);
  admin().drop_queue(name);
}

TEST_F(AdminTest, SaysThatAQueueIsNotThere) {
  QueueSettings settings;
  settings.paused = true;
  EXPECT_THROW(admin().configure_queue(nowhere, settings), QueueNotFound);
  EXPECT_THROW(admin().configure_queue(nowhere, {}), QueueNotFound);
  EXPECT_THROW(admin().queue(nowhere), QueueNotFound);
  EXPECT_THROW(admin().consumers(nowhere), QueueNotFound);
  EXPECT_THROW(admin().consumer(nowhere, "c"), ConsumerNotFound);
  EXPECT_THROW(admin().consumer(queue(), "nobody"), ConsumerNotFound);
  EXPECT_THROW(admin().subscribe_at(nowhere, "c", TickId{1}), QueueNotFound);
  EXPECT_THROW(admin().subscribe_at(nowhere, "c", Timestamp{}), QueueNotFound);
  EXPECT_THROW(admin().dead_letters(nowhere), QueueNotFound);
  EXPECT_THROW(admin().for_each_dead_letter(nowhere, [](const DeadLetter&) { return true; }), QueueNotFound);
  EXPECT_THROW(admin().replay_dead_letters(nowhere), QueueNotFound);
  EXPECT_THROW(admin().purge_dead_letters(nowhere, 0s), QueueNotFound);
}

TEST_F(AdminTest, TellsWhatAQueueIsAt) {
  const auto before = admin().queue(queue());
  EXPECT_EQ(before.queue, queue().name());
  EXPECT_EQ(before.note, "");
  EXPECT_EQ(before.tables, 3);
  ASSERT_TRUE(before.last_tick && before.ticker_lag && before.new_events);
  client().send(queue(), "1");
  queue().tick();
  const auto after = admin().queue(queue());
  EXPECT_GT(*after.last_tick, *before.last_tick);
  EXPECT_LT(*after.ticker_lag, 20s);
  EXPECT_EQ(after.new_events, 0);
  EXPECT_FALSE(after.inserts_disabled);
  const auto all = admin().queues();
  EXPECT_EQ(std::count_if(all.begin(), all.end(), [&](const auto& info) { return info.queue == queue().name(); }), 1);
}

TEST_F(AdminTest, TellsTimesAndTotalsThatDoNotDependOnWhenItIsAsked) {
  const auto microseconds = [](Timestamp time) { return time.time_since_epoch().count(); };
  const auto of_queue = " where queue_name = " + sql().quote(queue().name());
  const auto of_latest_tick = [&](const std::string& what) {
    return sql().number("select " + what + " from pgque.tick join pgque.queue on queue_id = tick_queue" + of_queue +
                        " order by tick_id desc limit 1");
  };
  const std::string tick_time = "(extract(epoch from tick_time) * 1000000)::int8";
  client().subscribe(queue(), consumer_name());
  const auto start = of_latest_tick(tick_time);
  client().send_batch(queue(), "t", {Payload{"1"}, Payload{"2"}, Payload{"3"}});
  queue().tick();
  Admin reader{dsn_of_role_with({"pgque_reader"}), client_options()};
  for (Admin* who : {&admin(), &reader}) {
    const auto info = who->queue(queue());
    EXPECT_EQ(microseconds(info.last_tick_at.value()), of_latest_tick(tick_time));
    EXPECT_EQ(info.last_tick_event, of_latest_tick("tick_event_seq"));
    EXPECT_EQ(info.waiting_retries, 0);
    const auto consumer = who->consumer(queue(), consumer_name());
    EXPECT_EQ(microseconds(consumer.last_tick_at.value()), start) << "it has finished nothing since it subscribed";
    EXPECT_EQ(microseconds(consumer.last_seen_at),
              sql().number("select (extract(epoch from sub_active) * 1000000)::int8 from pgque.subscription join "
                           "pgque.queue on queue_id = sub_queue" +
                           of_queue));
  }
  const auto messages = client().receive(queue(), consumer_name());
  ASSERT_THAT(messages, SizeIs(3));
  NackOptions later;
  later.retry_after = 1h;
  client().nack(messages[0], later);
  client().nack(messages[1], later);
  client().ack(messages[0].batch_id);
  EXPECT_EQ(admin().queue(queue()).waiting_retries, 2);
  EXPECT_EQ(reader.queue(queue()).waiting_retries, 2);
  EXPECT_EQ(microseconds(admin().consumer(queue(), consumer_name()).last_tick_at.value()), of_latest_tick(tick_time));
  // Those of another queue do not count.
  const TestQueue other{sql()};
  EXPECT_EQ(admin().queue(other.name()).waiting_retries, 0);
}

// What PgQue 0.2.0 refuses is left out, and said to be.
TEST_F(AdminTest, TellsAReaderWhatItMayKnow) {
  Admin reader{dsn_of_role_with({"pgque_reader"}), client_options()};
  const auto full = admin().queue(queue());
  for (int i = 0; i < 2; ++i) {
    const auto limited = reader.queue(queue());
    EXPECT_EQ(limited.queue, full.queue);
    EXPECT_EQ(limited.last_tick, full.last_tick);
    EXPECT_EQ(limited.ticker_max_lag, full.ticker_max_lag);
    EXPECT_EQ(limited.rotated_at, full.rotated_at);
    EXPECT_TRUE(limited.ticker_lag.has_value());
    if (limited.note.empty()) {
      EXPECT_TRUE(limited.new_events.has_value());  // a PgQue that allows it
    } else {
      EXPECT_THAT(limited.note, AllOf(HasSubstr("pgque_reader"), HasSubstr("grant pgque_admin")));
      EXPECT_FALSE(limited.new_events.has_value());
      EXPECT_FALSE(limited.events_per_second.has_value());
    }
  }
  EXPECT_THROW(reader.queue(nowhere), QueueNotFound);
}

TEST_F(AdminTest, TellsWhatConsumersAreAt) {
  EXPECT_THAT(admin().consumers(queue()), IsEmpty());
  client().subscribe(queue(), consumer_name());
  client().send(queue(), "1");
  queue().tick();
  auto info = admin().consumer(queue(), consumer_name());
  EXPECT_EQ(info.queue, queue().name());
  EXPECT_EQ(info.consumer, consumer_name());
  EXPECT_EQ(info.role, ConsumerRole::normal);
  EXPECT_EQ(info.group, "");
  EXPECT_FALSE(info.current_batch || info.next_tick || info.open_batch_age);
  ASSERT_TRUE(info.lag && info.last_tick && info.pending_events);
  EXPECT_GE(*info.pending_events, 1);

  const auto batch = client().receive(queue(), consumer_name()).at(0).batch_id;
  info = admin().consumer(queue(), consumer_name());
  EXPECT_EQ(info.current_batch, batch);
  EXPECT_TRUE(info.next_tick && info.open_batch_age);
  EXPECT_LT(*info.open_batch_age, 20s);

  const auto open = admin().batch(batch).value();
  EXPECT_EQ(open.queue, queue().name());
  EXPECT_EQ(open.consumer, consumer_name());
  EXPECT_EQ(open.last_tick, info.next_tick);
  EXPECT_EQ(open.first_tick, info.last_tick);
  EXPECT_LT(open.begin, open.end);
  EXPECT_GE(open.events, 1);
  client().ack(batch);
  EXPECT_EQ(admin().batch(batch), std::nullopt) << "finished";
}

TEST_F(AdminTest, TellsGroupsAndTheirWorkersApart) {
  const auto group = "g" + consumer_name();
  client().subscribe_subconsumer(queue(), group, "w");
  const auto infos = admin().consumers(queue());
  ASSERT_THAT(infos, SizeIs(2));
  EXPECT_EQ(infos[0].role, ConsumerRole::group);
  EXPECT_EQ(infos[0].group, "");
  EXPECT_EQ(infos[1].consumer, group + ".w");
  EXPECT_EQ(infos[1].role, ConsumerRole::subconsumer);
  EXPECT_EQ(infos[1].group, group);
  EXPECT_EQ(infos[1].lag, std::nullopt);
}

TEST_F(AdminTest, SubscribesAtAPastTickAndMovesBack) {
  client().subscribe(queue(), consumer_name());
  const auto start = admin().queue(queue()).last_tick.value();
  const auto first = client().send(queue(), "1");
  queue().tick();
  const auto batch = client().receive(queue(), consumer_name());
  client().ack(batch.at(0).batch_id);
  EXPECT_TRUE(admin().subscribe_at(queue(), "late_" + consumer_name(), start));
  EXPECT_THAT(ids_of(client().receive(queue(), "late_" + consumer_name())), ElementsAre(first));
  EXPECT_FALSE(admin().subscribe_at(queue(), consumer_name(), start));
  EXPECT_THAT(ids_of(client().receive(queue(), consumer_name())), ElementsAre(first)) << "again";
  const auto error = thrown<Error>([&] { admin().subscribe_at(queue(), consumer_name(), TickId{999'999}); });
  EXPECT_EQ(error.server_message(), "cannot reposition, tick not found: 999999");
}

TEST_F(AdminTest, SubscribesFromATimeAndMissesNothingOfIt) {
  const auto now = [&] {
    return Timestamp{
        std::chrono::microseconds{sql().number("select (extract(epoch from clock_timestamp()) * 1000000)::bigint")}};
  };
  const auto from = [&](Timestamp time) {
    admin().subscribe_at(queue(), consumer_name(), time);
    std::vector<EventId> ids;
    for (int windows = 0; windows < 10; ++windows) {
      for (const auto& message : client().receive(queue(), consumer_name())) {
        ids.push_back(message.msg_id);
        client().ack(message.batch_id);
      }
    }
    return ids;
  };
  const auto start = now();
  const auto first = client().send(queue(), "1");
  queue().tick();
  const auto between = now();
  const auto second = client().send(queue(), "2");
  queue().tick();
  const auto after = now();
  const auto third = client().send(queue(), "3");
  EXPECT_TRUE(admin().subscribe_at(queue(), "new_" + consumer_name(), between));
  EXPECT_THAT(ids_of(client().receive(queue(), "new_" + consumer_name())), ElementsAre(second));
  EXPECT_THAT(from(start), ElementsAre(first, second));
  EXPECT_THAT(from(between), ElementsAre(second));
  EXPECT_THAT(from(after), IsEmpty());
  queue().tick();
  EXPECT_THAT(from(after), ElementsAre(third));
  EXPECT_THAT(from(Timestamp::min()), ElementsAre(first, second, third));
  EXPECT_THAT(from(now()), IsEmpty());
  EXPECT_THAT(from(Timestamp::max()), IsEmpty());
  EXPECT_THROW(admin().subscribe_at(unique_name("nowhere"), "c", start), QueueNotFound);
}

// A tick is dated to the beginning of its transaction, and has what is committed before it is made.
TEST_F(AdminTest, SubscribesFromATimeDuringTheTickersTransaction) {
  client().send(queue(), "1");
  queue().tick();
  std::int64_t time = 0;
  EventId ahead{};
  {
    Sql ticker;
    ticker("begin; select pgque.force_next_tick(" + sql().quote(queue().name()) + ")");
    time = sql().number("select (extract(epoch from clock_timestamp()) * 1000000)::bigint");
    ahead = client().send(queue(), "2");
    ticker("select pgque.ticker(" + sql().quote(queue().name()) + "); commit");
  }
  admin().subscribe_at(queue(), consumer_name(), Timestamp{std::chrono::microseconds{time}});
  EXPECT_THAT(ids_of(client().receive(queue(), consumer_name())), ElementsAre(ahead));
}

TEST_F(AdminTest, ListsDeadLettersTheNewestFirst) {
  EXPECT_THAT(admin().dead_letters(queue()), IsEmpty());
  bury({text("a"), std::nullopt, text("c")});
  const auto letters = admin().dead_letters(queue());
  EXPECT_THAT(payloads(letters), ElementsAre("c", "NULL", "a"));
  EXPECT_EQ(letters[0].queue, queue().name());
  EXPECT_EQ(letters[0].consumer, consumer_name());
  EXPECT_EQ(letters[0].reason, "why");
  EXPECT_EQ(letters[0].type, "t");
  EXPECT_EQ(letters[0].retry_count, std::nullopt);
  EXPECT_EQ(letters[1].payload, std::nullopt);
  EXPECT_GT(letters[0].time, letters[0].created_at);
  EXPECT_THAT(payloads(admin().dead_letters(queue(), 2)), ElementsAre("c", "NULL"));
  EXPECT_THROW(admin().dead_letters(queue(), 0), std::invalid_argument);
}

TEST_F(AdminTest, WalksThroughDeadLettersWhileWorkingOnThem) {
  bury({text("x")});
  // 250 more than fit into one page.
  sql()(
      "insert into pgque.dead_letter (dl_queue_id, dl_consumer_id, ev_id, ev_time, ev_data) "
      "select dl_queue_id, dl_consumer_id, 1000000 + i, now(), i from pgque.dead_letter, generate_series(1, 250) i "
      "where ev_data = 'x' and dl_queue_id = (select queue_id from pgque.queue where queue_name = " +
      sql().quote(queue().name()) + ")");
  std::vector<std::string> seen;
  admin().for_each_dead_letter(queue(), [&](const DeadLetter& letter) {
    seen.push_back(letter.payload.value());
    EXPECT_TRUE(admin().replay_dead_letter(letter.id).has_value());
    return true;
  });
  EXPECT_EQ(seen.size(), 251U);
  EXPECT_EQ(seen.front(), "250");
  EXPECT_EQ(seen.back(), "x");
  EXPECT_EQ(queue().dead_letters(), 0);

  bury({text("y"), text("z")});
  int calls = 0;
  admin().for_each_dead_letter(queue(), [&](const DeadLetter&) { return ++calls < 1; });
  EXPECT_EQ(calls, 1);
  // An exception of the visitor is passed on, and the cursor is closed nevertheless.
  EXPECT_THROW(admin().for_each_dead_letter(queue(), [](const DeadLetter&) -> bool { throw std::range_error{"x"}; }),
               std::range_error);
  admin().for_each_dead_letter(queue(), [&](const DeadLetter&) { return ++calls < 3; });
  EXPECT_EQ(calls, 3);
  EXPECT_THROW(admin().for_each_dead_letter(queue(), nullptr), std::invalid_argument);
}

TEST_F(AdminTest, ReplaysOneDeadLetterToEveryConsumer) {
  bury({text("a"), text("b")});
  const auto other = "other_" + consumer_name();
  client().subscribe(queue(), other);
  const auto letter = admin().dead_letters(queue()).at(1);
  const auto event = admin().replay_dead_letter(letter.id);
  ASSERT_TRUE(event.has_value());
  EXPECT_NE(*event, letter.event_id);
  EXPECT_EQ(admin().replay_dead_letter(letter.id), std::nullopt) << "it is gone";
  EXPECT_THAT(payloads(admin().dead_letters(queue())), ElementsAre("b"));
  queue().tick();
  for (const auto& name : {consumer_name(), other}) {
    const auto messages = client().receive(queue(), name);
    ASSERT_THAT(messages, SizeIs(1)) << name;
    EXPECT_EQ(messages[0].msg_id, *event);
    EXPECT_EQ(messages[0].payload, "a");
    EXPECT_EQ(messages[0].retry_count, std::nullopt);
  }
}

TEST_F(AdminTest, ReplaysOrPurgesADeadLetterOnceWhenAskedThriceAtTheSameTime) {
  bury({text("a")});
  const auto id = admin().dead_letters(queue()).at(0).id;
  Sql blocker;
  std::optional<pqxx::work> holding{std::in_place, blocker.connection()};
  // All have begun when the row becomes free.
  holding->exec("select from pgque.dead_letter where dl_id = " + to_string(id) + " for update");
  std::atomic<std::int64_t> gone{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      Admin own{dsn_with({{"application_name", "pgque_replay_test"}}), client_options()};
      if (i == 2) {
        gone += own.purge_dead_letters(queue(), 0s);
      } else if (own.replay_dead_letter(id)) {
        ++gone;
      }
    });
  }
  EXPECT_TRUE(wait_until([&] {
    return sql().number(
               "select count(*) from pg_stat_activity where application_name = 'pgque_replay_test' and "
               "wait_event_type = 'Lock'") == 3;
  }));
  holding.reset();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(gone, 1);
}

TEST_F(AdminTest, ReplaysAllDeadLetters) {
  bury({text("a"), text("b"), text("c")});
  auto replay = admin().replay_dead_letters(queue());
  EXPECT_EQ(replay.replayed, 3);
  EXPECT_EQ(replay.failed, 0);
  EXPECT_EQ(replay.first_error, std::nullopt);
  EXPECT_EQ(queue().dead_letters(), 0);
  queue().tick();
  const auto again = client().receive(queue(), consumer_name());
  EXPECT_THAT(payloads_of(again), ElementsAre("a", "b", "c"));
  client().ack(again.at(0).batch_id);

  bury({text("d")});
  sql()("update pgque.queue set queue_disable_insert = true where queue_name = " + sql().quote(queue().name()));
  replay = admin().replay_dead_letters(queue());
  EXPECT_EQ(replay.replayed, 0);
  EXPECT_EQ(replay.failed, 1);
  EXPECT_THAT(replay.first_error.value(), HasSubstr("Insert into queue disallowed"));
  EXPECT_EQ(queue().dead_letters(), 1);
  EXPECT_EQ(thrown<Error>([&] { admin().replay_dead_letter(admin().dead_letters(queue()).at(0).id); }).server_message(),
            "Insert into queue disallowed");
}

TEST_F(AdminTest, PurgesDeadLettersByAge) {
  bury({text("old"), text("young")});
  sql()(
      "update pgque.dead_letter set dl_time = dl_time - interval '2 days' where ev_data = 'old' and dl_queue_id = "
      "(select queue_id from pgque.queue where queue_name = " +
      sql().quote(queue().name()) + ")");
  EXPECT_EQ(admin().purge_dead_letters(queue(), 72h), 0);
  EXPECT_EQ(admin().purge_dead_letters(queue(), 24h), 1);
  EXPECT_THAT(payloads(admin().dead_letters(queue())), ElementsAre("young"));
  EXPECT_EQ(admin().purge_dead_letters(queue(), 0s), 1);
  EXPECT_THROW(admin().purge_dead_letters(queue(), -1s), std::invalid_argument);
}

TEST_F(AdminTest, CountsDeadLetters) {
  bury({text("a"), text("b")});
  const auto counts = admin().count_dead_letters();
  const auto mine =
      std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.queue == queue().name(); });
  ASSERT_NE(mine, counts.end());
  EXPECT_EQ(mine->consumer, consumer_name());
  EXPECT_EQ(mine->count, 2);
  EXPECT_LT(mine->oldest, mine->newest);
}

TEST_F(AdminTest, BringsAllRetriesBack) {
  client().subscribe(queue(), consumer_name());
  std::vector<Payload> payloads(25, Payload{"1"});
  client().send_batch(queue(), "t", payloads);
  queue().tick();
  const auto messages = client().receive(queue(), consumer_name());
  for (const auto& message : messages) client().nack(message, {0s, std::nullopt});
  client().ack(messages.at(0).batch_id);
  EXPECT_GE(admin().bring_retries_back(), 25);
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_EQ(admin().bring_retries_back(), 0);
}

TEST_F(AdminTest, Maintains) {
  admin().maintain();
  admin().finish_rotation();
  const auto lines = admin().status();
  std::vector<std::string> components;
  for (const auto& line : lines) components.push_back(line.component);
  EXPECT_THAT(components, testing::IsSupersetOf({"postgresql", "pgque", "ticker", "queues"}));
  EXPECT_THAT(admin().server_version(), testing::StartsWith("0."));
  const auto period = admin().tick_period();
  admin().set_tick_period(250ms);
  EXPECT_EQ(admin().tick_period(), 250ms);
  admin().set_tick_period(period);
  for (const auto wrong : {0ms, 3ms, 2000ms}) EXPECT_THROW(admin().set_tick_period(wrong), std::invalid_argument);
}

struct AdminVerb {
  std::string name;
  std::string role;
  std::function<void(Admin&, const std::string& queue)> call;
};

std::vector<AdminVerb> admin_verbs() {
  return {
      {"create_queue", "pgque_admin", [](Admin& a, const std::string& q) { a.create_queue(q); }},
      {"drop_queue", "pgque_admin", [](Admin& a, const std::string& q) { a.drop_queue(q, true); }},
      {"configure_queue", "pgque_admin",
       [](Admin& a, const std::string& q) {
         QueueSettings settings;
         settings.max_retries = 5;
         a.configure_queue(q, settings);
       }},
      {"subscribe_at", "pgque_reader", [](Admin& a, const std::string& q) { a.subscribe_at(q, "c_" + q, TickId{1}); }},
      {"subscribe_at a time", "pgque_reader",
       [](Admin& a, const std::string& q) { a.subscribe_at(q, "c_" + q, Timestamp{}); }},
      {"queues", "pgque_reader", [](Admin& a, const std::string&) { a.queues(); }},
      {"consumers", "pgque_reader", [](Admin& a, const std::string&) { a.consumers(); }},
      {"batch", "pgque_reader", [](Admin& a, const std::string&) { a.batch(BatchId{1}); }},
      {"server_version", "pgque_reader", [](Admin& a, const std::string&) { a.server_version(); }},
      {"status", "pgque_admin", [](Admin& a, const std::string&) { a.status(); }},
      {"dead_letters", "pgque_reader", [](Admin& a, const std::string& q) { a.dead_letters(q); }},
      {"for_each_dead_letter", "pgque_reader",
       [](Admin& a, const std::string& q) { a.for_each_dead_letter(q, [](const DeadLetter&) { return true; }); }},
      {"count_dead_letters", "pgque_reader", [](Admin& a, const std::string&) { a.count_dead_letters(); }},
      {"replay_dead_letter", "pgque_writer",
       [](Admin& a, const std::string&) { a.replay_dead_letter(DeadLetterId{0}); }},
      {"replay_dead_letters", "pgque_writer", [](Admin& a, const std::string& q) { a.replay_dead_letters(q); }},
      {"purge_dead_letters", "pgque_admin", [](Admin& a, const std::string& q) { a.purge_dead_letters(q, 1h); }},
      {"bring_retries_back", "pgque_admin", [](Admin& a, const std::string&) { a.bring_retries_back(); }},
      {"maintain", "pgque_admin", [](Admin& a, const std::string&) { a.maintain(); }},
      {"finish_rotation", "pgque_admin", [](Admin& a, const std::string&) { a.finish_rotation(); }},
      {"set_tick_period", "pgque_admin", [](Admin& a, const std::string&) { a.set_tick_period(100ms); }},
      {"tick_period", "pgque_reader", [](Admin& a, const std::string&) { a.tick_period(); }}};
}

TEST_F(AdminTest, NeedsTheGrantThatItNames) {
  const std::vector<std::string> all{"pgque_reader", "pgque_writer", "pgque_admin"};
  for (const auto& verb : admin_verbs()) {
    for (const auto& granted : all) {
      if (granted == verb.role || granted == "pgque_admin") continue;
      SCOPED_TRACE(verb.name + " as " + granted);
      Admin other{dsn_of_role_with({granted}), client_options()};
      const auto error = thrown<Error>([&] { verb.call(other, queue()); });
      EXPECT_EQ(error.sqlstate(), "42501");
      EXPECT_THAT(error.what(), HasSubstr("grant the role " + verb.role + " to the connecting user"));
    }
  }
}

TEST_F(AdminTest, NeedsNoMoreThanTheGrantThatItNames) {
  for (const auto& verb : admin_verbs()) {
    if (verb.name == "drop_queue") continue;
    SCOPED_TRACE(verb.name);
    Admin granted{dsn_of_role_with({verb.role}), client_options()};
    EXPECT_NO_THROW(verb.call(granted, queue()));
  }
}

TEST_F(AdminTest, IsClosedAndMoved) {
  Admin first{dsn(), client_options()};
  Admin second{std::move(first)};
  EXPECT_FALSE(first.is_open());  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(first.queues(), std::logic_error);
  EXPECT_TRUE(second.is_open());
  second.close();
  EXPECT_FALSE(second.is_open());
  EXPECT_THROW(second.queues(), std::logic_error);
  EXPECT_THROW(second.drop_queue("q"), std::logic_error);
}

}  // namespace
}  // namespace pgque::test
