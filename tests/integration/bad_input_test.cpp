// Arguments that are wrong, and names that only look it.

#include <algorithm>
#include <cctype>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

// One text argument of one verb.
struct TextArgument {
  const char* verb;
  const char* argument;  // as the error has to name it
  std::function<void(Operations&, const std::string& queue, const std::string& bad)> call;
};

const std::vector<TextArgument>& text_arguments() {
  using Ops = Operations;
  using Str = const std::string&;
  static const std::vector<TextArgument> all{
      {"send", "queue", [](Ops& ops, Str, Str bad) { ops.send(bad, "1"); }},
      {"send", "type", [](Ops& ops, Str q, Str bad) { ops.send(q, "1", bad); }},
      {"send", "payload", [](Ops& ops, Str q, Str bad) { ops.send(q, bad); }},
      {"send_text", "payload", [](Ops& ops, Str q, Str bad) { ops.send(q, text(bad)); }},
      {"send_event", "type",
       [](Ops& ops, Str q, Str bad) {
         ops.send(q, Event{"1", bad});
       }},
      {"send_batch", "queue", [](Ops& ops, Str, Str bad) { ops.send_batch(bad, "t", {"1"}); }},
      {"send_batch", "type", [](Ops& ops, Str q, Str bad) { ops.send_batch(q, bad, {"1"}); }},
      {"send_batch", "payloads[0]",
       [](Ops& ops, Str q, Str bad) {
         ops.send_batch(q, "t", {bad, "1"});
       }},
      {"send_batch", "payloads[2]",
       [](Ops& ops, Str q, Str bad) {
         ops.send_batch(q, "t", {text("1"), text("2"), text(bad)});
       }},
      {"send_event", "key",
       [](Ops& ops, Str q, Str bad) {
         ops.send(q, Event{"1", "t", bad});
       }},
      {"send_event", "headers, a name",
       [](Ops& ops, Str q, Str bad) {
         ops.send(q, Event{"1", "t", {}, {{bad, "v"}}});
       }},
      {"send_event", "headers[\"name\"]",
       [](Ops& ops, Str q, Str bad) {
         ops.send(q, Event{"1", "t", {}, {{"name", bad}}});
       }},
      {"send_batch", "queue",
       [](Ops& ops, Str, Str bad) {
         ops.send_batch(bad, {{"1", "t", "key"}});
       }},
      {"send_batch", "events[0].payload",
       [](Ops& ops, Str q, Str bad) {
         ops.send_batch(q, {{bad, "t"}, {"1", "t"}});
       }},
      {"send_batch", "events[1].type",
       [](Ops& ops, Str q, Str bad) {
         ops.send_batch(q, {{"1", "t"}, {"1", bad}});
       }},
      {"send_batch", "events[1].key",
       [](Ops& ops, Str q, Str bad) {
         ops.send_batch(q, {{"1", "t"}, {"1", "t", bad}});
       }},
      {"send_batch", "events[0].headers, a name",
       [](Ops& ops, Str q, Str bad) {
         ops.send_batch(q, {{"1", "t", {}, {{bad, "v"}}}, {"1", "t"}});
       }},
      {"send_batch", "events[2].headers[\"name\"]",
       [](Ops& ops, Str q, Str bad) {
         ops.send_batch(q, {{"1", "t"}, {"1", "t"}, {"1", "t", {}, {{"name", bad}}}});
       }},
      {"subscribe", "queue", [](Ops& ops, Str, Str bad) { ops.subscribe(bad, "c"); }},
      {"subscribe", "consumer", [](Ops& ops, Str q, Str bad) { ops.subscribe(q, bad); }},
      {"unsubscribe", "queue", [](Ops& ops, Str, Str bad) { ops.unsubscribe(bad, "c"); }},
      {"unsubscribe", "consumer", [](Ops& ops, Str q, Str bad) { ops.unsubscribe(q, bad); }},
      {"receive", "queue", [](Ops& ops, Str, Str bad) { ops.receive(bad, "c"); }},
      {"receive", "consumer", [](Ops& ops, Str q, Str bad) { ops.receive(q, bad); }},
      {"nack", "reason",
       [](Ops& ops, Str, Str bad) {
         ops.nack(no_batch, no_event, NackOptions{std::chrono::seconds{1}, bad});
       }},
      {"subscribe_subconsumer", "queue", [](Ops& ops, Str, Str bad) { ops.subscribe_subconsumer(bad, "c", "w"); }},
      {"subscribe_subconsumer", "consumer", [](Ops& ops, Str q, Str bad) { ops.subscribe_subconsumer(q, bad, "w"); }},
      {"subscribe_subconsumer", "subconsumer",
       [](Ops& ops, Str q, Str bad) { ops.subscribe_subconsumer(q, "c", bad); }},
      {"unsubscribe_subconsumer", "queue", [](Ops& ops, Str, Str bad) { ops.unsubscribe_subconsumer(bad, "c", "w"); }},
      {"unsubscribe_subconsumer", "consumer",
       [](Ops& ops, Str q, Str bad) { ops.unsubscribe_subconsumer(q, bad, "w"); }},
      {"unsubscribe_subconsumer", "subconsumer",
       [](Ops& ops, Str q, Str bad) { ops.unsubscribe_subconsumer(q, "c", bad); }},
      {"receive_coop", "queue", [](Ops& ops, Str, Str bad) { ops.receive_coop(bad, "c", "w"); }},
      {"receive_coop", "consumer", [](Ops& ops, Str q, Str bad) { ops.receive_coop(q, bad, "w"); }},
      {"receive_coop", "subconsumer", [](Ops& ops, Str q, Str bad) { ops.receive_coop(q, "c", bad); }},
      {"touch_subconsumer", "queue", [](Ops& ops, Str, Str bad) { ops.touch_subconsumer(bad, "c", "w"); }},
      {"touch_subconsumer", "consumer", [](Ops& ops, Str q, Str bad) { ops.touch_subconsumer(q, bad, "w"); }},
      {"touch_subconsumer", "subconsumer", [](Ops& ops, Str q, Str bad) { ops.touch_subconsumer(q, "c", bad); }},
      {"force_next_tick", "queue", [](Ops& ops, Str, Str bad) { ops.force_next_tick(bad); }},
      {"ticker", "queue", [](Ops& ops, Str, Str bad) { ops.ticker(bad); }},
  };
  return all;
}

class BadTextTest : public WayTest {
 protected:
  // That the argument is refused, by its name.
  void expect_refused(const TextArgument& argument, const std::string& bad, const std::string& because) {
    SCOPED_TRACE(std::string{argument.verb} + ' ' + argument.argument + " = " + testing::PrintToString(bad));
    try {
      call([&](Operations& ops) { argument.call(ops, queue(), bad); });
      ADD_FAILURE() << "was accepted";
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), StartsWith(argument.argument + (": " + because)));
    }
  }
  static bool is_name(const TextArgument& argument) {
    const std::string name{argument.argument};
    return name == "queue" || name == "consumer" || name == "subconsumer";
  }
};
INSTANTIATE_TEST_SUITE_P(By, BadTextTest, testing::Values(Way::client, Way::transaction, Way::callers_work), way_name);

TEST_P(BadTextTest, NulBytesAreRefused) {
  for (const auto& argument : text_arguments()) {
    expect_refused(argument, std::string{"a\0b", 3}, "contains a NUL byte, which PostgreSQL cannot store, at offset 1");
    expect_refused(argument, std::string{"twelve bytes\0", 13}, "contains a NUL byte");
    expect_refused(argument, std::string{"\0", 1}, "contains a NUL byte");
  }
}

TEST_P(BadTextTest, InvalidUtf8IsRefused) {
  for (const auto& argument : text_arguments()) {
    for (const auto* bad : {"\xFF", "latin1 \xE9", "\xC3", "ends early \xE2\x82", "\x80", "\xC0\xAF", "\xED\xA0\x80",
                            "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80"}) {
      expect_refused(argument, bad, "is not valid UTF-8 at offset ");
    }
  }
}

TEST_P(BadTextTest, EmptyNamesAreRefused) {
  for (const auto& argument : text_arguments()) {
    if (is_name(argument)) expect_refused(argument, "", "must not be empty");
  }
}

// A DSN in the place of a name is a mistake that would show its password in the server's log.
TEST_P(BadTextTest, DsnsAreRefusedAsNamesAndNotShown) {
  for (const auto& argument : text_arguments()) {
    if (!is_name(argument)) continue;
    for (const auto* dsn : {"postgresql://u:s3cret@h/db", "host=h password=s3cret"}) {
      EXPECT_THAT([&] { call([&](Operations& ops) { argument.call(ops, queue(), dsn); }); },
                  testing::ThrowsMessage<std::invalid_argument>(testing::StrEq(
                      argument.argument + std::string{": is a DSN, which is not shown here, and not a name"})))
          << argument.verb;
    }
  }
}

TEST_P(BadTextTest, QueueNamesOfMoreThan57BytesAreRefused) {
  for (const auto& argument : text_arguments()) {
    if (std::string{argument.argument} != "queue") continue;
    expect_refused(argument, std::string(58, 'q'), "the name has 58 bytes, PgQue allows at most 57");
    std::string snowmen;
    while (snowmen.size() <= 57) snowmen += "☃";  // 20 characters, 60 bytes
    expect_refused(argument, snowmen, "the name has 60 bytes, PgQue allows at most 57");
  }
}

TEST_P(BadTextTest, ConsumerNamesTooLongForTheServerAreItsError) {
  std::mt19937 random{1};
  std::string name;  // an index entry holds 2704 bytes after compression, which does not help here
  while (name.size() < 8000) {
    const auto c = static_cast<char>('!' + random() % 90);
    if (c != '#') name += c;  // PgQue 0.3 reserves it, and would refuse the name for that before its length matters
  }
  const auto error = thrown<Error>([&] { call([&](Operations& ops) { return ops.subscribe(queue(), name); }); });
  EXPECT_EQ(error.sqlstate(), "54000");
  std::string undotted = name;
  std::replace(undotted.begin(), undotted.end(), '.', '_');
  ReceiveCoopOptions limited;
  limited.max_messages = 1;
  EXPECT_EQ(thrown<Error>([&] {  // not taken for a batch that is too large
              call([&](Operations& ops) { return ops.receive_coop(queue(), undotted, "w", limited); });
            })
                .sqlstate(),
            "54000");
  EXPECT_EQ(class_thrown([&] { call([&](Operations& ops) { return ops.receive(queue(), name); }); }),
            "ConsumerNotFound");
}

TEST_P(BadTextTest, LongNamesAreCutBetweenCharactersInErrors) {
  std::string name = "x";
  while (name.size() < 200) name += "é";
  const auto error =
      thrown<ConsumerNotFound>([&] { call([&](Operations& ops) { return ops.receive(queue(), name); }); });
  EXPECT_THAT(error.operation(), HasSubstr("...\""));
  EXPECT_THAT(error.operation(), testing::Not(HasSubstr("\xC3...")));
}

class OddNameTest : public WayTest {};
INSTANTIATE_TEST_SUITE_P(By, OddNameTest, testing::ValuesIn(every_way), way_name);

TEST_P(OddNameTest, NamesOfAllKindsWorkInEveryVerb) {
  for (const auto* prefix : {"with space", "UPPER lower", "it's", "\"quoted\"", "semi; drop table x; --",
                             "Ünïcödé ☃ 注文", "back\\slash", "{a,b}", "$1 %s :x ?", "new\nline", " "}) {
    SCOPED_TRACE(prefix);
    TestQueue odd{sql(), prefix};
    const auto consumer = std::string{"consumer "} + prefix;
    const auto group = std::string{"group "} + prefix;
    const auto member = std::string{"member "} + prefix;
    EXPECT_TRUE(call([&](Operations& ops) { return ops.subscribe(odd, consumer); }));
    EXPECT_FALSE(call([&](Operations& ops) { return ops.subscribe(odd, consumer); }));
    EXPECT_TRUE(call([&](Operations& ops) { return ops.subscribe_subconsumer(odd, group, member); }));
    EXPECT_TRUE(call([&](Operations& ops) { return ops.touch_subconsumer(odd, group, member); }));
    const auto id = call([&](Operations& ops) { return ops.send(odd, "1", prefix); });
    const auto ids = call([&](Operations& ops) { return ops.send_batch(odd, prefix, {"2"}); });
    EXPECT_TRUE(call([&](Operations& ops) { return ops.force_next_tick(odd); }));
    EXPECT_TRUE(call([&](Operations& ops) { return ops.ticker(odd); }));
    const auto messages = call([&](Operations& ops) { return ops.receive(odd, consumer); });
    EXPECT_THAT(ids_of(messages), ElementsAre(id, ids.at(0)));
    EXPECT_THAT(types_of(messages), ElementsAre(prefix, prefix));
    EXPECT_THAT(call([&](Operations& ops) { return ops.receive_coop(odd, group, member); }), SizeIs(2));
    call([&](Operations& ops) { ops.nack(messages.at(0), NackOptions{std::chrono::seconds{60}, prefix}); });
    EXPECT_TRUE(ack(messages[0].batch_id));
    EXPECT_TRUE(
        call([&](Operations& ops) { return ops.unsubscribe_subconsumer(odd, group, member, BatchHandling::retry); }));
    EXPECT_TRUE(call([&](Operations& ops) { return ops.unsubscribe(odd, consumer); }));
  }
}

TEST_P(OddNameTest, NamesThatDifferInCaseAreDifferent) {
  TestQueue upper{sql(), "CASE"};
  std::string lower = upper.name();
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  EXPECT_EQ(class_thrown([&] { call([&](Operations& ops) { return ops.send(lower, "1"); }); }), "QueueNotFound");
}

TEST_P(OddNameTest, AQueueNameOf57BytesWorks) {
  const auto used = unique_name("").size();
  TestQueue longest{sql(), std::string(57 - used - 3, 'q')};  // the counter and the random part may take more digits
  ASSERT_GE(longest.name().size(), 50U);
  ASSERT_LE(longest.name().size(), 57U);
  EXPECT_TRUE(call([&](Operations& ops) { return ops.subscribe(longest, "c"); }));
  EXPECT_NO_THROW(call([&](Operations& ops) { return ops.send(longest, "1"); }));
}

}  // namespace
}  // namespace pgque::test
