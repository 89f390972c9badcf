#include <pgque/dsn.hpp>

#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Dsn, IsWhatItWasMadeFrom) {
  const std::string string{"dbname=a"};
  const std::string_view view{string};
  const char* const pointer = "dbname=a";
  for (const Dsn& dsn : {Dsn{string}, Dsn{view}, Dsn{pointer}, Dsn{"dbname=a"}}) {
    EXPECT_EQ(dsn(), "dbname=a");
    EXPECT_FALSE(dsn.is_function());
    EXPECT_FALSE(dsn.empty());
  }
  EXPECT_TRUE(Dsn{}.empty());
  EXPECT_TRUE(Dsn{""}.empty());
  EXPECT_EQ(Dsn{}(), "");
}

TEST(Dsn, AsksTheFunctionEachTime) {
  const Dsn dsn{[n = 0]() mutable { return "dbname=" + std::to_string(++n); }};
  EXPECT_TRUE(dsn.is_function());
  EXPECT_FALSE(dsn.empty());
  EXPECT_EQ(dsn(), "dbname=1");
  EXPECT_EQ(dsn(), "dbname=2");
  const Dsn literal{[] { return "dbname=a"; }};
  EXPECT_EQ(literal(), "dbname=a");
}

TEST(Dsn, RefusesAnEmptyFunction) {
  std::string (*const pointer)() = nullptr;
  EXPECT_THAT([] { Dsn{std::function<std::string()>{}}; }, ThrowsMessage<std::invalid_argument>(HasSubstr("dsn")));
  EXPECT_THAT([&] { Dsn{pointer}; }, ThrowsMessage<std::invalid_argument>(HasSubstr("dsn")));
}

TEST(Dsn, RefusesANullPointer) {
  const auto refused =
      ThrowsMessage<std::invalid_argument>(testing::StrEq("dsn: is a null pointer; is the environment variable set?"));
  EXPECT_THAT([] { Dsn{nullptr}; }, refused);
  EXPECT_THAT([] { Dsn{static_cast<const char*>(nullptr)}; }, refused);
  EXPECT_THAT([] { Dsn{static_cast<char*>(nullptr)}; }, refused);
  EXPECT_THAT([] { Dsn{std::getenv("PGQUE_TEST_IS_NEVER_SET")}; }, refused);
  // What a function returns is known only when it is asked.
  const Dsn asked{[]() -> const char* { return std::getenv("PGQUE_TEST_IS_NEVER_SET"); }};
  EXPECT_THAT([&] { asked(); }, refused);
}

TEST(Dsn, RefusesAnEmptyFunctionThatWouldReturnAPointer) {
  const char* (*const pointer)() = nullptr;
  EXPECT_THAT([] { Dsn{std::function<const char*()>{}}; }, ThrowsMessage<std::invalid_argument>(HasSubstr("function")));
  EXPECT_THAT([&] { Dsn{pointer}; }, ThrowsMessage<std::invalid_argument>(HasSubstr("function")));
}

TEST(Dsn, IsMadeFromNothingElse) {
  static_assert(!std::is_constructible_v<Dsn, int>);
  static_assert(!std::is_constructible_v<Dsn, int (*)()>);
  static_assert(!std::is_constructible_v<Dsn, std::string (*)(int)>);
  static_assert(std::is_convertible_v<std::string, Dsn>);
  static_assert(std::is_convertible_v<std::string (*)(), Dsn>);
}

}  // namespace
}  // namespace pgque::test
