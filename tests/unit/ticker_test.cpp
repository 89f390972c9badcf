#include <pgque/ticker.hpp>

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

// What a ticker does without a server. The rest is in tests/integration.

namespace pgque::test {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

constexpr auto month = milliseconds{std::chrono::hours{24 * 30}};

TickerOptions quiet() {
  TickerOptions options;
  options.log = [](const LogRecord&) {};
  return options;
}

TEST(TickerOptions, HaveTheDefaultsTheyDocument) {
  const TickerOptions options;
  EXPECT_EQ(options.tick_period, 100ms);
  EXPECT_EQ(options.retry_period, 1s);
  EXPECT_EQ(options.maintenance_period, 30s);
  EXPECT_EQ(options.rotation_period, 10s);
  EXPECT_EQ(options.standby_period, 1s);
  EXPECT_EQ(options.ticker_max_lag, std::nullopt);
  EXPECT_EQ(options.connect_timeout, 10s);
}

TEST(TickerOptions, AreRefusedByNameBeyondTheirLimits) {
  struct Period {
    const char* option;
    std::function<void(TickerOptions&, milliseconds)> set;
  };
  for (const auto& [option, set] : std::vector<Period>{
           {"tick_period", [](auto&o, auto value) { o.tick_period = value; }},
           {"retry_period", [](auto&o, auto value) { o.retry_period = value; }},
           {"maintenance_period", [](auto&o, auto value) { o.maintenance_period = value; }},
           {"rotation_period", [](auto&o, auto value) { o.rotation_period = value; }},
           {"standby_period", [](auto&o, auto value) { o.standby_period = value; }},
           {"ticker_max_lag", [](auto&o, auto value) { o.ticker_max_lag = value; }},
       }) {
    for (const auto value : {milliseconds{0}, milliseconds{-1}, month + 1ms, milliseconds::max()}) {
      auto options = quiet();
      set(options, value);
      EXPECT_THAT([&] { Ticker(nowhere, options); },
                  ThrowsMessage<std::invalid_argument>(StartsWith(std::string{option} + ": ")))
          << value.count();
    }
    for (const auto value : {milliseconds{1}, month}) {
      auto options = quiet();
      set(options, value);
      EXPECT_NO_THROW(Ticker(nowhere, options)) << option;
    }
  }
}

TEST(TickerOptions, HaveTheirConnectionChecked) {
  auto options = quiet();
  options.reconnect.initial = 0ms;
  EXPECT_THAT([&] { Ticker(nowhere, options); },
              ThrowsMessage<std::invalid_argument>(StartsWith("reconnect.initial: ")));
  options = quiet();
  options.connect_timeout = -1s;
  EXPECT_THAT([&] { Ticker(nowhere, options); }, ThrowsMessage<std::invalid_argument>(StartsWith("connect_timeout: ")));
  EXPECT_THROW(Ticker("password=geheim x", quiet()), ConnectionError);
}

TEST(Ticker, ThrowsAtOnceWhenTheFirstConnectionFails) {
  Ticker ticker{nowhere, quiet()};
  for (int attempt = 0; attempt < 2; ++attempt) {
    EXPECT_THAT([&] { ticker.start(); },
                ThrowsMessage<ConnectionError>(AllOf(StartsWith("connect: "), Not(HasSubstr("geheim")))));
  }
  EXPECT_THAT(ticker.stats().last_error, StartsWith("connect: "));
  EXPECT_FALSE(ticker.stats().leader);
}

TEST(Ticker, ReturnsWithoutConnectingWhenStoppedBefore) {
  Ticker ticker{nowhere, quiet()};
  ticker.stop();
  EXPECT_NO_THROW(ticker.start());
  EXPECT_EQ(ticker.stats().last_error, "");
  EXPECT_THROW(ticker.start(), ConnectionError);  // the request is used up
}

TEST(Ticker, ReturnsWithoutConnectingWhenStoppedNowBefore) {
  Ticker ticker{nowhere, quiet()};
  ticker.stop_now();
  EXPECT_NO_THROW(ticker.start());
  EXPECT_THROW(ticker.start(), ConnectionError);
}

TEST(Ticker, CanBeMovedAndIsOfNoUseThen) {
  Ticker original{nowhere, quiet()};
  Ticker ticker{std::move(original)};
  EXPECT_EQ(ticker.stats().ticks, 0u);
  EXPECT_THROW(original.start(), std::logic_error);  // NOLINT(bugprone-use-after-move)
  EXPECT_THROW(original.stats(), std::logic_error);
  original.stop();
  original.stop_now();
}

}  // namespace
}  // namespace pgque::test
