#include <pgque/doctor.hpp>

#include <chrono>
#include <stdexcept>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;

TEST(Diagnosis, RefusesWrongOptions) {
  DiagnoseOptions options;
  options.stuck_after = 0s;
  EXPECT_THROW(diagnose("", options), std::invalid_argument);
  options = {};
  options.slow_tick = -1ms;
  EXPECT_THROW(diagnose("", options), std::invalid_argument);
  options = {};
  options.recent = 0s;
  EXPECT_THROW(diagnose("", options), std::invalid_argument);
  options = {};
  options.silent_ticker = 0s;
  EXPECT_THROW(diagnose("", options), std::invalid_argument);
}

TEST(Severity, HasAName) {
  EXPECT_EQ(to_string(Severity::notice), "notice");
  EXPECT_EQ(to_string(Severity::warning), "warning");
  EXPECT_EQ(to_string(Severity::error), "error");
}

}  // namespace
}  // namespace pgque::test
