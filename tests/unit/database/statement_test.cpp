#include "database/statement.hpp"

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::Call;

TEST(Call, SaysWhatIsBeingDone) {
  EXPECT_EQ((Call{"ticker"}.describe()), "ticker");
  EXPECT_EQ((Call{"send", "orders"}.describe()), "send (queue \"orders\")");
  EXPECT_EQ((Call{"receive", "orders", "worker"}.describe()), "receive (queue \"orders\", consumer \"worker\")");
  EXPECT_EQ((Call{"ack", {}, {}, BatchId{7}}.describe()), "ack (batch 7)");
  EXPECT_EQ((Call{"ack", "orders", "worker", BatchId{7}}.describe()),
            "ack (queue \"orders\", consumer \"worker\", batch 7)");
}

TEST(Call, CutsLongNames) {
  const std::string just_fits(100, 'c');
  EXPECT_EQ((Call{"receive", {}, just_fits}.describe()), "receive (consumer \"" + just_fits + "\")");
  const std::string too_long(101, 'c');
  EXPECT_EQ((Call{"receive", {}, too_long}.describe()), "receive (consumer \"" + just_fits + "...\")");
}

}  // namespace
}  // namespace pgque::test
