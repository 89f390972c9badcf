#include "database/session_options.hpp"

#include <chrono>
#include <stdexcept>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/buffered_producer.hpp>
#include <pgque/client.hpp>
#include <pgque/consumer_options.hpp>
#include <pgque/doctor.hpp>
#include <pgque/ticker.hpp>

namespace pgque::test {
namespace {

using detail::session_options;
using testing::StartsWith;
using testing::ThrowsMessage;

template <class Options>
void expect_the_timeout_is_checked() {
  Options options;
  EXPECT_EQ(session_options(options).connect_timeout, std::chrono::seconds{10});
  options.connect_timeout = std::chrono::seconds{0};
  EXPECT_EQ(session_options(options).connect_timeout, std::chrono::seconds{0});
  const auto refused = ThrowsMessage<std::invalid_argument>(StartsWith("connect_timeout: "));
  options.connect_timeout = std::chrono::seconds{-1};
  EXPECT_THAT([&] { session_options(options); }, refused);
  options.connect_timeout = std::chrono::hours{24 * 30} + std::chrono::seconds{1};
  EXPECT_THAT([&] { session_options(options); }, refused);
}

TEST(SessionOptions, TakeTheTimeoutAndRefuseOneOutOfRange) {
  expect_the_timeout_is_checked<ClientOptions>();
  expect_the_timeout_is_checked<ConsumerOptions>();
  expect_the_timeout_is_checked<BufferedProducerOptions>();
  expect_the_timeout_is_checked<TickerOptions>();
  expect_the_timeout_is_checked<DiagnoseOptions>();
}

TEST(SessionOptions, NameTheSessionsOfAWorkerAfterIt) {
  ConsumerOptions options;
  options.name = "group";
  EXPECT_EQ(session_options(options).application_name, "pgque consumer");
  options.subconsumer = "pod-1";
  EXPECT_EQ(session_options(options).application_name, "pgque consumer group.pod-1");
}

TEST(ShownName, IsWhatTheServerLeavesAsItIs) {
  const auto shows = [](const std::string& name, const std::string& text, bool exact) {
    const auto shown = detail::shown_name(name);
    EXPECT_EQ(shown.text, text);
    EXPECT_EQ(shown.exact, exact) << name;
  };
  shows("pgque consumer group.pod-1 ~", "pgque consumer group.pod-1 ~", true);
  shows("pgque consumer gr\xC3\xBCppe.1", "pgque consumer gr", false);
  shows("pgque consumer tab\t.1", "pgque consumer tab", false);
  shows(std::string(63, 'x'), std::string(63, 'x'), true);
  shows(std::string(64, 'x'), std::string(63, 'x'), false);
}

template <class Options>
void expect_pooled_is_taken() {
  Options options;
  EXPECT_FALSE(session_options(options).pooled);
  options.pooled = true;
  EXPECT_TRUE(session_options(options).pooled);
}

TEST(SessionOptions, ArePooledIfTheOwnersAre) {
  expect_pooled_is_taken<ClientOptions>();
  expect_pooled_is_taken<ConsumerOptions>();
  expect_pooled_is_taken<BufferedProducerOptions>();
  expect_pooled_is_taken<TickerOptions>();
  ConsumerOptions options;
  options.pooled = true;
  EXPECT_TRUE(detail::listen_session_options(options).pooled);
  TickerOptions ticker_options;
  ticker_options.pooled = true;
  EXPECT_TRUE(detail::duties_session_options(ticker_options).pooled);
}

// The DSN of a diagnosis may point to a pooler.
TEST(SessionOptions, OfADiagnosisAreAlwaysPooled) {
  EXPECT_TRUE(session_options(DiagnoseOptions{}).pooled);
}

TEST(SessionOptions, NameTheSession) {
  EXPECT_EQ(std::string{session_options(ClientOptions{}).application_name}, "pgque");
  EXPECT_EQ(std::string{session_options(ConsumerOptions{}).application_name}, "pgque consumer");
  EXPECT_EQ(std::string{detail::listen_session_options(ConsumerOptions{}).application_name}, "pgque listener");
  EXPECT_EQ(std::string{session_options(BufferedProducerOptions{}).application_name}, "pgque producer");
  EXPECT_EQ(std::string{session_options(TickerOptions{}).application_name}, "pgque ticker");
  EXPECT_EQ(std::string{detail::duties_session_options(TickerOptions{}).application_name}, "pgque maintenance");
  EXPECT_EQ(std::string{session_options(DiagnoseOptions{}).application_name}, "pgque doctor");
}

}  // namespace
}  // namespace pgque::test
