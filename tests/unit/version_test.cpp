#include <pgque/version.hpp>

#include <string>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

TEST(Version, OfTheLibraryIsThatOfTheHeaders) {
  EXPECT_EQ(version(), std::to_string(PGQUE_VERSION_MAJOR) + '.' + std::to_string(PGQUE_VERSION_MINOR) + '.' +
                           std::to_string(PGQUE_VERSION_PATCH));
}

TEST(Version, OfTheHeadersIsThatOfTheBuild) {
  EXPECT_STREQ(version(), PGQUE_TEST_PROJECT_VERSION);
}

}  // namespace
}  // namespace pgque::test
