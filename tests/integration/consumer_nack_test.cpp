// The nacks of a batch: what they leave behind, how long their statements take, and what a stop does to them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"
#include "row_trigger.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

class ConsumerNackTest : public ConsumerTest {
 protected:
  // The rows that the nacks of a consumer have left behind, as far as they do not differ between any two nacks.
  std::vector<std::string> left_behind(const std::string& consumer) {
    const auto name = sql().quote(consumer);
    std::vector<std::string> rows;
    for (const auto& row :
         sql()("select r::text from (select 'retry', ev_id, ev_time, ev_txid, ev_owner = sub_id, ev_retry, ev_type, "
               "ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4, ev_queue, round(extract(epoch from "
               "ev_retry_after - clock_timestamp()) / 1000) from pgque.retry_queue join pgque.subscription "
               "on ev_owner = sub_id and sub_role <> 'coop_member' join pgque.consumer on co_id = sub_consumer "
               "where co_name = " +
               name +
               " union all select dl_reason, ev_id, ev_time, ev_txid, true, ev_retry, ev_type, ev_data, ev_extra1, "
               "ev_extra2, ev_extra3, ev_extra4, dl_queue_id, 0 from pgque.dead_letter join pgque.consumer "
               "on co_id = dl_consumer_id where co_name = " +
               name + ") r order by 1")) {
      rows.emplace_back(row[0].c_str());
    }
    return rows;
  }
};

// The consumer calls event_retry where nack would call it, which spares a reading of the batch for each message. This
// shows that it leaves the same behind, for each number of retries from none to the last, with any max_retries, for
// both kinds of consumer.
TEST_F(ConsumerNackTest, LeavesTheSameBehindAsNackInEachCase) {
  for (const auto* const most : {"5", "1", "0"}) {
    for (const bool cooperative : {false, true}) {
      TestQueue own{sql(), "nacks"};
      if (std::string{most} != "5") own.config("max_retries", most);  // 5 is PgQue's default
      const auto ours = unique_name("ours");
      const auto theirs = unique_name("theirs");
      const auto receive = [&](const std::string& name) {
        return cooperative ? client().receive_coop(own, name, "w") : client().receive(own, name);
      };
      for (const auto& name : {ours, theirs}) {
        if (cooperative) {
          client().subscribe_subconsumer(own, name, "w");
        } else {
          client().subscribe(own, name);
        }
      }
      sql()("select pgque.insert_event(" + sql().quote(own.name()) + ", 't', 'text', 'one', 'two', null, '')");
      client().send(own, text("second"), "u");
      own.tick();
      const int deliveries = std::stoi(most) + 1;
      for (int delivery = 1; delivery <= deliveries; ++delivery) {
        auto with = options();
        with.queue = own;
        with.name = ours;
        if (cooperative) with.subconsumer = "w";
        with.until_drained = true;
        Consumer consumer{dsn(), with};
        consumer.on("*", [](const Message&) { throw RetryAfter{7000s, "the reason"}; });
        consumer.start();
        ASSERT_EQ(consumer.stats().retries, 2U) << "delivery " << delivery;
        const auto messages = receive(theirs);
        ASSERT_THAT(messages, SizeIs(2));
        for (const auto& message : messages) client().nack(message, {7000s, "the reason"});
        ASSERT_TRUE(client().ack(messages[0].batch_id));
        EXPECT_THAT(left_behind(ours), SizeIs(2));
        EXPECT_EQ(left_behind(ours), left_behind(theirs)) << "max_retries " << most << ", delivery " << delivery;
        if (delivery < deliveries) own.expire_retries();
      }
      EXPECT_EQ(own.dead_letters(), 4);
    }
  }
}

class NackLimitTest : public ConsumerNackTest, public testing::WithParamInterface<TransactionMode> {};

INSTANTIATE_TEST_SUITE_P(ConsumerNackTest, NackLimitTest,
                         testing::Values(TransactionMode::per_batch, TransactionMode::split), [](const auto& instance) {
                           return instance.param == TransactionMode::split ? "Split" : "PerBatch";
                         });

// Together the nacks take longer than the limit, and so does the ack.
TEST_P(NackLimitTest, ARolesStatementTimeoutEndsNeitherNacksNorAck) {
  const auto limited = dsn_of_role_set({{"statement_timeout", "'1s'"}});
  publish_numbers(15);
  const SlowStatements nacks{"insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), 100ms};
  const SlowStatements acks{"update", "pgque.subscription", end_of_batch(), 1500ms};
  Consumer consumer{limited, options(GetParam())};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().failures, 15U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(consumer.stats().last_error, "handler error: no");
  EXPECT_EQ(queue().retries(), 15);
}

// The limit of the option holds for each statement, so nacks are made in statements that are far shorter.
TEST_P(NackLimitTest, ManyNacksStayWithinTheOptionsStatementTimeout) {
  publish_numbers(60);
  const SlowStatements nacks{"insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), 50ms};
  auto limited = options(GetParam());
  limited.statement_timeout = 2s;
  Consumer consumer{dsn(), limited};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().failures, 60U);
  EXPECT_EQ(consumer.stats().last_error, "handler error: no");
  EXPECT_EQ(queue().retries(), 60);
}

TEST_F(ConsumerNackTest, HandlersStatementsKeepTheRolesStatementTimeout) {
  queue().config("max_retries", "0");
  const auto limited = dsn_of_role_set({{"statement_timeout", "'700ms'"}});
  publish_numbers(2);
  std::vector<std::string> limits;
  // The nack of the first page takes longer than a handler may.
  const SlowStatements nacks{"insert", "pgque.dead_letter", "new.dl_queue_id = " + queue_id(), 1000ms};
  for (const bool paged : {false, true}) {
    auto with = options(TransactionMode::per_batch);
    if (paged) with.max_messages = 1;
    Consumer consumer{limited, with};
    consumer.on("t", [&](const Message& message, Context& context) {
      limits.emplace_back(context.transaction().exec("show statement_timeout")[0][0].c_str());
      if (message.payload == "0") context.transaction().exec("select pg_sleep(60)");
    });
    finish_batches(consumer);
    EXPECT_THAT(consumer.stats().last_error, StartsWith("handler error: "));
    EXPECT_EQ(consumer.stats().failures, 1U);
    EXPECT_EQ(consumer.stats().messages, 1U);
    publish_numbers(2);
  }
  EXPECT_THAT(limits, ElementsAre("700ms", "700ms", "700ms", "700ms"));
  const auto reasons = queue().dead_letter_reasons();
  ASSERT_THAT(reasons, SizeIs(2));
  for (const auto& reason : reasons) EXPECT_THAT(*reason, HasSubstr("statement timeout"));
}

// A chunk of more than a message always exceeds this limit.
TEST_P(NackLimitTest, NacksThatTakeMostOfTheOptionsStatementTimeoutAreMadeOneByOne) {
  publish_numbers(3);
  const SlowStatements nacks{"insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), 1200ms};
  auto limited = options(GetParam());
  limited.statement_timeout = 2s;
  Consumer consumer{dsn(), limited};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
  finish_batches(consumer);
  EXPECT_EQ(queue().retries(), 3);
}

// What a handler sets for its own statements.
TEST_F(ConsumerNackTest, AHandlersLimitAppliesNeitherToNacksNorToTheAck) {
  publish_numbers(3);
  const SlowStatements nacks{"insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), 2s};
  const SlowStatements acks{"update", "pgque.subscription", end_of_batch(), 2s};
  Consumer consumer{dsn(), options(TransactionMode::per_batch)};
  consumer.on("t", [](const Message& message, Context& context) {
    if (message.payload == "1") throw std::runtime_error{"no"};
    context.transaction().exec("set local statement_timeout = '1500ms'");
  });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().last_error, "handler error: no");
  EXPECT_EQ(consumer.stats().failures, 1U);
  EXPECT_EQ(queue().retries(), 1);
}

TEST_F(ConsumerNackTest, AHandlersLimitDoesNotApplyToTheNextHandler) {
  publish_numbers(2);
  for (const auto& test_dsn : {dsn(), dsn_of_role_set({{"statement_timeout", "'1h'"}})}) {
    Consumer consumer{test_dsn, options(TransactionMode::per_batch)};
    consumer.on("t", [](const Message& message, Context& context) {
      context.transaction().exec(message.payload == "0" ? "set local statement_timeout = '2s'" : "select pg_sleep(3)");
    });
    finish_batches(consumer);
    EXPECT_EQ(consumer.stats().messages, 2U);
    publish_numbers(2);
  }
}

// Between its nacks the batch goes to another worker.
TEST_F(ConsumerNackTest, OfABatchThatIsTakenOverMeanwhileAreUndone) {
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish_numbers(10);
  const auto lock = "pg_advisory_xact_lock(" + queue_id() + ", 15)";
  Sql other;
  std::optional<pqxx::work> holding{std::in_place, other.connection()};
  holding->exec("select " + lock);
  const RowTrigger waiting{"insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), "perform " + lock + ";"};
  Consumer consumer{watched_dsn(), worker("w1")};
  consumer.on("t", [](const Message&) { throw std::runtime_error{"no"}; });
  const Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  const auto stolen = client().receive_coop(queue(), group_name(), "thief", {std::nullopt, 1ms});
  ASSERT_THAT(stolen, SizeIs(10));
  holding.reset();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().takeovers == 1; }));
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(log.count(LogEvent::nack_failed), 0U);
  EXPECT_EQ(queue().retries(), 0);
  EXPECT_TRUE(client().ack(stolen[0].batch_id));
}

// Another process has the same batch. It nacks and finishes it while this one's nack waits for it.
TEST_F(ConsumerNackTest, OfABatchThatAnotherProcessNacksAndFinishesMeanwhileFindItFinished) {
  const auto id = publish("1");
  Gate gate;
  Consumer consumer{watched_dsn(), options(TransactionMode::split)};
  consumer.on("t", [&](const Message&) {
    gate.pass();
    throw std::runtime_error{"no"};
  });
  const Running running{consumer};
  ASSERT_TRUE(gate.wait_arrived());
  const auto batch = sql().number("select sub_batch from pgque.subscription where sub_queue = " + queue_id());
  Sql other;
  pqxx::work finishing{other.connection()};
  finishing.exec("select pgque.event_retry(" + std::to_string(batch) + ", " + to_string(id) + ", 3600)");
  finishing.exec("select pgque.ack(" + std::to_string(batch) + ")");
  gate.open();
  ASSERT_TRUE(wait_until([&] { return session_waits_for_lock(); }));
  finishing.commit();
  ASSERT_TRUE(wait_until([&] { return consumer.stats().stale_acks == 1; }));
  EXPECT_EQ(log.count(LogEvent::nack_failed), 0U);
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(queue().retries(), 1);
}

class StoppedNacksTest : public ConsumerNackTest {
 protected:
  static constexpr int count = 100;
  // All nacks take 2 s, of which a stop leaves them less than one.
  ConsumerOptions hasty() {
    auto with = options(TransactionMode::split);
    with.drain_timeout = 300ms;
    return with;
  }
  // Stops the consumer before it nacks; returns how many nacks it makes.
  std::int64_t stop_while_nacking() {
    const SlowStatements nacks{"insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), 20ms};
    Consumer consumer{dsn(), hasty()};
    consumer.on("t", [&](const Message& message) {
      if (message.payload == std::to_string(count - 1)) consumer.stop();
      throw std::runtime_error{"no"};
    });
    consumer.start();
    EXPECT_EQ(consumer.stats().batches, 0U);
    EXPECT_EQ(consumer.stats().abandoned, 1U);
    EXPECT_EQ(consumer.stats().reconnects, 0U);
    EXPECT_EQ(log.count(LogEvent::connection_lost), 0U);
    return queue().retries();
  }
};

TEST_F(StoppedNacksTest, ThatWereMadeStayMadeAndAreNotRepeated) {
  const auto ids = publish_numbers(count);
  const auto made = stop_while_nacking();
  EXPECT_GT(made, 0);
  EXPECT_LT(made, count);
  const auto abandoned = log.lines(LogEvent::batch_abandoned);
  ASSERT_THAT(abandoned, SizeIs(1));
  EXPECT_THAT(abandoned[0].message, HasSubstr(std::to_string(made) + " of its 100 failed messages are nacked"));

  // The batch comes again, without the messages whose fate is decided.
  Seen seen;
  Consumer consumer{dsn(), options(TransactionMode::split)};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    throw std::runtime_error{"no"};
  });
  finish_batches(consumer);
  EXPECT_EQ(seen.ids(), std::vector(ids.begin() + made, ids.end()));
  EXPECT_EQ(queue().retries(), count);
  // No message is in the retry queue twice, and none has lost a retry.
  EXPECT_EQ(sql().number("select count(*) from pgque.retry_queue where ev_retry = 1 and ev_queue = " + queue_id()),
            count);
  queue().expire_retries();
  EXPECT_THAT(client().receive(queue(), consumer_name()), SizeIs(count));
}

// They are part of the transaction in which handlers have written.
TEST_F(StoppedNacksTest, BesideDeferredWritesAreUndoneWithThem) {
  publish_numbers(count);
  TestQueue audit{sql()};
  client().subscribe(audit, "reader");
  {
    const SlowStatements nacks{"insert", "pgque.retry_queue", "new.ev_queue = " + queue_id(), 20ms};
    Consumer consumer{dsn(), hasty()};
    consumer.on("t", [&](const Message& message, Context& context) {
      if (message.payload == std::to_string(count - 1)) consumer.stop();
      if (message.payload != "0") throw std::runtime_error{"no"};
      context.on_ack([&](pqxx::transaction_base& transaction) { Transaction{transaction}.send(audit, "1", "t"); });
    });
    consumer.start();
    EXPECT_EQ(consumer.stats().abandoned, 1U);
  }
  EXPECT_EQ(queue().retries(), 0);
  audit.tick();
  EXPECT_THAT(client().receive(audit, "reader"), IsEmpty());
}

TEST_F(StoppedNacksTest, OfABatchThatIsNackedAsAWholeLeadToItsAck) {
  const auto ids = publish_numbers(3);
  const auto batch = client().receive(queue(), consumer_name());
  ASSERT_THAT(batch, SizeIs(3));
  for (const auto& message : batch) client().nack(message, {1h});
  for (const auto mode : {TransactionMode::split, TransactionMode::per_batch}) {
    Seen seen;
    auto with = options(mode);
    with.until_drained = true;
    if (mode == TransactionMode::per_batch) with.max_messages = 1;
    Consumer consumer{dsn(), with};
    consumer.on("t", seen.handler());
    consumer.start();
    // The second one finds nothing any more.
    EXPECT_THAT(seen.payloads(), IsEmpty());
    EXPECT_EQ(consumer.stats().batches, mode == TransactionMode::split ? 1U : 0U);
  }
  EXPECT_EQ(queue().retries(), 3);
}

TEST_F(StoppedNacksTest, MadeForDeadLettersAreNotRepeatedEither) {
  queue().config("max_retries", "0");
  publish_numbers(3);
  const auto batch = client().receive(queue(), consumer_name());
  ASSERT_THAT(batch, SizeIs(3));
  client().nack(batch[1], {1h, "dead"});
  Seen seen;
  auto paged = options(TransactionMode::per_batch);
  paged.max_messages = 1;
  Consumer consumer{dsn(), paged};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("0", "2"));
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("dead"));
}

// PgQue stores no retry of a message that is in a batch twice, but says that it has done so.
TEST_F(ConsumerNackTest, OfAMessageThatTheBatchHasTwiceNeverLeadToItsLoss) {
  const auto id = publish("1");
  const auto first = client().receive(queue(), consumer_name());
  ASSERT_THAT(first, SizeIs(1));
  for (int i = 0; i < 2; ++i) {
    client().nack(first[0], {0s});
    while (sql().number("select pgque.maint_retry_events()") != 0) {
    }
  }
  ASSERT_TRUE(client().ack(first[0].batch_id));
  queue().tick();
  std::atomic<bool> fails{true};
  Seen seen;
  auto quick = options(TransactionMode::split);
  quick.reconnect = {1ms, 10ms};
  Consumer consumer{dsn(), quick};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (fails) throw std::runtime_error{"no"};
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().abandoned >= 2; }));
  EXPECT_EQ(consumer.stats().batches, 0U);
  EXPECT_THAT(log.lines(LogEvent::nack_failed).at(0).message, HasSubstr("has it twice"));
  fails = false;
  EXPECT_TRUE(wait_batches(consumer, 1));
  EXPECT_EQ(seen.ids().back(), id);
}

// A role's limit of 3 s is far less than what all the nacks take.
TEST_F(ConsumerTest, FourThousandFailingMessagesEndAsDeadLettersWhateverTheRolesStatementTimeout) {
  constexpr int many = 4000;
  queue().config("max_retries", "1");
  const auto limited = dsn_of_role_set({{"statement_timeout", "'3s'"}});
  publish_numbers(many);
  auto quiet = options(TransactionMode::split);
  quiet.log = [](const LogRecord&) {};
  Consumer consumer{limited, quiet};
  consumer.on("t", [](const Message& message) { throw std::runtime_error{"no " + *message.payload}; });
  {
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }, 600s));
  }
  EXPECT_EQ(queue().retries(), many);
  queue().expire_retries();
  {
    Running running{consumer};
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches >= 2 && queue().dead_letters() == many; }, 600s));
  }
  EXPECT_EQ(consumer.stats().failures, 2U * many);  // two calls for each message
  EXPECT_EQ(consumer.stats().abandoned, 0U);
  EXPECT_EQ(consumer.stats().last_error, "");
  EXPECT_EQ(queue().retries(), 0);
}

}  // namespace
}  // namespace pgque::test
