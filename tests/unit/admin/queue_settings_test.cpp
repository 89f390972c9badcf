#include "admin/queue_settings.hpp"

#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::render;

std::string refusal(const QueueSettings& settings) {
  try {
    render(settings);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "accepted";
}

template <class Member, class Value>
QueueSettings with(Member member, Value value) {
  QueueSettings settings;
  settings.*member = value;
  return settings;
}

TEST(QueueSettings, AreRenderedInTheServersWords) {
  QueueSettings settings;
  settings.ticker_max_count = 7;
  settings.ticker_max_lag = 100ms;
  settings.ticker_idle_period = 1min;
  settings.rotation_period = 2h;
  settings.max_retries = 0;
  settings.paused = true;
  settings.external_ticker = false;
  const auto arrays = render(settings);
  EXPECT_EQ(arrays.names,
            "{ticker_max_count,ticker_max_lag,ticker_idle_period,rotation_period,max_retries,ticker_paused,"
            "external_ticker}");
  EXPECT_EQ(arrays.values, "{7,\"100 milliseconds\",\"60000 milliseconds\",\"7200000 milliseconds\",0,true,false}");
}

TEST(QueueSettings, ThatAreEmptyChangeNothing) {
  EXPECT_EQ(render({}).names, "{}");
  EXPECT_EQ(render({}).values, "{}");
}

TEST(QueueSettings, AreResetByNull) {
  QueueSettings settings;
  settings.reset = {QueueSetting::max_retries, QueueSetting::paused};
  settings.ticker_max_count = 1;
  EXPECT_EQ(render(settings).names, "{max_retries,ticker_paused,ticker_max_count}");
  EXPECT_EQ(render(settings).values, "{NULL,NULL,1}");
}

TEST(QueueSettings, OutOfRangeAreRefusedByName) {
  EXPECT_EQ(refusal(with(&QueueSettings::ticker_max_count, 0)), "ticker_max_count: must be at least 1, is 0");
  EXPECT_EQ(refusal(with(&QueueSettings::max_retries, -1)), "max_retries: must be at least 0, is -1");
  EXPECT_THAT(refusal(with(&QueueSettings::ticker_max_lag, 0ms)),
              testing::StartsWith("ticker_max_lag: must be between"));
  EXPECT_THAT(refusal(with(&QueueSettings::ticker_idle_period, -1ms)),
              testing::StartsWith("ticker_idle_period: must be between"));
  EXPECT_THAT(refusal(with(&QueueSettings::rotation_period, std::chrono::milliseconds::max())),
              testing::StartsWith("rotation_period: must be between"));
  EXPECT_EQ(refusal(with(&QueueSettings::max_retries, std::numeric_limits<std::int32_t>::max())), "accepted");
}

TEST(QueueSettings, CannotBeBothSetAndReset) {
  QueueSettings settings;
  settings.reset = {QueueSetting::max_retries};
  settings.max_retries = 3;
  EXPECT_EQ(refusal(settings), "max_retries: is both set and reset");
  settings = {};
  settings.reset = {static_cast<QueueSetting>(99)};
  EXPECT_EQ(refusal(settings), "reset: not one of the enumerators of QueueSetting");
}

}  // namespace
}  // namespace pgque::test
