#include "executor.hpp"

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::Operation;

TEST(Operation, SaysWhatIsBeingDone) {
  EXPECT_EQ((Operation{"ticker"}.describe()), "ticker");
  EXPECT_EQ((Operation{"send", "orders"}.describe()), "send (queue \"orders\")");
  EXPECT_EQ((Operation{"receive", "orders", "worker"}.describe()), "receive (queue \"orders\", consumer \"worker\")");
  EXPECT_EQ((Operation{"ack", {}, {}, BatchId{7}}.describe()), "ack (batch 7)");
  EXPECT_EQ((Operation{"ack", "orders", "worker", BatchId{7}}.describe()),
            "ack (queue \"orders\", consumer \"worker\", batch 7)");
}

TEST(Operation, CutsLongNames) {
  const std::string just_fits(100, 'c');
  EXPECT_EQ((Operation{"receive", {}, just_fits}.describe()), "receive (consumer \"" + just_fits + "\")");
  const std::string too_long(101, 'c');
  EXPECT_EQ((Operation{"receive", {}, too_long}.describe()), "receive (consumer \"" + just_fits + "...\")");
}

}  // namespace
}  // namespace pgque::test
