// max_messages: batches that are read page by page and acknowledged once.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::IsEmpty;

class ConsumerPagingTest : public ConsumerTest, public testing::WithParamInterface<TransactionMode> {
 protected:
  ConsumerOptions paged(std::int32_t max_messages) {
    auto out = options(GetParam());
    out.max_messages = max_messages;
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Modes, ConsumerPagingTest, testing::Values(TransactionMode::per_batch, TransactionMode::split),
                         [](const auto& instance) {
                           return instance.param == TransactionMode::split ? "Split" : "PerBatch";
                         });

TEST_P(ConsumerPagingTest, ALargeBatchIsHandledInOrderWithOneAck) {
  publish_numbers(2500);
  Seen seen;
  std::vector<std::string> statements;
  Consumer consumer{watched_dsn(), paged(100)};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (seen.size() == 150 || seen.size() == 2450) {
      statements.push_back(Sql{}.value("select query" + watched()).value_or("none"));
    }
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }));
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(2500)));
  // The server is asked for no more than a page.
  EXPECT_THAT(statements, testing::SizeIs(2));
  EXPECT_THAT(statements, testing::Each(HasSubstr("fetch forward 100 ")));
  EXPECT_EQ(consumer.stats().messages, 2500U);
  EXPECT_EQ(log.count(LogEvent::batch_received), 1U);
  EXPECT_EQ(log.count(LogEvent::batch_acked), 1U);
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  running.stop_and_join();
  EXPECT_THAT(client().receive(queue(), consumer_name()), IsEmpty());
}

TEST_P(ConsumerPagingTest, FailuresOnSeveralPagesAreNacked) {
  queue().config("max_retries", "0");
  publish_numbers(250);
  Consumer consumer{dsn(), paged(20)};
  consumer.on("t", [](const Message& message) {
    if (std::stoi(*message.payload) % 50 == 49) throw std::runtime_error{*message.payload};
  });
  finish_batches(consumer);
  EXPECT_THAT(queue().dead_letter_reasons(), ElementsAre("handler error: 49", "handler error: 99", "handler error: 149",
                                                         "handler error: 199", "handler error: 249"));
  EXPECT_EQ(consumer.stats().messages, 245U);
  EXPECT_EQ(consumer.stats().failures, 5U);
  EXPECT_EQ(consumer.stats().retries, 5U);
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_P(ConsumerPagingTest, BatchesOfAnySizeAreAckedOnceEach) {
  Seen seen;
  Consumer consumer{dsn(), paged(3)};
  consumer.on("t", seen.handler());
  Running running{consumer};
  std::uint64_t batches = 0;
  std::size_t messages = 0;
  for (const int size : {1, 2, 3, 4, 6, 7, 1, 2, 8, 3, 3, 4}) {  // a small one after a large one, too
    publish_numbers(size);
    ++batches;
    messages += static_cast<std::size_t>(size);
    ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == batches; })) << size;
    EXPECT_EQ(seen.size(), messages) << size;
  }
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_EQ(consumer.stats().batches, batches);
  EXPECT_EQ(queue().retries(), 0);
}

TEST_P(ConsumerPagingTest, ABatchWhoseSessionIsKilledBetweenPagesComesAgainFromItsBeginning) {
  publish_numbers(6);
  Seen seen;
  bool killed = false;
  Consumer consumer{watched_dsn(), paged(2)};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (seen.size() == 4 && !std::exchange(killed, true)) Sql{}("select pg_terminate_backend(pid)" + watched());
  });
  finish_batches(consumer);
  EXPECT_THAT(seen.payloads(), ElementsAre("0", "1", "2", "3", "0", "1", "2", "3", "4", "5"));
  EXPECT_EQ(consumer.stats().abandoned, 1U);
  EXPECT_EQ(consumer.stats().batches, 1U);
}

TEST_P(ConsumerPagingTest, StopBetweenPagesFinishesTheWholeBatch) {
  publish_numbers(10);
  Seen seen;
  Consumer consumer{dsn(), paged(3)};
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (seen.size() == 3) consumer.stop();
  });
  Running running{consumer};
  ASSERT_TRUE(running.wait_ended());
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(10)));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_THAT(client().receive(queue(), consumer_name()), IsEmpty());
}

TEST_P(ConsumerPagingTest, UnknownTypesOnLaterPagesAreNacked) {
  for (const char* type : {"t", "t", "unknown", "t", "unknown"}) client().send(queue(), "1", type);
  queue().tick();
  Seen seen;
  Consumer consumer{dsn(), paged(2)};
  consumer.on("t", seen.handler());
  finish_batches(consumer);
  EXPECT_EQ(seen.size(), 3U);
  EXPECT_EQ(queue().retries(), 2);
}

// The first batch of a connection is looked at for nacks, so these look at the second.
TEST_P(ConsumerPagingTest, ALargeBatchIsReadInPagesByDefault) {
  constexpr int messages = 10'500;
  publish("0");
  sql()("select pgque.send_batch(" + sql().quote(queue().name()) +
        ", 't', array_agg(i::text)) from generate_series(1, " + std::to_string(messages) + ") i");
  queue().tick();
  int handled = 0;
  int in_order = 0;
  std::string statement;
  Consumer consumer{watched_dsn(), options(GetParam())};
  consumer.on("t", [&](const Message& message) {
    if (*message.payload == std::to_string(handled++)) ++in_order;
    if (handled == 2) statement = Sql{}.value("select query" + watched()).value_or("none");
  });
  finish_batches(consumer, 2);
  EXPECT_EQ(in_order, messages + 1);
  EXPECT_EQ(consumer.stats().messages, 10'501U);
  EXPECT_EQ(consumer.stats().batches, 2U);
  // In split mode a commit follows.
  EXPECT_THAT(statement, HasSubstr(GetParam() == TransactionMode::per_batch ? "fetch forward 10000 " : "COMMIT"));
}

// What is sent early and committed late, and retries, do not count in the numbers of its ticks.
TEST_P(ConsumerPagingTest, ABatchThatIsLargerThanItsTicksTellIsReadInPages) {
  publish("0");
  Sql early;
  early("begin");
  early("select pgque.send_batch(" + sql().quote(queue().name()) +
        ", 't', array_agg(i::text)) from generate_series(1, 9) i");
  queue().tick();
  early("commit");
  publish("10");
  Seen seen;
  auto with = options(GetParam());
  with.max_messages = 3;
  Consumer consumer{watched_dsn(), with};
  std::string statement;
  consumer.on("t", [&](const Message& message) {
    seen(message);
    if (message.payload == "1") statement = Sql{}.value("select query" + watched()).value_or("none");
  });
  Running running{consumer};
  ASSERT_TRUE(wait_until([&] { return seen.size() == 11; }));
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(11)));
  EXPECT_THAT(statement, HasSubstr(GetParam() == TransactionMode::per_batch ? "fetch forward 3 " : "COMMIT"));
}

TEST_P(ConsumerPagingTest, ABatchOfNoMoreThanAPageIsReadByOneStatement) {
  for (const auto max_messages : {std::optional{10'000}, std::optional{3}, std::optional<std::int32_t>{}}) {
    auto with = options(GetParam());
    with.max_messages = max_messages;
    // A forced tick would skip numbers of events.
    queue().config("ticker_max_count", "1");
    client().send(queue(), "0", "t");
    ASSERT_TRUE(client().ticker(queue()));
    client().send_batch(queue(), "t", {"1", "2", "3"});
    ASSERT_TRUE(client().ticker(queue()));
    std::string statement;
    Consumer consumer{watched_dsn(), with};
    consumer.on("t", [&](const Message&) {
      if (consumer.stats().batches == 1 && statement.empty()) {
        statement = Sql{}.value("select query" + watched()).value_or("none");
      }
    });
    finish_batches(consumer, 2);
    EXPECT_THAT(statement, HasSubstr(" from pgque.receive("));
    EXPECT_THAT(statement, testing::Not(HasSubstr("cursor")));
    EXPECT_EQ(consumer.stats().messages, 4U);
  }
}

TEST_F(ConsumerTest, WritesOnSeveralPagesCommitTogether) {
  const auto table = unique_name("pgque_test_pages");
  sql()("create table " + table + " (value int)");
  publish_numbers(5);
  auto paged = options();
  paged.max_messages = 2;
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.transaction().exec("insert into " + table + " values (" + *message.payload + ")");
    // Rolling back to the savepoint leaves the cursor as it is.
    if (message.payload == "1" || message.payload == "2") throw std::runtime_error{"no"};
  });
  finish_batches(consumer);
  EXPECT_EQ(sql().value("select string_agg(value::text, ' ' order by value) from " + table), "0 3 4");
  EXPECT_EQ(queue().retries(), 2);
  sql()("drop table " + table);
}

TEST_F(ConsumerTest, FailuresAreNackedPageByPageInTheOpenTransaction) {
  publish_numbers(6);
  auto paged = options();
  paged.max_messages = 2;
  std::vector<std::string> nacked;  // so far, as each handler sees it
  Consumer consumer{dsn(), paged};
  consumer.on("t", [&](const Message&, Context& context) {
    const auto rows = context.transaction().exec(
        "select count(*) from pgque.retry_queue join pgque.queue on queue_id = ev_queue where queue_name = " +
        context.transaction().quote(queue().name()));
    nacked.emplace_back(rows[0][0].c_str());
    EXPECT_EQ(queue().retries(), 0);  // for all others
    throw std::runtime_error{"no"};
  });
  finish_batches(consumer);
  EXPECT_THAT(nacked, ElementsAre("0", "0", "2", "2", "4", "4"));
  EXPECT_EQ(queue().retries(), 6);
  EXPECT_EQ(consumer.stats().retries, 6U);
}

TEST(ConsumerOptionsTest, APageOfNothingIsRefusedAtOnce) {
  ConsumerOptions options;
  options.queue = "q";
  options.name = "c";
  options.max_messages = 0;
  EXPECT_THROW(Consumer("host=localhost", options), std::invalid_argument);
}

}  // namespace
}  // namespace pgque::test
