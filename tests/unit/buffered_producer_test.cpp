#include <pgque/buffered_producer.hpp>

#include <functional>
#include <set>
#include <stdexcept>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

TEST(BufferedProducerOptions, AreCheckedBeforeConnectingAndNamed) {
  using Options = BufferedProducerOptions;
  const struct {
    const char* name;
    std::function<void(Options&)> spoil;
  } cases[] = {
      {"batch_messages: ", [](Options& options) { options.batch_messages = 0; }},
      {"batch_bytes: ", [](Options& options) { options.batch_bytes = 0; }},
      {"batch_bytes: ", [](Options& options) { options.batch_bytes = (std::size_t{512} << 20) + 1; }},
      {"batch_bytes: ", [](Options& options) { options.batch_bytes = std::size_t{1} << 40; }},
      {"linger: ", [](Options& options) { options.linger = -1ms; }},
      {"linger: ", [](Options& options) { options.linger = 24h * 31; }},
      {"buffer_messages: ", [](Options& options) { options.buffer_messages = 0; }},
      {"buffer_bytes: ", [](Options& options) { options.buffer_bytes = 0; }},
      {"block_timeout: ", [](Options& options) { options.block_timeout = -1ms; }},
      {"block_timeout: ", [](Options& options) { options.block_timeout = std::chrono::milliseconds::max(); }},
      {"delivery_timeout: ", [](Options& options) { options.delivery_timeout = 0ms; }},
      {"delivery_timeout: ", [](Options& options) { options.delivery_timeout = std::chrono::milliseconds::max(); }},
      {"drain_timeout: ", [](Options& options) { options.drain_timeout = -1ms; }},
      {"drain_timeout: ", [](Options& options) { options.drain_timeout = std::chrono::milliseconds::max(); }},
      {"reconnect.initial: ", [](Options& options) { options.reconnect.initial = 0ms; }},
      {"connect_timeout: ", [](Options& options) { options.connect_timeout = -1s; }},
  };
  for (const auto& [name, spoil] : cases) {
    Options options;
    spoil(options);
    EXPECT_THAT([&] { BufferedProducer(nowhere, options); }, ThrowsMessage<std::invalid_argument>(StartsWith(name)));
  }
}

TEST(BufferedProducer, ThrowsAtOnceWhenTheFirstConnectionFails) {
  EXPECT_THAT([] { BufferedProducer{nowhere}; }, ThrowsMessage<ConnectionError>(StartsWith("connect: ")));
  EXPECT_THAT([] { BufferedProducer{"password=geheim x"}; }, ThrowsMessage<ConnectionError>(Not(HasSubstr("geheim"))));
}

TEST(BufferedProducer, NamesItsStates) {
  std::set<std::string_view> names;
  for (const auto state : {ProducerState::waiting, ProducerState::sending, ProducerState::connecting,
                           ProducerState::backing_off, ProducerState::closed}) {
    names.insert(to_string(state));
  }
  EXPECT_EQ(names.size(), 5u);
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_EQ(to_string(static_cast<ProducerState>(5)), "unknown");
}

}  // namespace
}  // namespace pgque::test
