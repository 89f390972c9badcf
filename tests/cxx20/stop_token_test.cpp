// start(std::stop_token), where the standard library has it.

#include <functional>
#include <stdexcept>
#include <utility>
#include <version>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/consumer.hpp>
#include <pgque/ticker.hpp>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

TEST(StopToken, IsTakenWhereTheStandardLibraryHasIt) {
#if defined(__cpp_lib_jthread)
  SUCCEED();
#else
  GTEST_SKIP() << "no std::stop_token";
#endif
}

#if defined(__cpp_lib_jthread)

// What runs is stopped before it connects, because there is no server: its log is called while it runs.
template <class Runnable>
Runnable make(LogSink log = [](const LogRecord&) {}) {
  if constexpr (std::is_same_v<Runnable, Consumer>) {
    Consumer consumer{nowhere, {.queue = "orders", .name = "worker", .log = std::move(log)}};
    consumer.on("*", [](const Message&) {});
    return consumer;
  } else {
    return Ticker{nowhere, {.log = std::move(log)}};
  }
}

template <class Runnable>
class StopTokenTest : public testing::Test {};
using Runnables = testing::Types<Consumer, Ticker>;
TYPED_TEST_SUITE(StopTokenTest, Runnables, );

TYPED_TEST(StopTokenTest, ARequestFromBeforeMakesStartReturnAtOnceAndNoOther) {
  auto runnable = make<TypeParam>();
  std::stop_source source;
  source.request_stop();
  EXPECT_NO_THROW(runnable.start(source.get_token()));
  EXPECT_THROW(runnable.start(), ConnectionError);
  EXPECT_NO_THROW(runnable.start(source.get_token()));
}

TYPED_TEST(StopTokenTest, ARequestWhileItRunsStopsIt) {
  std::stop_source source;
  auto runnable = make<TypeParam>([&](const LogRecord& record) {
    if (record.event == LogEvent::started) source.request_stop();
  });
  EXPECT_NO_THROW(runnable.start(source.get_token()));
  EXPECT_THROW(runnable.start(), ConnectionError);
}

TYPED_TEST(StopTokenTest, ARequestAsTheRunEndsStopsNoLaterOne) {
  std::stop_source source;
  auto runnable = make<TypeParam>([&](const LogRecord& record) {
    if (record.event == LogEvent::stopped) source.request_stop();
  });
  runnable.stop();
  EXPECT_NO_THROW(runnable.start(source.get_token()));
  EXPECT_TRUE(source.stop_requested());
  EXPECT_THROW(runnable.start(), ConnectionError);
}

TYPED_TEST(StopTokenTest, ARequestAfterTheRunStopsNoLaterOne) {
  std::stop_source source;
  auto runnable = make<TypeParam>();
  runnable.stop();
  EXPECT_NO_THROW(runnable.start(source.get_token()));
  source.request_stop();
  EXPECT_THROW(runnable.start(), ConnectionError);
}

TYPED_TEST(StopTokenTest, ThatNobodyCanRequestChangesNothing) {
  auto runnable = make<TypeParam>();
  EXPECT_THROW(runnable.start(std::stop_token{}), ConnectionError);
  runnable.stop();
  EXPECT_NO_THROW(runnable.start(std::stop_token{}));
}

TYPED_TEST(StopTokenTest, OfASecondStartDoesNotStopTheFirst) {
  std::stop_source source;
  source.request_stop();
  std::function<void()> start_again;
  int refused = 0;
  auto runnable = make<TypeParam>([&](const LogRecord& record) {
    if (record.event != LogEvent::started) return;
    EXPECT_THROW(start_again(), std::logic_error);
    ++refused;
  });
  start_again = [&] { runnable.start(source.get_token()); };
  EXPECT_THROW(runnable.start(), ConnectionError);  // it went on
  EXPECT_EQ(refused, 1);
}

#endif

}  // namespace
}  // namespace pgque::test
