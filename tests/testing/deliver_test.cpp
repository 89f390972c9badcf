// Deliveries to handlers under test.

#include <algorithm>
#include <atomic>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <pqxx/pqxx>

#include "kit_fixture.hpp"

namespace kit {
namespace {

using namespace std::chrono_literals;
using pgque::ConsumerOptions;
using pgque::Context;
using pgque::Message;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

class DeliverTest : public KitTest {};

auto failing(const std::string& what) {
  return [what](pgque::Consumer& c) { c.on("*", [what](const Message&) { throw std::runtime_error{what}; }); };
}
auto handling() {
  return [](pgque::Consumer& c) { c.on("*", [](const Message&) {}); };
}

TEST_F(DeliverTest, HandlesWhatWasSentOnce) {
  Queue queue{dsn()};
  const auto first = queue.send(json{{"order_id", 42}}, "order.created");
  pgque::Event event{json{{"order_id", 43}}, "order.paid"};
  event.key = "customer";
  const auto second = queue.send(event);
  std::vector<Message> seen;
  const auto handlers = [&](pgque::Consumer& c) {
    c.on("order.*", [&](const Message& message) { seen.push_back(message); });
  };
  const auto run = queue.deliver({}, handlers);
  EXPECT_EQ(run.handled, 2) << run;
  EXPECT_EQ(run.failed, 0);
  EXPECT_EQ(run.batches, 1);
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0].msg_id, first);
  EXPECT_EQ(pgque::payload_as<json>(seen[0]), (json{{"order_id", 42}}));
  EXPECT_EQ(seen[1].msg_id, second);
  EXPECT_EQ(seen[1].extra1, "customer");
  EXPECT_EQ(queue.deliver({}, handlers).handled, 0);
}

TEST_F(DeliverTest, CountsFailuresAndUnknownTypes) {
  Queue queue{dsn()};
  queue.send("1", "fails");
  queue.send("2", "fails");
  queue.send("3", "misspelt");
  queue.send("4", "works");
  const auto run = queue.deliver({}, [](pgque::Consumer& c) {
    c.on("fails", [](const Message&) { throw std::runtime_error{"the printer is down"}; });
    c.on("works", [](const Message&) {});
  });
  EXPECT_EQ(run.handled, 1);
  EXPECT_EQ(run.failed, 2);
  EXPECT_EQ(run.unknown, 1);
  EXPECT_EQ(run.retried, 3);
  EXPECT_EQ(run.dead_lettered, 0);
  std::ostringstream printed;
  printed << run;
  EXPECT_THAT(printed.str(), HasSubstr("1 handled, 2 failed, 1 unknown, 3 retried"));
  EXPECT_THAT(printed.str(), HasSubstr("the printer is down"));
}

TEST_F(DeliverTest, ARetryComesWhenItIsMadeDueAndNotBefore) {
  Queue queue{dsn()};
  const auto id = queue.send("1");
  EXPECT_EQ(queue.deliver({}, failing("no")).retried, 1);
  EXPECT_EQ(queue.deliver({}, handling()).handled, 0);
  EXPECT_EQ(queue.make_retries_due(), 1);
  std::vector<Message> seen;
  const auto run = queue.deliver({}, [&](pgque::Consumer& c) {
    c.on("*", [&](const Message& message, Context& context) {
      seen.push_back(message);
      EXPECT_EQ(context.attempt(), 2);
    });
  });
  EXPECT_EQ(run.handled, 1);
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].msg_id, id);
  EXPECT_EQ(queue.make_retries_due(), 0);
}

TEST_F(DeliverTest, MoreRetriesThanPgQueMovesAtOnceComeTogether) {
  Queue queue{dsn()};
  for (int i = 0; i < 25; ++i) queue.send(std::to_string(i));
  EXPECT_EQ(queue.deliver({}, failing("no")).failed, 25);
  EXPECT_EQ(queue.make_retries_due(), 25);
  EXPECT_EQ(queue.deliver({}, handling()).handled, 25);
}

TEST_F(DeliverTest, TheRetriesOfOtherQueuesStayEvenIfTheyAreDue) {
  Queue one{dsn()};
  Queue two{dsn()};
  const auto fail_at_once = [](pgque::Consumer& c) { c.on("*", [](const Message&) { throw pgque::RetryAfter{0s}; }); };
  one.send("1");
  two.send("2");
  EXPECT_EQ(one.deliver({}, fail_at_once).retried, 1);
  EXPECT_EQ(two.deliver({}, fail_at_once).retried, 1);
  EXPECT_EQ(one.make_retries_due(), 1);
  EXPECT_EQ(two.deliver({}, handling()).handled, 0);
  EXPECT_EQ(one.deliver({}, handling()).handled, 1);
  EXPECT_EQ(two.make_retries_due(), 1);
}

TEST_F(DeliverTest, DeadLettersComeInTheOrderOfTheirMessages) {
  QueueOptions options;
  options.settings.max_retries = 1;
  Queue queue{dsn(), options};
  queue.send("1");
  queue.send("2");
  EXPECT_EQ(queue.deliver({}, failing("no such product")).dead_lettered, 0);
  EXPECT_TRUE(queue.dead_letters().empty());
  queue.make_retries_due();
  EXPECT_EQ(queue.deliver({}, failing("no such product")).dead_lettered, 2);
  const auto letters = queue.dead_letters();
  ASSERT_EQ(letters.size(), 2U);
  EXPECT_EQ(letters[0].payload, "1");
  EXPECT_EQ(letters[1].payload, "2");
  EXPECT_EQ(letters[0].reason, "handler error: no such product");
  EXPECT_EQ(letters[0].consumer, "test");
}

TEST_F(DeliverTest, WhatAHandlerGivesUpIsADeadLetterAtOnce) {
  Queue queue{dsn()};
  queue.send("1");
  const auto run = queue.deliver(
      {}, [](pgque::Consumer& c) { c.on("*", [](const Message&) { throw pgque::GiveUp{"no such product"}; }); });
  EXPECT_EQ(run.failed, 1);
  EXPECT_EQ(run.dead_lettered, 1);
  const auto letters = queue.dead_letters();
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_EQ(letters[0].reason, "no such product");
  EXPECT_EQ(queue.make_retries_due(), 0);
}

TEST_F(DeliverTest, AConsumerOfAnotherNameGetsEverythingFromTheBeginning) {
  Queue queue{dsn()};
  queue.send("1");
  EXPECT_EQ(queue.deliver({}, handling()).handled, 1);
  queue.send("2");
  ConsumerOptions options;
  options.name = "billing";
  EXPECT_EQ(queue.deliver(options, handling()).handled, 2);
  EXPECT_EQ(queue.deliver(options, handling()).handled, 0);
  EXPECT_EQ(queue.deliver({}, handling()).handled, 1);
}

TEST_F(DeliverTest, WorkersOfAGroupShareItsMessages) {
  Queue queue{dsn()};
  ConsumerOptions first;
  first.subconsumer = "a";
  auto second = first;
  second.subconsumer = "b";
  queue.send("1");
  EXPECT_EQ(queue.deliver(first, handling()).handled, 1);
  EXPECT_EQ(queue.deliver(second, handling()).handled, 0);
  queue.send("2");
  EXPECT_EQ(queue.deliver(second, failing("no")).failed, 1);
  EXPECT_EQ(queue.make_retries_due(), 1);
  EXPECT_EQ(queue.deliver(first, handling()).handled, 1);
  EXPECT_EQ(pgque::Admin{dsn()}.consumer(queue.name(), "test").role, pgque::ConsumerRole::group);
}

// The ways to consume, with a handler that defers what it writes, which all of them can.
struct Way {
  const char* name;
  void (*set)(ConsumerOptions& options);
};
void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}
class DeliverInEachWayTest : public KitTest, public ::testing::WithParamInterface<Way> {
 protected:
  std::string sent_by_context() const { return "more_" + other_name(); }
};

TEST_P(DeliverInEachWayTest, HandlersWriteWithTheAckAndFailedOnesDoNot) {
  QueueOptions queue_options;
  queue_options.others = {other_name(), sent_by_context()};
  Queue queue{dsn(), queue_options};
  for (int i = 0; i < 10; ++i) queue.send(json(i), i == 3 ? "fails" : "works");
  ConsumerOptions options;
  GetParam().set(options);
  const auto write = [this](Context& context, const Message& message) {
    context.on_ack([other = other_name(), event = pgque::to_event(message)](pqxx::transaction_base& transaction) {
      pgque::Transaction{transaction}.send(other, event);
    });
    context.send(sent_by_context(), pgque::to_event(message));
  };
  const auto run = queue.deliver(options, [&](pgque::Consumer& c) {
    c.on("works", [&](const Message& message, Context& context) { write(context, message); });
    c.on("fails", [&](const Message& message, Context& context) {
      write(context, message);
      throw std::runtime_error{"after that"};
    });
  });
  EXPECT_EQ(run.handled, 9) << run;
  EXPECT_EQ(run.failed, 1) << run;
  const auto sent_to = [&](const std::string& other) {
    std::vector<int> sent;
    for (const auto& message : queue.sent(other)) sent.push_back(pgque::payload_as<int>(message));
    return sent;
  };
  EXPECT_THAT(sent_to(other_name()), ElementsAre(0, 1, 2, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(sent_to(sent_by_context()), UnorderedElementsAre(0, 1, 2, 4, 5, 6, 7, 8, 9));
}

INSTANTIATE_TEST_SUITE_P(By, DeliverInEachWayTest,
                         ::testing::Values(Way{"PerBatch", [](ConsumerOptions&) {}},
                                           Way{"Split",
                                               [](ConsumerOptions& options) {
                                                 options.transaction = pgque::TransactionMode::split;
                                               }},
                                           Way{"Concurrent", [](ConsumerOptions& options) { options.concurrency = 4; }},
                                           Way{"InPages", [](ConsumerOptions& options) { options.max_messages = 3; }},
                                           Way{"Group", [](ConsumerOptions& options) { options.subconsumer = "w"; }}),
                         [](const auto& each) { return std::string{each.param.name}; });

TEST_F(DeliverTest, HandlersOfBatchesGetTheirMessagesTogether) {
  Queue queue{dsn()};
  for (int i = 0; i < 5; ++i) queue.send(json(i), "metric");
  std::vector<std::size_t> calls;
  const auto run = queue.deliver({}, [&](pgque::Consumer& c) {
    c.on_batch("metric", [&](const std::vector<Message>& messages, pgque::BatchContext& context) {
      calls.push_back(messages.size());
      context.fail(messages[1], "bad metric");
    });
  });
  EXPECT_THAT(calls, ElementsAre(5U));
  EXPECT_EQ(run.handled, 4);
  EXPECT_EQ(run.failed, 1);
}

TEST_F(DeliverTest, AServicesOwnOptionsAreUsedButForThoseOfTheKit) {
  Queue queue{dsn()};
  queue.send("1");
  ConsumerOptions options;
  options.min_lag = 1h;
  options.queue = queue.name();
  options.retry_after = 7s;
  std::atomic<int> logged{0};
  options.log = [&](const pgque::LogRecord&) { ++logged; };
  const auto run = queue.deliver(options, failing("no"));
  EXPECT_EQ(run.failed, 1);
  EXPECT_EQ(logged, static_cast<int>(run.log.size()));
  const auto line = std::find_if(run.log.begin(), run.log.end(),
                                 [](const auto& each) { return each.event == pgque::LogEvent::handler_failed; });
  ASSERT_NE(line, run.log.end());
  EXPECT_EQ(line->message, "handler error: no");
  EXPECT_EQ(line->attempt, 1);
}

TEST_F(DeliverTest, AnotherQueueInTheOptionsIsRefused) {
  Queue queue{dsn()};
  ConsumerOptions options;
  options.queue = "orders";
  try {
    queue.deliver(options, handling());
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("\"orders\""));
  }
  EXPECT_THROW(queue.deliver({}, {}), std::invalid_argument);
  EXPECT_THROW(queue.deliver({}, handling(), {0ms}), std::invalid_argument);
}

TEST_F(DeliverTest, AHandlerThatPostponesForEverEndsWithItsReason) {
  Queue queue{dsn()};
  queue.send("1");
  try {
    queue.deliver({},
                  [](pgque::Consumer& c) {
                    c.on("*", [](const Message&) { throw pgque::NotNow{1h, "the bank is closed"}; });
                  },
                  {500ms});
    FAIL();
  } catch (const pgque::testing::NotDrained& error) {
    EXPECT_THAT(error.what(), HasSubstr("after 500 ms"));
    EXPECT_THAT(error.what(), HasSubstr("the bank is closed"));
    EXPECT_EQ(error.run().postponed, 1);
    EXPECT_EQ(error.run().handled, 0);
  }
  EXPECT_EQ(queue.deliver({}, handling()).handled, 1);
}

TEST_F(DeliverTest, ABatchThatIsAbandonedAgainAndAgainEndsWithTheReason) {
  Queue queue{dsn()};
  queue.send("1");
  try {
    queue.deliver({},
                  [](pgque::Consumer& c) {
                    c.on("*", [](const Message&, Context& context) {
                      context.transaction().exec(
                          "do $$ begin raise exception 'somebody was faster' using errcode = '40001'; end $$");
                    });
                  },
                  {1s});
    FAIL();
  } catch (const pgque::testing::NotDrained& error) {
    EXPECT_THAT(error.what(), HasSubstr("somebody was faster"));
    EXPECT_GE(error.run().abandoned, 1);
  }
}

TEST_F(DeliverTest, ABatchThatIsPostponedForAMomentIsDelivered) {
  Queue queue{dsn()};
  queue.send("1");
  int calls = 0;
  const auto run = queue.deliver({}, [&](pgque::Consumer& c) {
    c.on("*", [&](const Message&) {
      if (++calls == 1) throw pgque::NotNow{1ms};
    });
  });
  EXPECT_EQ(run.postponed, 1);
  EXPECT_EQ(run.handled, 1);
}

TEST_F(DeliverTest, WhatStopsTheConsumerIsThrown) {
  Queue queue{dsn()};
  pgque::Admin{dsn()}.drop_queue(queue.name(), true);
  EXPECT_THROW(queue.deliver({}, handling()), pgque::Error);
}

}  // namespace
}  // namespace kit
