#include "support/logger.hpp"

#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::Logger;

TEST(Logger, AddsItsSource) {
  int calls = 0;
  Logger logger{[&](const LogRecord& record) {
                  ++calls;
                  EXPECT_EQ(record.level, LogLevel::info);
                  EXPECT_EQ(record.event, LogEvent::connected);
                  EXPECT_EQ(record.message, "hello");
                  EXPECT_EQ(record.queue, "orders");
                  EXPECT_EQ(record.consumer, "worker");
                },
                "orders", "worker"};
  logger(LogLevel::info, LogEvent::connected, "hello");
  EXPECT_EQ(calls, 1);
}

TEST(Logger, PassesTheOtherFieldsOn) {
  int calls = 0;
  Logger logger{[&](const LogRecord& record) {
                  ++calls;
                  EXPECT_EQ(record.batch_id, BatchId{1});
                  EXPECT_EQ(record.msg_id, EventId{2});
                  EXPECT_EQ(record.attempt, 3);
                },
                "q", "c"};
  LogRecord record{LogLevel::debug, LogEvent::batch_acked, "x"};
  record.batch_id = BatchId{1};
  record.msg_id = EventId{2};
  record.attempt = 3;
  logger.write(record);
  EXPECT_EQ(calls, 1);
}

TEST(Logger, TakesTextAndSqlstateFromAnError) {
  int calls = 0;
  Logger logger{[&](const LogRecord& record) {
                  ++calls;
                  EXPECT_EQ(record.sqlstate, "40001");
                  EXPECT_EQ(record.message, "receive: no [SQLSTATE 40001]");
                },
                "q", "c"};
  Error::Facts facts;
  facts.operation = "receive";
  facts.server_message = "no";
  facts.sqlstate = "40001";
  logger.error(LogLevel::error, LogEvent::failed, Error{facts});
  EXPECT_EQ(calls, 1);
}

TEST(Logger, WritesToStderrWithoutASink) {
  Logger logger{{}, "orders", "worker"};
  testing::internal::CaptureStderr();
  logger(LogLevel::warning, LogEvent::stale_ack, "x");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "pgque warning stale_ack queue=orders consumer=worker: x\n");
}

TEST(Logger, SwallowsWhateverTheSinkThrows) {
  int calls = 0;
  Logger logger{[&](const LogRecord&) {
                  if (++calls == 1) throw std::runtime_error{"disk full"};
                  throw 42;
                },
                "q", "c"};
  EXPECT_NO_THROW(logger(LogLevel::info, LogEvent::started, "x"));
  EXPECT_NO_THROW(logger(LogLevel::info, LogEvent::started, "x"));
  EXPECT_EQ(calls, 2);  // and is not blocked by its own lock
}

TEST(Logger, CallsTheSinkForOneThreadAtATime) {
  std::atomic<int> inside{0};
  std::atomic<bool> overlapped{false};
  int calls = 0;  // on purpose not atomic
  Logger logger{[&](const LogRecord&) {
                  if (++inside != 1) overlapped = true;
                  ++calls;
                  std::this_thread::yield();
                  --inside;
                },
                "q", "c"};
  Rendezvous all{4};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      EXPECT_TRUE(all.arrive());
      for (int n = 0; n < 500; ++n) logger(LogLevel::info, LogEvent::started, "x");
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(overlapped);
  EXPECT_EQ(calls, 2000);
}

}  // namespace
}  // namespace pgque::test
