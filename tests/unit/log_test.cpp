#include <pgque/log.hpp>

#include <atomic>
#include <chrono>
#include <ctime>
#include <sstream>
#include <streambuf>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace pgque::test {
namespace {

std::string written(const LogRecord& record) {
  testing::internal::CaptureStderr();
  log_to_stderr(record);
  return testing::internal::GetCapturedStderr();
}

TEST(Log, NamesItsLevels) {
  EXPECT_EQ(to_string(LogLevel::debug), "debug");
  EXPECT_EQ(to_string(LogLevel::info), "info");
  EXPECT_EQ(to_string(LogLevel::warning), "warning");
  EXPECT_EQ(to_string(LogLevel::error), "error");
  EXPECT_EQ(to_string(static_cast<LogLevel>(9)), "unknown");
}

TEST(Log, NamesItsEvents) {
  const std::vector<std::pair<LogEvent, std::string_view>> names{
      {LogEvent::started, "started"},
      {LogEvent::stopped, "stopped"},
      {LogEvent::connected, "connected"},
      {LogEvent::connection_lost, "connection_lost"},
      {LogEvent::listen_unavailable, "listen_unavailable"},
      {LogEvent::batch_received, "batch_received"},
      {LogEvent::batch_acked, "batch_acked"},
      {LogEvent::batch_abandoned, "batch_abandoned"},
      {LogEvent::batch_lost, "batch_lost"},
      {LogEvent::batch_taken_over, "batch_taken_over"},
      {LogEvent::stale_ack, "stale_ack"},
      {LogEvent::handler_failed, "handler_failed"},
      {LogEvent::unknown_type, "unknown_type"},
      {LogEvent::nack_failed, "nack_failed"},
      {LogEvent::failed, "failed"},
      {LogEvent::leader, "leader"},
      {LogEvent::standby, "standby"},
      {LogEvent::batch_sent, "batch_sent"},
      {LogEvent::batch_refused, "batch_refused"},
      {LogEvent::batch_in_doubt, "batch_in_doubt"},
      {LogEvent::events_dropped, "events_dropped"},
      {LogEvent::batch_postponed, "batch_postponed"},
      {LogEvent::unbounded_batches, "unbounded_batches"},
      {LogEvent::crash_suspected, "crash_suspected"},
      {LogEvent::handler_stuck, "handler_stuck"},
      {LogEvent::slow_batch, "slow_batch"},
      {LogEvent::dead_lettered, "dead_lettered"},
      {LogEvent::give_up_refused, "give_up_refused"},
      {LogEvent::no_ticks, "no_ticks"},
      {LogEvent::key_in_group, "key_in_group"},
  };
  for (const auto& [event, name] : names) EXPECT_EQ(to_string(event), name);
  EXPECT_EQ(to_string(static_cast<LogEvent>(names.size())), "unknown");  // the list is complete
}

TEST(LogToStderr, WritesEveryFieldInOneLine) {
  LogRecord record{LogLevel::warning, LogEvent::handler_failed, "handler error: no"};
  record.queue = "orders";
  record.consumer = "worker";
  record.batch_id = BatchId{12};
  record.msg_id = EventId{345};
  record.attempt = 2;
  record.sqlstate = "P0001";
  record.type = "order.created";
  record.retry_in = std::chrono::seconds{60};
  EXPECT_EQ(written(record),
            "pgque warning handler_failed queue=orders consumer=worker batch=12 message=345 attempt=2 "
            "type=order.created retry_in=60s sqlstate=P0001: handler error: no\n");
}

TEST(LogToStderr, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(written({LogLevel::error, LogEvent::failed, "no"}), "pgque error failed: no\n");
}

TEST(LogToStderr, WritesIdsThatAreZero) {
  LogRecord record{LogLevel::error, LogEvent::failed, "no"};
  record.msg_id = EventId{0};
  EXPECT_EQ(written(record), "pgque error failed message=0: no\n");
}

TEST(LogToStderr, MakesOneLineOfSeveral) {
  LogRecord record{LogLevel::error, LogEvent::failed, "first\nsecond\n"};
  record.queue = "a\nb";
  EXPECT_EQ(written(record), "pgque error failed queue=a b: first second \n");
}

TEST(LogToStderr, WritesNothingBelowWarning) {
  EXPECT_EQ(written({LogLevel::debug, LogEvent::batch_acked, "x"}), "");
  EXPECT_EQ(written({LogLevel::info, LogEvent::started, "x"}), "");
  EXPECT_NE(written({LogLevel::warning, LogEvent::stale_ack, "x"}), "");
}

// The object on the only line that a sink of its own makes of the record.
nlohmann::ordered_json line_of(const LogRecord& record) {
  std::ostringstream out;
  json_lines(out)(record);
  const auto text = out.str();
  EXPECT_EQ(text.find('\n'), text.size() - 1) << text;
  return nlohmann::ordered_json::parse(text);
}

std::vector<std::string> names_of(const nlohmann::ordered_json& object) {
  std::vector<std::string> names;
  for (const auto& member : object.items()) names.push_back(member.key());
  return names;
}

LogRecord full_record() {
  LogRecord record{LogLevel::warning, LogEvent::handler_failed, "no"};
  record.queue = "orders";
  record.consumer = "worker.w1";
  record.batch_id = BatchId{12};
  record.msg_id = EventId{9223372036854775807};
  record.attempt = 2;
  record.sqlstate = "40001";
  record.type = "order.created";
  record.retry_in = std::chrono::seconds{60};
  return record;
}

TEST(JsonLines, WriteEveryFieldThatIsSet) {
  auto line = line_of(full_record());
  EXPECT_THAT(names_of(line), testing::ElementsAre("time", "level", "event", "message", "queue", "consumer", "batch_id",
                                                   "msg_id", "attempt", "sqlstate", "type", "retry_in"));
  line.erase("time");
  EXPECT_EQ(line.dump(),
            R"({"level":"warning","event":"handler_failed","message":"no","queue":"orders","consumer":"worker.w1",)"
            R"("batch_id":12,"msg_id":9223372036854775807,"attempt":2,"sqlstate":"40001",)"
            R"("type":"order.created","retry_in":60})");
}

TEST(JsonLines, WriteNoFieldThatIsNotSet) {
  EXPECT_THAT(names_of(line_of({LogLevel::debug, LogEvent::batch_acked, ""})),
              testing::ElementsAre("time", "level", "event", "message"));
}

TEST(JsonLines, TellTheTimeInUtcToTheMicrosecond) {
  const auto before = std::time(nullptr);
  const std::string text = line_of({LogLevel::info, LogEvent::started, "x"})["time"];
  const auto after = std::time(nullptr);
  EXPECT_THAT(text, testing::MatchesRegex("....-..-..T..:..:..[.]......Z"));
  EXPECT_EQ(text.find_first_not_of("0123456789-T:.Z"), std::string::npos) << text;
  std::tm parts{};
  ASSERT_NE(::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts), nullptr);
  EXPECT_LE(before, ::timegm(&parts));
  EXPECT_LE(::timegm(&parts), after);
}

TEST(JsonLines, AreValidJsonWhateverIsInTheRecord) {
  LogRecord record{LogLevel::error, LogEvent::failed, "\"quoted\" \\ \n\t\x01 \xC3\xA9 \xFF\xC3"};
  const std::string with_nul{"a\0b", 3};
  record.queue = with_nul;
  record.consumer = "\xED\xA0\x80";  // half of a surrogate pair
  const auto line = line_of(record);
  EXPECT_EQ(line["message"], "\"quoted\" \\ \n\t\x01 \xC3\xA9 \xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(line["queue"],
            "a\xEF\xBF\xBD"
            "b");
  EXPECT_THAT(std::string{line["consumer"]}, testing::StartsWith("\xEF\xBF\xBD"));
}

// Notes what is written, call by call, and whether two threads write at once.
class Writes : public std::streambuf {
 public:
  std::vector<std::string> writes;
  int flushes = 0;
  std::atomic<int> at_once{0};
  bool mixed = false;

 protected:
  std::streamsize xsputn(const char* text, std::streamsize count) override {
    if (++at_once != 1) mixed = true;
    writes.emplace_back(text, static_cast<std::size_t>(count));
    std::this_thread::yield();
    --at_once;
    return count;
  }
  int sync() override {
    ++flushes;
    return 0;
  }
};

TEST(JsonLines, AreWrittenByOneCallEachAndFlushed) {
  Writes writes;
  std::ostream out{&writes};
  const auto sink = json_lines(out);
  sink(full_record());
  sink(full_record());
  ASSERT_EQ(writes.writes.size(), 2u);
  EXPECT_EQ(writes.flushes, 2);
  EXPECT_EQ(writes.writes[0].back(), '\n');
}

// A disk that is full, until there is room again.
class FullDisk : public std::stringbuf {
 public:
  bool full = true;

 protected:
  std::streamsize xsputn(const char* text, std::streamsize count) override {
    return full ? 0 : std::stringbuf::xsputn(text, count);
  }
};

TEST(JsonLines, AreWrittenAgainAfterTheStreamHasFailed) {
  FullDisk disk;
  std::ostream out{&disk};
  const auto sink = json_lines(out);
  sink({LogLevel::error, LogEvent::failed, "lost"});
  EXPECT_TRUE(out.bad());
  disk.full = false;
  sink({LogLevel::error, LogEvent::failed, "kept"});
  EXPECT_TRUE(out.good());
  const auto text = disk.str();
  ASSERT_EQ(text.find('\n'), text.size() - 1) << text;
  EXPECT_EQ(nlohmann::json::parse(text)["message"], "kept");
}

TEST(JsonLines, OfSeveralSinksForOneStreamDoNotMix) {
  Writes writes;
  std::ostream out{&writes};
  const auto first = json_lines(out);
  const auto second = json_lines(out);
  const auto copy = first;
  std::vector<std::thread> threads;
  for (const auto* sink : {&first, &second, &copy}) {
    threads.emplace_back([sink] {
      for (int i = 0; i < 200; ++i) (*sink)(full_record());
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(writes.mixed);
  EXPECT_EQ(writes.writes.size(), 600u);
}

}  // namespace
}  // namespace pgque::test
