#include <pgque/admin.hpp>

#include <sstream>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using namespace std::chrono_literals;

TEST(QueueSetting, HasPgQuesName) {
  EXPECT_EQ(to_string(QueueSetting::paused), "ticker_paused");
  EXPECT_EQ(to_string(QueueSetting::rotation_period), "rotation_period");
}

TEST(ConsumerRole, HasAName) {
  EXPECT_EQ(to_string(ConsumerRole::normal), "normal");
  EXPECT_EQ(to_string(ConsumerRole::group), "group");
  EXPECT_EQ(to_string(ConsumerRole::subconsumer), "subconsumer");
}

TEST(DeadLetterId, IsWrittenInDecimal) {
  EXPECT_EQ(to_string(DeadLetterId{9'000'000'000}), "9000000000");
  std::ostringstream out;
  out << DeadLetterId{7};
  EXPECT_EQ(out.str(), "7");
}

TEST(Admin, DoesNotConnectToNowhere) {
  EXPECT_THROW(Admin{"host=/nonexistent"}, ConnectionError);
  ClientOptions options;
  options.connect_timeout = -1s;
  EXPECT_THROW((Admin{"host=/nonexistent", options}), std::invalid_argument);
}

}  // namespace
}  // namespace pgque::test
