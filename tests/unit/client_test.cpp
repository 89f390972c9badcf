#include <pgque/client.hpp>

#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/error.hpp>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

TEST(Client, ThrowsAtOnceWhenItCannotConnect) {
  EXPECT_THAT([] { Client client{nowhere}; },
              ThrowsMessage<ConnectionError>(AllOf(StartsWith("connect: "), Not(HasSubstr("geheim")))));
}

TEST(Client, RefusesANullPointerForADsn) {
  const auto refused =
      ThrowsMessage<std::invalid_argument>(HasSubstr("dsn: is a null pointer; is the environment variable set?"));
  EXPECT_THAT([] { Client{nullptr}; }, refused);
  EXPECT_THAT([] { Client{std::getenv("PGQUE_TEST_IS_NEVER_SET")}; }, refused);
}

TEST(Client, RefusesATimeoutOutOfRange) {
  ClientOptions options;
  const auto refused = ThrowsMessage<std::invalid_argument>(StartsWith("connect_timeout: "));
  options.connect_timeout = std::chrono::seconds{-1};
  EXPECT_THAT([&] { Client(nowhere, options); }, refused);
  options.connect_timeout = std::chrono::hours{24 * 30} + std::chrono::seconds{1};
  EXPECT_THAT([&] { Client(nowhere, options); }, refused);
}

}  // namespace
}  // namespace pgque::test
