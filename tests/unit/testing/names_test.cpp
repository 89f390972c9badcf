#include "testing/names.hpp"

#include <gtest/gtest.h>

namespace kit {
namespace {

using pgque::detail::lock_of_test_queue;
using pgque::detail::make_test_name;
using pgque::detail::time_of_test_name;

TEST(TestNamesTest, TellWhenTheQueueWasMade) {
  const auto name = make_test_name("pgque_test", 0x65f0c1a2, 0x123456789abc);
  EXPECT_EQ(name, "pgque_test_65f0c1a2_123456789abc");
  EXPECT_EQ(name.size(), std::string{"pgque_test"}.size() + pgque::detail::test_name_suffix);
  EXPECT_EQ(time_of_test_name("pgque_test", name), 0x65f0c1a2);
  EXPECT_EQ(make_test_name("p", 1, 0xffff0000000000ab), "p_00000001_0000000000ab");
}

TEST(TestNamesTest, OfAnyOtherKindTellNothing) {
  const auto is_none = [](const char* prefix, const char* name) { return !time_of_test_name(prefix, name); };
  EXPECT_TRUE(is_none("pgque_test", "pgque_test"));
  EXPECT_TRUE(is_none("pgque_test", "pgque_test_65f0c1a2_123456789ab"));
  EXPECT_TRUE(is_none("pgque_test", "pgque_test_65f0c1a2_123456789abcd"));
  EXPECT_TRUE(is_none("pgque_test", "pgque_test_65f0c1a2-123456789abc"));
  EXPECT_TRUE(is_none("pgque_test", "pgque_test_65f0c1ag_123456789abc"));
  EXPECT_TRUE(is_none("pgque_test", "pgque_test_65f0c1a2_123456789abG"));
  EXPECT_TRUE(is_none("pgque_more", "pgque_test_65f0c1a2_123456789abc"));
  EXPECT_TRUE(is_none("pgque", "pgque_test_65f0c1a2_123456789abc")) << "of a longer prefix";
  EXPECT_TRUE(is_none("", ""));
}

// So that processes with different versions of the library agree.
TEST(TestNamesTest, HaveLocksThatNeverChange) {
  EXPECT_EQ(lock_of_test_queue(""), -3750763034362895579);
  EXPECT_EQ(lock_of_test_queue("a"), -5808556873153909620);
  EXPECT_EQ(lock_of_test_queue("foobar"), static_cast<std::int64_t>(0x85944171f73967e8));
}

}  // namespace
}  // namespace kit
