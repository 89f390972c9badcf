// The header `traceparent` of the examples.

#include "traceparent.hpp"

#include <gtest/gtest.h>

namespace example {
namespace {

const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string span = "00f067aa0ba902b7";

TEST(TraceParentTest, IsReadAndWritten) {
  const auto parent = parse_traceparent("00-" + trace + '-' + span + "-00");
  ASSERT_TRUE(parent);
  EXPECT_EQ(parent->trace_id, trace);
  EXPECT_EQ(parent->span_id, span);
  EXPECT_EQ(parent->flags, "00");
  EXPECT_EQ(to_string(*parent), "00-" + trace + '-' + span + "-00");
}

TEST(TraceParentTest, OfALaterVersionMayBeLonger) {
  EXPECT_TRUE(parse_traceparent("01-" + trace + '-' + span + "-01"));
  EXPECT_TRUE(parse_traceparent("cc-" + trace + '-' + span + "-01-what the future brings"));
  EXPECT_FALSE(parse_traceparent("cc-" + trace + '-' + span + "-01.what the future brings"));
}

TEST(TraceParentTest, ThatIsAnythingElseIsNone) {
  const auto is_none = [](const std::string& text) { return !parse_traceparent(text); };
  EXPECT_TRUE(is_none(""));
  EXPECT_TRUE(is_none("00"));
  EXPECT_TRUE(is_none("00-" + trace + '-' + span));
  EXPECT_TRUE(is_none("00-" + trace + '-' + span + "-0"));
  EXPECT_TRUE(is_none("00-" + trace + '-' + span + "-01-"));
  EXPECT_TRUE(is_none("00-" + trace + '-' + span + "-01-more"));
  EXPECT_TRUE(is_none("00_" + trace + '-' + span + "-01"));
  EXPECT_TRUE(is_none("00-" + trace + '_' + span + "-01"));
  EXPECT_TRUE(is_none("00-" + trace + '-' + span + "_01"));
  EXPECT_TRUE(is_none("ff-" + trace + '-' + span + "-01")) << "the version that is forbidden";
  EXPECT_TRUE(is_none("0x-" + trace + '-' + span + "-01"));
  EXPECT_TRUE(is_none("00-" + std::string(32, '0') + '-' + span + "-01")) << "no trace";
  EXPECT_TRUE(is_none("00-" + trace + '-' + std::string(16, '0') + "-01")) << "no span";
  EXPECT_TRUE(is_none("00-4BF92F3577B34DA6A3CE929D0E0E4736-" + span + "-01")) << "upper case";
  EXPECT_TRUE(is_none("00-" + trace + "-00f067aa0ba902bg-01"));
  EXPECT_TRUE(is_none("00-" + trace + '-' + span + "-0g"));
}

}  // namespace
}  // namespace example
