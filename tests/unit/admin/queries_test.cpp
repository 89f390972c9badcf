#include "admin/queries.hpp"

#include <string>
#include <utility>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

// PgQue 0.2.0 lets a reader call get_queue_info(), and denies what that calls.
TEST(QueueInfo, IsLimitedOnlyWhenTheFunctionItselfMayBeCalled) {
  const auto denied = [](std::string message, std::string sqlstate = "42501") {
    Error::Facts facts;
    facts.server_message = std::move(message);
    facts.sqlstate = std::move(sqlstate);
    return detail::is_denied_inside_queue_info(Error{std::move(facts)});
  };
  EXPECT_TRUE(denied("permission denied for function seq_getval"));
  EXPECT_FALSE(denied("permission denied for function get_queue_info"));
  EXPECT_FALSE(denied("permission denied for schema pgque"));
  EXPECT_FALSE(denied("permission denied for function seq_getval", "P0001"));
}

TEST(QueueInfo, IsLimitedWhenTheFunctionFailsAtAValueThatIsOutOfRange) {
  const auto odd = [](std::string sqlstate) {
    Error::Facts facts;
    facts.sqlstate = std::move(sqlstate);
    return detail::is_odd_value(Error{std::move(facts)});
  };
  EXPECT_TRUE(odd("22003"));
  EXPECT_TRUE(odd("22008"));
  for (const auto* const other : {"22021", "42501", "P0001", ""}) EXPECT_FALSE(odd(other)) << other;
}

}  // namespace
}  // namespace pgque::test
