// Events with keys and headers, alone and in batches of any mixture, and what sees them before they are sent.

#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/buffered_producer.hpp>
#include <pgque/json.hpp>
#include <pgque/pqxx.hpp>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

class EventTest : public WayTest {
 protected:
  EventId send_event(const Event& event) {
    return call([&](Operations& ops) { return ops.send(queue(), event); });
  }
  std::vector<EventId> send_events(const std::vector<Event>& events) {
    return call([&](Operations& ops) { return ops.send_batch(queue(), events); });
  }
};
INSTANTIATE_TEST_SUITE_P(By, EventTest, testing::ValuesIn(every_way), way_name);

TEST_P(EventTest, KeyAndHeadersArriveInTheirColumns) {
  subscribe();
  Event event{nlohmann::json{{"order_id", 42}}, "order.created"};
  event.key = "customer-7 \"ü\" \\ {,}";
  event.headers["traceparent"] = traceparent;
  event.headers["日本 \"quoted\" \\"] = "tab\t line\n nothing else \x01\x7F 🚀";
  const auto id = send_event(event);
  const auto messages = deliver();
  ASSERT_THAT(ids_of(messages), ElementsAre(id));
  const auto& message = messages[0];
  EXPECT_EQ(message.type, "order.created");
  EXPECT_EQ(message.payload, R"({"order_id":42})");
  EXPECT_EQ(message.extra1, event.key);
  EXPECT_EQ(message.extra2, std::nullopt);
  EXPECT_EQ(message.extra3, std::nullopt);
  EXPECT_EQ(message.headers(), event.headers);
  EXPECT_EQ(message.header("traceparent"), traceparent);
  EXPECT_EQ(message.header("tracestate"), std::nullopt);
}

TEST_P(EventTest, WhatAnEventDoesNotHaveIsNull) {
  subscribe();
  const Headers headers{{"a", "b"}};
  send_event({"1"});
  send_event({"2", "t", "key"});
  send_event({"3", "", {}, headers});
  send_events({{"4"}, {"5", "", "key"}, {"6", "t", {}, headers}});
  const auto messages = deliver();
  ASSERT_THAT(messages, SizeIs(6));
  EXPECT_THAT(types_of(messages), ElementsAre("default", "t", "default", "default", "default", "t"));
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto& message = messages[i];
    EXPECT_EQ(message.extra1, i % 3 == 1 ? std::optional<std::string>{"key"} : std::nullopt) << i;
    EXPECT_EQ(message.extra4, i % 3 == 2 ? std::optional<std::string>{R"({"a":"b"})"} : std::nullopt) << i;
  }
}

TEST_P(EventTest, PayloadsOfEachKindAreStoredAsWithoutAKey) {
  subscribe();
  const std::vector<Payload> payloads{R"({"b":1,"a":2})", text(R"({"b":1,"a":2})"),       nullptr,  std::nullopt,
                                      text("not json"),   nlohmann::json{{"k", "\"v\""}}, text(""), R"("s")"};
  std::vector<Event> events;
  for (const auto& payload : payloads) {
    send(payload);
    send_event({payload, "t", "key"});
    events.push_back({payload, "t", "key"});
  }
  send_events(events);
  const auto stored = payloads_of(deliver());
  ASSERT_THAT(stored, SizeIs(3 * payloads.size()));
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    EXPECT_EQ(stored[2 * i + 1], stored[2 * i]);
    EXPECT_EQ(stored[2 * payloads.size() + i], stored[2 * i]);
  }
}

TEST_P(EventTest, ABatchMixesTypesKeysHeadersAndPayloadsInOneTransactionAndKeepsTheirOrder) {
  subscribe();
  const std::vector<Event> events{
      {R"({"b":1, "a":2})", "order.created"},
      {text("x"), "order.created", "customer-7"},
      {nullptr, "metric", {}, {{"traceparent", traceparent}}},
      {std::nullopt, "order.created", "NULL", {{"a", ""}, {"b", "{}"}}},
      {text(""), ""},
      {nlohmann::json{{"n", 1}}, "it's {\"quoted\",}"},
  };
  const auto ids = send_events(events);
  ASSERT_THAT(ids, SizeIs(events.size()));
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  const auto messages = deliver();
  ASSERT_EQ(ids_of(messages), ids);
  EXPECT_THAT(payloads_of(messages), ElementsAre(R"({"a": 2, "b": 1})", "x", "null", std::nullopt, "", R"({"n":1})"));
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(messages[i].type, events[i].type.empty() ? "default" : events[i].type);
    EXPECT_EQ(messages[i].extra1, events[i].key);
    EXPECT_EQ(messages[i].headers(), events[i].headers);
    EXPECT_EQ(messages[i].created_at, messages[0].created_at);
  }
}

TEST_P(EventTest, AThousandOfAnyMixtureKeepTheirOrder) {
  subscribe();
  std::vector<Event> events;
  for (int i = 0; i < 1000; ++i) {
    Event event{i % 3 == 0 ? Payload{std::to_string(i)} : text(std::to_string(i)), "type-" + std::to_string(i % 7)};
    if (i % 2 == 0) event.key = "key-" + std::to_string(i);
    if (i % 5 == 0) event.headers["number"] = std::to_string(i);
    events.push_back(std::move(event));
  }
  const auto ids = send_events(events);
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  EXPECT_THAT(std::set<EventId>(ids.begin(), ids.end()), SizeIs(1000));
  const auto messages = deliver();
  ASSERT_EQ(ids_of(messages), ids);
  for (std::size_t i = 0; i < events.size(); ++i) {
    ASSERT_EQ(messages[i].payload, std::to_string(i));
    ASSERT_EQ(messages[i].type, events[i].type);
    ASSERT_EQ(messages[i].extra1, events[i].key);
    ASSERT_EQ(messages[i].headers(), events[i].headers);
  }
}

TEST_P(EventTest, AnEmptyListSendsNothing) {
  subscribe();
  EXPECT_THAT(send_events({}), IsEmpty());
  EXPECT_THAT(call([](Operations& ops) { return ops.send_batch(unique_name("none"), std::vector<Event>{}); }),
              IsEmpty());
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(EventTest, MalformedJsonFailsAsItDoesWithoutAKeyAndNothingIsStored) {
  subscribe();
  const struct {
    const char* json;
    const char* state;
  } cases[] = {{"{bad", "22P02"}, {R"("\u0000")", "22P05"}};
  for (const auto& one : cases) {
    EXPECT_EQ(thrown<Error>([&] { send_event({one.json, "t", "key"}); }).sqlstate(), one.state);
    const std::vector<Event> events{{"1", "t", "key"}, {text("x"), "u"}, {one.json, "t"}};
    EXPECT_EQ(thrown<Error>([&] { send_events(events); }).sqlstate(), one.state);
  }
  EXPECT_THAT(deliver(), IsEmpty());
}

TEST_P(EventTest, AQueueThatDoesNotExistIsNamed) {
  const auto nowhere = unique_name("none");
  const auto expect_not_found = [&](const std::function<void(Operations&)>& run) {
    EXPECT_THAT(thrown<QueueNotFound>([&] { call(run); }).what(), HasSubstr(nowhere));
  };
  expect_not_found([&](Operations& ops) { ops.send(nowhere, Event{"1", "t", "key"}); });
  expect_not_found([&](Operations& ops) { ops.send_batch(nowhere, {{"1", "t", "key"}, {"2"}}); });
}

TEST_P(EventTest, WhatIsWrongWithAnEventIsNamedAndNothingIsStored) {
  subscribe();
  const struct {
    Event event;
    const char* error;
  } cases[] = {
      {{"1", "t", ""}, "key: must not be empty; an event without a key has none"},
      {{"1", "t", std::string(1025, 'k')}, "key: has 1025 bytes, must have at most 1024"},
      {{"1", "t", {}, {{"", "v"}}}, "headers, a name: must not be empty"},
      {{"1", "t", {}, {{std::string(257, 'n'), "v"}}}, "headers, a name: has 257 bytes, must have at most 256"},
      {{"1", "t", {}, {{"name", "\xFF"}}}, "headers[\"name\"]: is not valid UTF-8 at offset 0"},
  };
  for (const auto& one : cases) {
    EXPECT_STREQ(thrown<std::invalid_argument>([&] { send_event(one.event); }).what(), one.error);
    const std::vector<Event> events{{"1"}, {"2", "t", "key"}, {"3"}, one.event};
    EXPECT_EQ(thrown<std::invalid_argument>([&] { send_events(events); }).what(),
              std::string{"events[3]."} + one.error);
  }
  send_event({"1", "t", std::string(1024, 'k'), {{std::string(256, 'n'), std::string(100'000, 'v')}}});
  const auto messages = deliver();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].extra1, std::string(1024, 'k'));
  EXPECT_EQ(messages[0].header(std::string(256, 'n')), std::string(100'000, 'v'));
}

TEST_P(EventTest, AMessageIsSentOnWithItsKeyAndHeaders) {
  subscribe();
  send_event({text(" {not json"), "order.created", "customer-7", {{"traceparent", traceparent}}});
  const auto received = deliver();
  ASSERT_THAT(received, SizeIs(1));
  ack(received[0].batch_id);
  auto event = to_event(received[0]);
  send_event(event);
  event.headers["hops"] = "2";
  send_events({event, event});
  call([&](Operations& ops) { return ops.send(queue(), received[0]); });
  const auto messages = deliver();
  ASSERT_THAT(messages, SizeIs(4));
  EXPECT_THAT(payloads_of(messages), Each(received[0].payload));
  EXPECT_THAT(types_of(messages), Each(received[0].type));
  EXPECT_EQ(messages[0].extra1, "customer-7");
  EXPECT_EQ(messages[0].headers(), received[0].headers());
  EXPECT_EQ(messages[1].headers(), event.headers);
  EXPECT_EQ(messages[2].extra1, "customer-7");
  EXPECT_EQ(messages[3].extra1, std::nullopt);
  EXPECT_EQ(messages[3].extra4, std::nullopt);
}

class EventLifeTest : public DatabaseTest {
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
  Client& client() { return *client_; }
  std::vector<Message> deliver() {
    queue().tick();
    return client().receive(queue(), consumer_name());
  }

 private:
  std::optional<Client> client_;
};

TEST_F(EventLifeTest, KeyAndHeadersSurviveRetryDeadLetterAndReplay) {
  queue().config("max_retries", "1");
  const Event sent{text("payload"), "t", "customer-7", {{"traceparent", traceparent}, {"a", "\"b\""}}};
  client().send(queue(), sent);
  const auto expect_the_same = [&](const std::vector<Message>& messages, std::optional<std::int32_t> retries) {
    ASSERT_THAT(messages, SizeIs(1));
    EXPECT_EQ(messages[0].retry_count, retries);
    EXPECT_EQ(messages[0].payload, sent.payload.text());
    EXPECT_EQ(messages[0].type, sent.type);
    EXPECT_EQ(messages[0].extra1, sent.key);
    EXPECT_EQ(messages[0].headers(), sent.headers);
    client().nack(messages[0], {std::chrono::seconds{0}, "not now"});
    EXPECT_TRUE(client().ack(messages[0].batch_id));
  };
  expect_the_same(deliver(), std::nullopt);
  queue().expire_retries();
  expect_the_same(client().receive(queue(), consumer_name()), 1);
  ASSERT_EQ(queue().dead_letters(), 1);
  Admin admin{dsn(), client_options()};
  EXPECT_EQ(admin.replay_dead_letters(queue()).replayed, 1);
  expect_the_same(deliver(), std::nullopt);
}

// As pgque-py reads it.
TEST_F(EventLifeTest, APlainReceiveOfAnyClientReadsItUnharmed) {
  client().send(queue(), Event{R"({"a": 1})", "t", "customer-7", {{"traceparent", traceparent}}});
  client().send_batch(queue(), {{R"({"b": 2})", "u", "customer-8"}, {R"({"c": 3})", "u"}});
  queue().tick();
  const auto received = "pgque.receive(" + sql().quote(queue().name()) + ", " + sql().quote(consumer_name()) + ", 100)";
  const auto rows = sql()("select * from " + received);
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_STREQ(rows[0]["type"].c_str(), "t");
  EXPECT_STREQ(rows[0]["payload"].c_str(), R"({"a": 1})");
  EXPECT_STREQ(rows[0]["extra1"].c_str(), "customer-7");
  EXPECT_TRUE(rows[0]["retry_count"].is_null());
  EXPECT_TRUE(rows[0]["extra2"].is_null());
  EXPECT_STREQ(rows[1]["payload"].c_str(), R"({"b": 2})");
  EXPECT_STREQ(rows[1]["extra1"].c_str(), "customer-8");
  EXPECT_TRUE(rows[1]["extra4"].is_null());
  EXPECT_STREQ(rows[2]["payload"].c_str(), R"({"c": 3})");
  EXPECT_TRUE(rows[2]["extra1"].is_null());
  // The headers as everything that reads JSON reads them.
  EXPECT_EQ(sql().value("select extra4::jsonb ->> 'traceparent' from " + received + " order by msg_id"), traceparent);
}

// What has no key and no headers costs what it did before.
TEST_F(EventLifeTest, EventsWithoutExtrasKeepTheirStatements) {
  const auto statements = [&] {
    std::set<std::string> names;
    pqxx::nontransaction look{native(client())};
    for (const auto& row : look.exec("select name from pg_prepared_statements where name like '%send%' or "
                                     "name like '%insert%'")) {
      names.insert(row[0].c_str());
    }
    return names;
  };
  client().send(queue(), Event{"1", "t"});
  client().send_batch(queue(), {{text("2"), "t"}, {text("3"), "t"}});
  client().send_batch(queue(), {{"4", ""}, {"5", "default"}});
  client().send_batch(queue(), {{"6", "t"}, {text("7"), "t"}});
  EXPECT_THAT(statements(), ElementsAre(HasSubstr("pgque_send_batch_json"), HasSubstr("pgque_send_batch_mixed"),
                                        HasSubstr("pgque_send_batch_text"), HasSubstr("pgque_send_json")));
  client().send_batch(queue(), {{"8", "t"}, {"9", "u"}});
  EXPECT_THAT(statements(), SizeIs(5));
}

// Which calls pass their events to an interceptor.
class OnSendTest : public EventLifeTest {
 protected:
  // Everything that sends, once.
  void send_all(Operations& ops, const Message& message) {
    ops.send(queue(), "1");
    ops.send(queue(), "2", "t");
    ops.send(queue(), Event{"3", "t", "key", {{"own", "header"}}});
    ops.send(queue(), message, "t");
    ops.send_batch(queue(), "t", {"5", text("6")});
    ops.send_batch(queue(), {{"7", "t"}, {"8", "u", "key"}});
  }
  static ClientOptions with(OnSend on_send) {
    auto options = client_options();
    options.on_send = std::move(on_send);
    return options;
  }
  // Numbers the events that it sees.
  OnSend numbering() {
    return [this](Event& event) { event.headers["number"] = std::to_string(++seen_); };
  }
  void expect_all_numbered(std::size_t count) {
    const auto messages = deliver();
    ASSERT_THAT(messages, SizeIs(count));
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(messages[i].header("number"), std::to_string(i + 1));
  }

 private:
  int seen_ = 0;
};

TEST_F(OnSendTest, SeesEachEventOfEachCallInOrder) {
  Message message;
  message.payload = "4";
  Client client{dsn(), with(numbering())};
  send_all(client, message);
  auto moved = std::move(client);
  send_all(moved, message);
  auto transaction = moved.begin();
  send_all(transaction, message);
  transaction.commit();
  Sql own{dsn()};
  auto borrowed = borrow(own.connection(), numbering());
  send_all(borrowed, message);
  {
    pqxx::work work{own.connection()};
    Transaction callers{work, numbering()};
    send_all(callers, message);
    pqxx::dbtransaction& same = work;
    Transaction{same, numbering()}.send(queue(), text("last"));
    work.commit();
  }
  expect_all_numbered(5 * 8 + 1);
}

TEST_F(OnSendTest, SeesTheTypeThatAnEmptyOneStandsFor) {
  std::vector<std::string> types;
  const auto see = [&](Event& event) { types.push_back(event.type); };
  Message message;
  message.payload = "1";
  Client client{dsn(), with(see)};
  client.send(queue(), "1", "");
  client.send(queue(), message);
  client.send(queue(), Event{"1", ""});
  client.send_batch(queue(), "", {"1"});
  BufferedProducerOptions options;
  options.pooled = pooled();
  options.on_send = see;
  BufferedProducer producer{dsn(), options};
  producer.send(queue(), message);
  producer.send(queue(), "1", "");
  EXPECT_THAT(types, ElementsAre("default", "default", "default", "default", "default", "default"));
}

TEST_F(OnSendTest, WithoutOneTheCallersTransactionIsLeftAlone) {
  Sql own{dsn()};
  pqxx::work work{own.connection()};
  Transaction{work}.send(queue(), "1");
  work.commit();
  const auto messages = deliver();
  ASSERT_THAT(messages, SizeIs(1));
  EXPECT_EQ(messages[0].extra4, std::nullopt);
}

TEST_F(OnSendTest, MayChangeEverythingAndTheResultIsWhatIsChecked) {
  Client sender{dsn(), with([](Event& event) {
                  if (event.type == "wrong") {
                    event = {text("right"), "right", "key", {{"a", "b"}}};
                  } else {
                    event.headers[""] = "no name";
                  }
                })};
  sender.send(queue(), text("\xFF"), "wrong");
  sender.send_batch(queue(), "wrong", {text("\xFF"), "{bad"});
  EXPECT_STREQ(thrown<std::invalid_argument>([&] { sender.send(queue(), "1", "t"); }).what(),
               "headers, a name: must not be empty");
  EXPECT_STREQ(thrown<std::invalid_argument>([&] {
                 sender.send_batch(queue(), {{"1", "wrong"}, {"2", "t"}});
               }).what(),
               "events[1].headers, a name: must not be empty");
  const auto messages = deliver();
  EXPECT_THAT(payloads_of(messages), ElementsAre("right", "right", "right"));
  EXPECT_THAT(types_of(messages), Each(std::optional<std::string>{"right"}));
  for (const auto& message : messages) EXPECT_EQ(message.extra1, "key");
}

TEST_F(OnSendTest, DoesNotChangeTheCallersEvent) {
  Client sender{dsn(), with([](Event& event) { event.key = "changed"; })};
  const Event event{"1", "t"};
  const std::vector<Event> events{event, event};
  sender.send(queue(), event);
  sender.send_batch(queue(), events);
  EXPECT_EQ(event.key, std::nullopt);
  EXPECT_EQ(events[0].key, std::nullopt);
  for (const auto& message : deliver()) EXPECT_EQ(message.extra1, "changed");
}

TEST_F(OnSendTest, AnExceptionReachesTheCallerAndNothingIsSent) {
  Client sender{dsn(), with([](Event& event) {
                  if (event.type == "refused") throw std::domain_error{"not this one"};
                })};
  const auto expect_refused = [&](const std::function<void()>& send) {
    EXPECT_STREQ(thrown<std::domain_error>(send).what(), "not this one");
  };
  expect_refused([&] { sender.send(queue(), "1", "refused"); });
  expect_refused([&] { sender.send_batch(queue(), {{"1", "t"}, {"2", "refused"}}); });
  auto transaction = sender.begin();
  transaction.send(queue(), "3", "t");
  expect_refused([&] { transaction.send(queue(), "4", "refused"); });
  expect_refused([&] { transaction.send_batch(queue(), "refused", {"5"}); });
  transaction.send(queue(), "6", "t");
  transaction.commit();
  sender.send(queue(), "7", "t");
  EXPECT_THAT(payloads_of(deliver()), ElementsAre("3", "6", "7"));
}

TEST_F(OnSendTest, SeveralAreCalledInTheOrderOfTheirChain) {
  const auto appending = [](const char* what) { return [what](Event& event) { event.type += what; }; };
  Client sender{dsn(), with(chain({appending("a"), appending("b"), appending("c")}))};
  sender.send(queue(), "1", "t");
  EXPECT_THAT(types_of(deliver()), ElementsAre("tabc"));
}

}  // namespace
}  // namespace pgque::test
