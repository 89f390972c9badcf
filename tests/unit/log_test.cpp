#include <pgque/log.hpp>

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace pgque::test
