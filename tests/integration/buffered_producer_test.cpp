// The producer that batches by itself.

#include <pgque/buffered_producer.hpp>

#include <future>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/json.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"
#include "messages.hpp"
#include "producer_ledger.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

// Holds back every send for as long as it lives.
class SendLock {
 public:
  SendLock() : connection_{dsn()}, transaction_{connection_} {
    transaction_.exec("lock table pgque.queue in access exclusive mode");
  }

 private:
  pqxx::connection connection_;
  pqxx::work transaction_;
};

class BufferedProducerTest : public ConsumerTest {
 protected:
  // Sends only what is full or flushed.
  BufferedProducerOptions options() {
    BufferedProducerOptions options;
    options.linger = 1h;
    options.reconnect = {10ms, 50ms};
    options.log = log.sink();
    options.pooled = pooled();
    return options;
  }
  // Everything that has been committed.
  std::vector<Message> stored() {
    queue().tick();
    std::vector<Message> messages;
    // A tick may be empty, and there may have been ticks before.
    for (bool more = true; more;) {
      const auto batch = client().receive(queue(), consumer_name());
      if (!batch.empty()) client().ack(batch[0].batch_id);
      messages.insert(messages.end(), batch.begin(), batch.end());
      more = !batch.empty();
    }
    return messages;
  }
  bool waits_for_lock() { return session_waits_for_lock(); }
  template <class E>
  static E error_of(std::future<EventId>& future) {
    if (future.wait_for(20s) != std::future_status::ready) throw std::runtime_error{"the future is not ready"};
    return thrown<E>([&] { future.get(); });
  }
};

TEST_F(BufferedProducerTest, StoresWhatWasSentAndTellsItsId) {
  BufferedProducer producer{dsn(), options()};
  auto first = producer.send(queue(), R"({"b": 1, "a": 2})", "created");
  auto second = producer.send(queue(), nlohmann::json{{"n", 1}});
  auto third = producer.send(queue(), Event{text("as it is"), "noted"});
  auto fourth = producer.send(queue(), nullptr, "");
  ASSERT_TRUE(producer.flush(20s));
  const auto messages = stored();
  ASSERT_THAT(messages, SizeIs(4));
  std::map<EventId, Message> by_id;
  for (const auto& message : messages) by_id[message.msg_id] = message;
  EXPECT_EQ(by_id.at(first.get()).payload, R"({"a": 2, "b": 1})");
  EXPECT_EQ(by_id.at(second.get()).payload, R"({"n":1})");
  const auto noted = by_id.at(third.get());
  EXPECT_EQ(noted.payload, "as it is");
  EXPECT_EQ(noted.type, "noted");
  const auto null = by_id.at(fourth.get());
  EXPECT_EQ(null.payload, "null");
  EXPECT_EQ(null.type, "default");
}

TEST_F(BufferedProducerTest, GathersBatchesByCount) {
  ProducerLedger ledger;
  auto settings = options();
  settings.batch_messages = 1000;
  BufferedProducer producer{dsn(), settings};
  ledger.send(producer, queue(), 0, 2500);
  ASSERT_TRUE(wait_until([&] { return producer.stats().sent == 2000; })) << "the full ones do not wait";
  EXPECT_EQ(producer.stats().buffered, 500U);
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_EQ(producer.stats().batches, 3U);
  EXPECT_EQ(producer.stats().buffered, 0U);
  const auto messages = stored();
  ledger.expect_agrees_with(messages);
  EXPECT_EQ(ledger.count(Outcome::Kind::sent), 2500U);
  std::set<Timestamp> transactions;
  for (const auto& message : messages) transactions.insert(message.created_at);
  EXPECT_THAT(transactions, SizeIs(3));
}

TEST_F(BufferedProducerTest, GathersBatchesByBytes) {
  auto settings = options();
  settings.batch_bytes = 1000;
  BufferedProducer producer{dsn(), settings};
  for (int i = 0; i < 10; ++i) producer.send(queue(), text(std::string(250, 'x')));
  producer.send(queue(), text(std::string(5000, 'y')));
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_EQ(producer.stats().batches, 4U);
  EXPECT_EQ(producer.stats().sent, 11U);
}

TEST_F(BufferedProducerTest, AnEventThatNoMessageHoldsIsRefusedAtOnceAndHarmsNoOther) {
  constexpr std::size_t most = std::size_t{512} << 20;
  auto settings = options();
  settings.batch_bytes = most;
  settings.buffer_bytes = 4 * most;
  settings.delivery_timeout = 20s;
  BufferedProducer producer{dsn(), settings};
  auto before = producer.send(queue(), "1", "t");
  const auto error =
      thrown<std::invalid_argument>([&] { producer.send(queue(), text(std::string(most + 1, 'x')), "t"); });
  EXPECT_STREQ(error.what(), "payload: has 536870913 bytes, must have at most 536870912");
  auto after = producer.send(queue(), "2", "t");
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_LT(before.get(), after.get());
  EXPECT_EQ(producer.stats().reconnects, 0U);
  EXPECT_EQ(producer.stats().buffered_bytes, 0U);
}

TEST_F(BufferedProducerTest, SendsWhatHasLingered) {
  auto settings = options();
  settings.linger = 20ms;
  BufferedProducer producer{dsn(), settings};
  const auto begin = Clock::now();
  auto first = producer.send(queue(), "1");
  auto second = producer.send(queue(), "2");
  ASSERT_EQ(first.wait_for(20s), std::future_status::ready);
  EXPECT_GE(Clock::now() - begin, 20ms);
  EXPECT_LT(first.get(), second.get());
  EXPECT_EQ(producer.stats().batches, 1U);
}

TEST_F(BufferedProducerTest, WithoutLingeringItSendsAtOnce) {
  auto settings = options();
  settings.linger = 0ms;
  BufferedProducer producer{dsn(), settings};
  for (int i = 0; i < 5; ++i) {
    auto id = producer.send(queue(), std::to_string(i));
    ASSERT_EQ(id.wait_for(20s), std::future_status::ready);
    EXPECT_NO_THROW(id.get());
    EXPECT_EQ(producer.stats().sent, static_cast<std::uint64_t>(i) + 1);  // counted before the future is ready
    EXPECT_EQ(producer.stats().buffered, 0U);
  }
}

TEST_F(BufferedProducerTest, KindsOfPayloadKeepTheirOrderAndTheirKind) {
  BufferedProducer producer{dsn(), options()};
  producer.send(queue(), R"({"b":1,"a":2})");
  producer.send(queue(), text(R"({"b":1,"a":2})"));
  producer.send(queue(), nullptr);
  producer.send(queue(), std::nullopt);
  producer.send(queue(), text(""));
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_EQ(producer.stats().batches, 1U);
  EXPECT_THAT(payloads_of(stored()), ElementsAre(R"({"a": 2, "b": 1})", R"({"b":1,"a":2})", "null", std::nullopt, ""));
}

TEST_F(BufferedProducerTest, EventsWithKeysOrHeadersOfAllTypesShareABatch) {
  BufferedProducer producer{dsn(), options()};
  std::vector<Event> events;
  for (int i = 0; i < 6; ++i) {
    Event event{i % 2 == 0 ? Payload{"[ " + std::to_string(i) + ']'} : text("x"), "type-" + std::to_string(i % 3)};
    if (i != 1) event.key = "key-" + std::to_string(i);
    if (i != 2) event.headers["traceparent"] = std::to_string(i);
    events.push_back(event);
    producer.send(queue(), std::move(event));
  }
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_EQ(producer.stats().batches, 1U);
  const auto messages = stored();
  ASSERT_THAT(messages, SizeIs(6));
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(messages[i].payload, i % 2 == 0 ? '[' + std::to_string(i) + ']' : "x");
    EXPECT_EQ(messages[i].type, events[i].type);
    EXPECT_EQ(messages[i].extra1, events[i].key);
    EXPECT_EQ(messages[i].headers(), events[i].headers);
  }
}

TEST_F(BufferedProducerTest, EventsOfOneTypeKeepTheirOrderWhetherTheyHaveKeysOrNot) {
  BufferedProducer producer{dsn(), options()};
  ProducerLedger ledger;
  for (int i = 0; i < 300; ++i) {
    const auto type = "type-" + std::to_string(i % 4);
    const bool keyed = i * i % 7 == 1 || (i > 200 && i % 4 == 0);
    ledger.send_one(producer, queue(), 0, i, type, keyed ? std::optional<std::string>{"key"} : std::nullopt);
    if (i % 50 == 49) {
      ASSERT_TRUE(producer.flush(20s));
    }
  }
  EXPECT_EQ(ledger.count(Outcome::Kind::sent), 300U);
  ledger.expect_agrees_with(stored());
}

TEST_F(BufferedProducerTest, AnEventBehindOneWithAKeyIsSentWithIt) {
  auto settings = options();
  BufferedProducer producer{dsn(), settings};
  producer.send(queue(), text("1"), "alone");
  producer.send(queue(), Event{text("2"), "t", "key"});
  producer.send(queue(), text("3"), "t");
  producer.send(queue(), Event{text("4"), "u", "key"});
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_EQ(producer.stats().batches, 2U);
  const auto messages = stored();
  EXPECT_THAT(payloads_of(messages), ElementsAre("1", "2", "3", "4"));
  EXPECT_THAT(types_of(messages), ElementsAre("alone", "t", "t", "u"));
  EXPECT_EQ(messages[2].extra1, std::nullopt);
}

TEST_F(BufferedProducerTest, KeysHeadersAndTheirTypesCountForItsLimits) {
  auto settings = options();
  settings.buffer_bytes = 24;
  BufferedProducer producer{dsn(), settings};
  const Event event{text("12345"), "type", "67890", {{"a", "b"}}};
  producer.send(queue(), event);
  EXPECT_EQ(producer.stats().buffered_bytes, 5 + 4 + 5 + std::string_view{R"({"a":"b"})"}.size());
  ASSERT_TRUE(producer.flush(20s));
  auto larger = event;
  larger.headers["a"] = "12";
  producer.send(queue(), larger);
  ASSERT_TRUE(producer.flush(20s));
  larger.headers["a"] = "123";
  EXPECT_STREQ(thrown<std::invalid_argument>([&] { producer.send(queue(), larger); }).what(),
               "payload, type, key and headers: have 25 bytes, buffer_bytes is 24");
}

TEST_F(BufferedProducerTest, APoisonPayloadAmongEventsWithKeysFailsTheirBatchAlone) {
  BufferedProducer producer{dsn(), options()};
  auto good = producer.send(queue(), Event{"1", "t", "key"});
  auto bad = producer.send(queue(), Event{"{bad", "u", "key"});
  auto elsewhere = producer.send(queue(), "1", "v");
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_EQ(error_of<Error>(good).sqlstate(), "22P02");
  EXPECT_EQ(error_of<Error>(bad).sqlstate(), "22P02");
  EXPECT_NO_THROW(elsewhere.get());
  EXPECT_THAT(types_of(stored()), ElementsAre("v"));
  auto nowhere = producer.send("no_such_queue", Event{"1", "t", "key"});
  ASSERT_TRUE(producer.flush(20s));
  error_of<QueueNotFound>(nowhere);
}

TEST_F(BufferedProducerTest, AnInterceptorSeesEachEventOnTheThreadThatSendsIt) {
  std::vector<std::thread::id> threads;
  auto settings = options();
  settings.on_send = [&](Event& event) {
    threads.push_back(std::this_thread::get_id());
    if (event.type == "refused") throw std::domain_error{"not this one"};
    if (event.type == "spoilt") event.key = "";
    event.headers["seen"] = event.type;
  };
  BufferedProducer producer{dsn(), settings};
  Message message;
  message.payload = "3";
  producer.send(queue(), text("1"), "t");
  producer.send(queue(), Event{text("2"), "t"});
  producer.send(queue(), message, "t");
  EXPECT_STREQ(thrown<std::domain_error>([&] { producer.send(queue(), "4", "refused"); }).what(), "not this one");
  EXPECT_THAT(thrown<std::invalid_argument>([&] { producer.send(queue(), "5", "spoilt"); }).what(), HasSubstr("key"));
  EXPECT_EQ(producer.stats().buffered, 3U);
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_THAT(threads, AllOf(SizeIs(5), testing::Each(std::this_thread::get_id())));
  const auto messages = stored();
  EXPECT_THAT(payloads_of(messages), ElementsAre("1", "2", "3"));
  for (const auto& one : messages) EXPECT_EQ(one.header("seen"), "t");
}

TEST_F(BufferedProducerTest, NothingIsLostDoubledOrDisorderedWithManyThreadsQueuesAndTypes) {
  constexpr int threads = 8;
  constexpr int count = 3000;
  TestQueue other{sql()};
  client().subscribe(other, consumer_name());
  auto settings = options();
  settings.linger = 1ms;
  settings.batch_messages = 200;
  settings.buffer_messages = 700;  // they have to wait for room
  ProducerLedger ledger;
  ProducerLedger other_ledger;
  std::vector<std::thread> running;
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> most{0};
  BufferedProducer producer{dsn(), settings};
  std::thread watching{[&] {
    while (!done) most = std::max(most.load(), producer.stats().buffered);
  }};
  for (int thread = 0; thread < threads; ++thread) {
    running.emplace_back([&, thread] {
      for (int i = 0; i < count; ++i) {
        auto& to = i % 3 == 0 ? other_ledger : ledger;
        to.send_one(producer, i % 3 == 0 ? other : queue(), thread, i, i % 2 == 0 ? "even" : "odd",
                    i % 5 == 0 ? std::optional{std::to_string(i)} : std::nullopt);
      }
    });
  }
  for (auto& thread : running) thread.join();
  EXPECT_TRUE(producer.flush(60s));
  done = true;
  watching.join();
  EXPECT_LE(most, 700U);
  EXPECT_EQ(ledger.count(Outcome::Kind::sent), std::size_t{threads} * count * 2 / 3);
  EXPECT_EQ(other_ledger.count(Outcome::Kind::sent), std::size_t{threads} * count / 3);
  ledger.expect_agrees_with(stored());
  other.tick();
  other_ledger.expect_agrees_with(client().receive(other, consumer_name()));
  const auto stats = producer.stats();
  EXPECT_EQ(stats.sent, std::uint64_t{threads} * count);
  EXPECT_EQ(stats.failed, 0U);
  EXPECT_EQ(stats.last_error, "");
}

TEST_F(BufferedProducerTest, APoisonPayloadFailsItsOwnBatchAloneAndNothingOfItIsStored) {
  BufferedProducer producer{dsn(), options()};
  auto good = producer.send(queue(), R"({"secret": 1})", "poisoned");
  auto bad = producer.send(queue(), R"({"secret": )", "poisoned");
  auto also_good = producer.send(queue(), text("secret"), "poisoned");
  auto elsewhere = producer.send(queue(), "1", "clean");
  ASSERT_TRUE(producer.flush(20s));
  for (auto* future : {&good, &bad, &also_good}) {
    const auto error = error_of<Error>(*future);
    EXPECT_EQ(error.sqlstate(), "22P02");
    EXPECT_FALSE(error.outcome_unknown());
    EXPECT_FALSE(error.retryable());
    EXPECT_THAT(error.what(), HasSubstr("invalid input syntax for type json"));
  }
  EXPECT_NO_THROW(elsewhere.get());
  EXPECT_THAT(types_of(stored()), ElementsAre("clean"));

  const auto stats = producer.stats();
  EXPECT_EQ(stats.failed, 3U);
  EXPECT_EQ(stats.unknown, 0U);
  EXPECT_EQ(stats.sent, 1U);
  EXPECT_EQ(stats.batches, 1U);
  EXPECT_EQ(stats.reconnects, 0U);
  EXPECT_THAT(stats.last_error, HasSubstr("22P02"));
  const auto lines = log.lines(LogEvent::batch_refused);
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0].level, LogLevel::error);
  EXPECT_EQ(lines[0].queue, queue().name());
  EXPECT_EQ(lines[0].sqlstate, "22P02");
  EXPECT_THAT(lines[0].message, HasSubstr("3 events refused: "));
  for (const auto& line : log.lines()) EXPECT_THAT(line.message, Not(HasSubstr("secret")));

  // The good ones may be sent again.
  auto again = producer.send(queue(), R"({"secret": 1})", "poisoned");
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_NO_THROW(again.get());
}

TEST_F(BufferedProducerTest, SendsAMessageOnAsItWasStored) {
  client().send(queue(), text(" {not json"), "order.created");
  client().send(queue(), std::nullopt, "order.gone");
  const auto received = stored();
  ASSERT_THAT(received, SizeIs(2));
  BufferedProducer producer{dsn(), options()};
  for (const auto& message : received) {
    producer.send(queue(), message);
    producer.send(queue(), message, "again");
    producer.send(queue(), Event{message, "event"});
  }
  ASSERT_TRUE(producer.flush(20s));
  std::multiset<std::pair<std::string, std::string>> sent_on;
  for (const auto& message : stored()) sent_on.emplace(*message.type, message.payload.value_or("NULL"));
  EXPECT_THAT(sent_on, ElementsAre(std::pair{"again", " {not json"}, std::pair{"again", "NULL"},
                                   std::pair{"event", " {not json"}, std::pair{"event", "NULL"},
                                   std::pair{"order.created", " {not json"}, std::pair{"order.gone", "NULL"}));
}

TEST_F(BufferedProducerTest, AQueueThatDoesNotExistFailsItsOwnBatchesAlone) {
  BufferedProducer producer{dsn(), options()};
  auto nowhere = producer.send("no_such_queue", "1");
  auto somewhere = producer.send(queue(), "2");
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_THAT(error_of<QueueNotFound>(nowhere).what(), HasSubstr("no_such_queue"));
  EXPECT_NO_THROW(somewhere.get());
}

TEST_F(BufferedProducerTest, AMissingGrantIsNamed) {
  BufferedProducer producer{dsn_of_role_with({"pgque_reader"}), options()};
  auto refused = producer.send(queue(), "1");
  ASSERT_TRUE(producer.flush(20s));
  const auto error = error_of<Error>(refused);
  EXPECT_EQ(error.sqlstate(), "42501");
  EXPECT_THAT(error.what(), HasSubstr("pgque_writer"));
}

TEST_F(BufferedProducerTest, TheWriterRoleIsAllItNeeds) {
  BufferedProducer producer{dsn_of_role_with({"pgque_writer"}), options()};
  auto id = producer.send(queue(), "1");
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_NO_THROW(id.get());
}

TEST_F(BufferedProducerTest, WrongArgumentsAreThrownAtOnceAndNamed) {
  auto settings = options();
  settings.buffer_bytes = 10;
  BufferedProducer producer{dsn(), settings};
  const std::string nul{"a\0b", 3};
  const auto refused = [](const auto& run) { return std::string{thrown<std::invalid_argument>(run).what()}; };
  EXPECT_THAT(refused([&] { producer.send("", "1"); }), HasSubstr("queue"));
  EXPECT_THAT(refused([&] { producer.send(std::string(58, 'q'), "1"); }), HasSubstr("queue"));
  EXPECT_THAT(refused([&] { producer.send(queue(), text(nul)); }), HasSubstr("payload"));
  EXPECT_THAT(refused([&] { producer.send(queue(), text("\xFF")); }), HasSubstr("payload"));
  EXPECT_THAT(refused([&] { producer.send(queue(), "1", nul); }), HasSubstr("type"));
  EXPECT_THAT(refused([&] { producer.send(queue(), Event{"1", "t", ""}); }), HasSubstr("key"));
  EXPECT_THAT(refused([&] { producer.send(queue(), Event{"1", "t", nul}); }), HasSubstr("key"));
  EXPECT_THAT(refused([&] { producer.send(queue(), Event{"1", "t", {}, {{"", "v"}}}); }), HasSubstr("headers"));
  EXPECT_THAT(refused([&] { producer.send(queue(), text("12345678901")); }),
              HasSubstr("payload: has 11 bytes, buffer_bytes is 10"));
  EXPECT_THAT(refused([&] { producer.flush(-1ms); }), HasSubstr("timeout"));
  EXPECT_EQ(producer.stats().buffered, 0U);
  producer.send(queue(), text("1234567890"));
  EXPECT_TRUE(producer.flush(20s));
  EXPECT_EQ(producer.stats().sent, 1U);
}

TEST_F(BufferedProducerTest, AFullBufferFailsAtOnceIfItMayNotBlock) {
  auto settings = options();
  settings.buffer_messages = 3;
  settings.block_timeout = 0ms;
  BufferedProducer producer{dsn(), settings};
  std::optional<SendLock> lock{std::in_place};
  for (int i = 0; i < 3; ++i) producer.send(queue(), "1");
  const auto error = thrown<Error>([&] { producer.send(queue(), "too many"); });
  EXPECT_TRUE(error.retryable());
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_THAT(error.what(), AllOf(HasSubstr(queue().name()), HasSubstr("the buffer is full: 3 events, 3 bytes")));
  lock.reset();
  EXPECT_TRUE(wait_until([&] { return producer.stats().sent == 3; })) << "a full buffer does not linger";
  EXPECT_NO_THROW(producer.send(queue(), "1"));
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_THAT(stored(), SizeIs(4));
}

TEST_F(BufferedProducerTest, AFullBufferFailsAfterTheBlockTimeout) {
  auto settings = options();
  settings.buffer_bytes = 10;
  settings.block_timeout = 30ms;
  BufferedProducer producer{dsn(), settings};
  const SendLock lock;
  producer.send(queue(), text("1234567"));
  const auto begin = Clock::now();
  EXPECT_TRUE(thrown<Error>([&] { producer.send(queue(), text("1234")); }).retryable());
  EXPECT_GE(Clock::now() - begin, 30ms);
  EXPECT_NO_THROW(producer.send(queue(), text("123")));  // which fits
}

TEST_F(BufferedProducerTest, AFullBufferBlocksUntilThereIsRoom) {
  auto settings = options();
  settings.buffer_messages = 2;
  settings.batch_messages = 2;
  BufferedProducer producer{dsn(), settings};
  std::optional<SendLock> lock{std::in_place};
  producer.send(queue(), "1");
  producer.send(queue(), "2");
  std::atomic<bool> returned{false};
  auto blocked = std::async(std::launch::async, [&] {
    auto id = producer.send(queue(), "3");
    returned = true;
    return id;
  });
  ASSERT_TRUE(wait_until([&] { return producer.stats().state == ProducerState::sending; }));
  EXPECT_FALSE(returned);
  lock.reset();
  auto id = blocked.get();
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_NO_THROW(id.get());
  EXPECT_THAT(payloads_of(stored()), ElementsAre("1", "2", "3"));
}

// While threads wait for room, no other event could join those that linger.
TEST_F(BufferedProducerTest, AFullBufferDoesNotLinger) {
  auto settings = options();
  settings.buffer_messages = 4;
  settings.buffer_bytes = 10;
  BufferedProducer producer{dsn(), settings};
  std::vector<std::future<void>> sending;
  for (int thread = 0; thread < 4; ++thread) {
    sending.push_back(std::async(std::launch::async, [&, thread] {
      for (std::size_t i = 0; i < 50; ++i) {
        producer.send(queue(), text(std::string(1 + i * 7 % 10, 'x')), "type " + std::to_string(thread));
      }
    }));
  }
  for (auto& thread : sending) {
    EXPECT_EQ(thread.wait_for(20s), std::future_status::ready) << "it waits for room that never comes";
  }
  EXPECT_TRUE(producer.close());  // ends those that wait, should the test fail
  for (auto& thread : sending) EXPECT_NO_THROW(thread.get());
  EXPECT_EQ(producer.stats().sent, 200U);
}

TEST_F(BufferedProducerTest, ClosingWakesThoseWhoWaitForRoom) {
  auto settings = options();
  settings.buffer_messages = 1;
  BufferedProducer producer{watched_dsn(), settings};
  std::optional<SendLock> lock{std::in_place};
  auto taken = producer.send(queue(), "1");
  std::vector<std::future<std::string>> blocked;
  for (int i = 0; i < 4; ++i) {
    blocked.push_back(std::async(std::launch::async, [&] {
      return std::string{thrown<std::logic_error>([&] { producer.send(queue(), "2"); }).what()};
    }));
  }
  // One of them has made the one event go, so that it is full for all of them.
  EXPECT_TRUE(wait_until([&] { return waits_for_lock(); }));
  auto closed = std::async(std::launch::async, [&] { return producer.close(); });
  for (auto& one : blocked) {
    ASSERT_EQ(one.wait_for(20s), std::future_status::ready);
    EXPECT_THAT(one.get(), HasSubstr("closed"));
  }
  lock.reset();
  EXPECT_TRUE(closed.get());
  EXPECT_NO_THROW(taken.get());
  EXPECT_THAT(payloads_of(stored()), ElementsAre("1"));
}

TEST_F(BufferedProducerTest, ClosingSendsWhatIsLeftAndThenNothingMore) {
  BufferedProducer producer{dsn(), options()};
  std::vector<std::future<EventId>> ids;
  for (int i = 0; i < 2500; ++i) ids.push_back(producer.send(queue(), std::to_string(i)));
  EXPECT_TRUE(producer.close());
  for (auto& id : ids) {
    ASSERT_EQ(id.wait_for(0s), std::future_status::ready);
    EXPECT_NO_THROW(id.get());
  }
  EXPECT_THAT(stored(), SizeIs(2500));
  thrown<std::logic_error>([&] { producer.send(queue(), "1"); });
  EXPECT_TRUE(producer.close());
  EXPECT_TRUE(producer.flush(0ms));
  EXPECT_EQ(producer.stats().state, ProducerState::closed);
  EXPECT_EQ(producer.stats().sent, 2500U);
}

TEST_F(BufferedProducerTest, ClosingFromManyThreadsAtOnceIsClosingOnce) {
  BufferedProducer producer{dsn(), options()};
  for (int i = 0; i < 100; ++i) producer.send(queue(), std::to_string(i));
  std::vector<std::future<bool>> closed;
  for (int i = 0; i < 4; ++i) closed.push_back(std::async(std::launch::async, [&] { return producer.close(); }));
  for (auto& one : closed) EXPECT_TRUE(one.get());
  EXPECT_EQ(log.count(LogEvent::stopped), 1U);
  EXPECT_EQ(producer.stats().sent, 100U);
}

TEST_F(BufferedProducerTest, TheDestructorSendsWhatIsLeft) {
  std::future<EventId> id;
  {
    BufferedProducer producer{dsn(), options()};
    id = producer.send(queue(), "1");
    producer.send(queue(), "2");  // no thread waits for this one
  }
  ASSERT_EQ(id.wait_for(0s), std::future_status::ready);
  EXPECT_NO_THROW(id.get());
  EXPECT_THAT(payloads_of(stored()), ElementsAre("1", "2"));
}

TEST_F(BufferedProducerTest, AFlushThatTakesTooLongSaysSoAndSendingGoesOn) {
  BufferedProducer producer{dsn(), options()};
  std::optional<SendLock> lock{std::in_place};
  auto id = producer.send(queue(), "1");
  const auto begin = Clock::now();
  EXPECT_FALSE(producer.flush(30ms));
  EXPECT_GE(Clock::now() - begin, 30ms);
  lock.reset();
  EXPECT_TRUE(producer.flush(20s));
  ASSERT_EQ(id.wait_for(0s), std::future_status::ready);
  EXPECT_NO_THROW(id.get());
}

TEST_F(BufferedProducerTest, AFlushWaitsForWhatWasSentBeforeItAlone) {
  auto settings = options();
  settings.batch_messages = 1;
  settings.buffer_messages = 20;
  BufferedProducer producer{dsn(), settings};
  std::atomic<bool> done{false};
  std::thread sending{[&] {
    while (!done) producer.send(queue(), "1", "endless");
  }};
  for (int i = 0; i < 10; ++i) {
    auto id = producer.send(queue(), "2", "mine");
    EXPECT_TRUE(producer.flush(60s));
    EXPECT_EQ(id.wait_for(0s), std::future_status::ready);
  }
  done = true;
  sending.join();
}

TEST_F(BufferedProducerTest, ClosingGivesUpWhatCannotBeSentInTimeAndSaysHowMuch) {
  auto settings = options();
  settings.drain_timeout = 50ms;
  settings.batch_messages = 2;
  BufferedProducer producer{watched_dsn(), settings};
  std::vector<std::future<EventId>> ids;
  {
    const SendLock lock;
    for (int i = 0; i < 5; ++i) ids.push_back(producer.send(queue(), std::to_string(i)));
    ASSERT_TRUE(wait_until([&] { return waits_for_lock(); }));
    EXPECT_FALSE(producer.close());
    EXPECT_FALSE(producer.close());
    for (auto& id : ids) {
      ASSERT_EQ(id.wait_for(0s), std::future_status::ready);
      const auto error = error_of<Error>(id);
      EXPECT_TRUE(error.retryable());
      EXPECT_FALSE(error.outcome_unknown());
      EXPECT_THAT(error.what(), HasSubstr("not sent before the producer was closed"));
    }
  }
  EXPECT_EQ(producer.stats().failed, 5U);
  EXPECT_EQ(producer.stats().unknown, 0U);
  EXPECT_EQ(producer.stats().buffered, 0U);
  const auto lines = log.lines(LogEvent::events_dropped);
  ASSERT_THAT(lines, Not(IsEmpty()));
  EXPECT_EQ(lines[0].queue, queue().name());
  EXPECT_EQ(lines[0].level, LogLevel::error);
  ASSERT_TRUE(wait_until([&] { return sessions() == 0; }));
  EXPECT_THAT(stored(), IsEmpty());
}

TEST_F(BufferedProducerTest, WhatCannotBeSentInTimeFailsAndIsNotStored) {
  auto settings = options();
  settings.delivery_timeout = 3s;
  BufferedProducer producer{watched_dsn(), settings};
  {
    const SendLock lock;
    auto id = producer.send(queue(), "1");
    producer.flush(0ms);
    const auto error = error_of<Error>(id);
    EXPECT_TRUE(error.retryable());
    EXPECT_FALSE(error.outcome_unknown());
    EXPECT_THAT(error.what(), HasSubstr("not sent within delivery_timeout"));
  }
  EXPECT_EQ(log.count(LogEvent::events_dropped), 1U);
  ASSERT_TRUE(wait_until([&] { return producer.stats().reconnects >= 1; }));
  ASSERT_TRUE(wait_until([&] { return sessions() == 1; }));
  auto id = producer.send(queue(), "2");
  producer.flush(20s);
  EXPECT_NO_THROW(id.get());
  EXPECT_THAT(payloads_of(stored()), ElementsAre("2"));
}

TEST_F(BufferedProducerTest, ASessionKilledWhileIdleIsReplacedWithoutALoss) {
  BufferedProducer producer{watched_dsn(), options()};
  for (int i = 1; i <= 3; ++i) {
    auto id = producer.send(queue(), std::to_string(i));
    ASSERT_TRUE(producer.flush(20s));
    EXPECT_NO_THROW(id.get());
    ASSERT_EQ(kill_sessions(), 1);
    ASSERT_TRUE(wait_until([&] { return sessions() == 0; }));
  }
  EXPECT_EQ(producer.stats().reconnects, 2U);
  EXPECT_EQ(producer.stats().unknown, 0U);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 2U);
  EXPECT_THAT(payloads_of(stored()), ElementsAre("1", "2", "3"));
}

TEST_F(BufferedProducerTest, ASessionKilledInABatchIsReplacedAndTheBatchStoredOnceInItsPlace) {
  auto settings = options();
  settings.batch_messages = 2;
  BufferedProducer producer{watched_dsn(), settings};
  std::vector<std::future<EventId>> ids;
  {
    const SendLock lock;
    for (int i = 0; i < 5; ++i) ids.push_back(producer.send(queue(), std::to_string(i)));
    ASSERT_TRUE(wait_until([&] { return waits_for_lock(); }));
    ASSERT_EQ(kill_sessions(), 1);
  }
  ASSERT_TRUE(producer.flush(20s));
  for (auto& id : ids) EXPECT_NO_THROW(id.get());
  EXPECT_EQ(producer.stats().reconnects, 1U);
  EXPECT_THAT(payloads_of(stored()), ElementsAre("0", "1", "2", "3", "4"));
}

// The server is a former primary: only a new connection helps.
TEST_F(BufferedProducerTest, AReadOnlyServerIsLeftAndTheBatchKept) {
  const auto writer = dsn_of_role_with({"pgque_writer"});
  sql()("alter role " + role_of(writer) + " set default_transaction_read_only = on");
  BufferedProducer producer{writer, options()};
  auto id = producer.send(queue(), "1");
  producer.flush(0ms);
  ASSERT_TRUE(wait_until([&] { return producer.stats().reconnects >= 2; }));
  EXPECT_THAT(producer.stats().last_error, HasSubstr("25006"));
  sql()("alter role " + role_of(writer) + " reset default_transaction_read_only");
  ASSERT_TRUE(producer.flush(20s));
  EXPECT_NO_THROW(id.get());
  EXPECT_THAT(payloads_of(stored()), ElementsAre("1"));
}

TEST_F(BufferedProducerTest, ItsSessionIsNamedAndBehindAPoolerPreparesNothing) {
  BufferedProducer producer{dsn(), options()};
  EXPECT_GE(sql().number("select count(*) from pg_stat_activity where application_name = 'pgque producer'"), 1);
  auto settings = options();
  settings.pooled = true;
  BufferedProducer pooled{watched_dsn(), settings};
  for (int i = 0; i < 3; ++i) {
    auto id = pooled.send(queue(), "1");
    ASSERT_TRUE(pooled.flush(20s));
    EXPECT_NO_THROW(id.get());
  }
}

TEST_F(BufferedProducerTest, CanBeMovedAndIsOfNoUseThen) {
  BufferedProducer original{dsn(), options()};
  auto first = original.send(queue(), "1");
  BufferedProducer producer{std::move(original)};
  auto second = producer.send(queue(), "2");
  EXPECT_TRUE(producer.flush(20s));
  EXPECT_LT(first.get(), second.get());
  thrown<std::logic_error>([&] { original.send(queue(), "3"); });  // NOLINT(bugprone-use-after-move)
  thrown<std::logic_error>([&] { original.flush(0ms); });
  thrown<std::logic_error>([&] { original.stats(); });
  EXPECT_TRUE(original.close());
}

TEST_F(BufferedProducerTest, ItsLogMayLookAtItAndCloseIt) {
  std::unique_ptr<BufferedProducer> producer;
  std::atomic<int> looked{0};
  auto settings = options();
  settings.log = [&](const LogRecord& record) {
    if (record.event != LogEvent::batch_sent || !producer) return;
    EXPECT_EQ(producer->stats().sent, 1U);
    EXPECT_FALSE(producer->close());
    ++looked;
  };
  producer = std::make_unique<BufferedProducer>(dsn(), settings);
  auto id = producer->send(queue(), "1");
  EXPECT_TRUE(producer->flush(20s));
  EXPECT_NO_THROW(id.get());
  EXPECT_TRUE(producer->close());
  EXPECT_EQ(looked, 1);
}

}  // namespace
}  // namespace pgque::test
