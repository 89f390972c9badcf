#include "support/home_process.hpp"

#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "child_process.hpp"

namespace pgque::test {
namespace {

using detail::AtHome;
using detail::HomeProcess;
using detail::make_at_home;

TEST(HomeProcess, IsTheOneThatMadeTheObject) {
  const HomeProcess home;
  EXPECT_TRUE(home.is_this());
  EXPECT_NO_THROW(home.require("Client"));
}

TEST(HomeProcess, IsNotAChildOrAChildOfAChild) {
  const HomeProcess home;
  const int failed = in_child([&] {
    Checks check;
    check(!home.is_this());
    const HomeProcess home_of_child;
    check(home_of_child.is_this());
    check(in_child([&] { return home.is_this() || home_of_child.is_this() ? 1 : 0; }) == 0);
    check(home_of_child.is_this());
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_TRUE(home.is_this());
}

TEST(HomeProcess, SaysInAChildWhatToDo) {
  const HomeProcess home;
  const int failed = in_child([&] {
    Checks check;
    try {
      home.require("Client");
      check(false);
    } catch (const std::logic_error& error) {
      check(std::string{error.what()} ==
            "Client: this object belongs to the process before fork(); make a new one in the child process");
    }
    return check.result();
  });
  EXPECT_EQ(failed, 0);
}

struct Counted {
  explicit Counted(int& counter) : destroyed{counter} {}
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { ++destroyed; }
  int& destroyed;
};

TEST(AtHome, IsDestroyedInTheProcessThatMadeIt) {
  int destroyed = 0;
  { const auto counted = make_at_home<Counted>(destroyed); }
  EXPECT_EQ(destroyed, 1);
}

TEST(AtHome, IsLeftAloneInAChild) {
  int destroyed = 0;
  auto counted = make_at_home<Counted>(destroyed);
  const int failed = in_child([&] {
    Checks check;
    counted.reset();
    check(destroyed == 0);
    counted = make_at_home<Counted>(destroyed);  // the child's
    counted.reset();
    check(destroyed == 1);
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(destroyed, 0);
}

}  // namespace
}  // namespace pgque::test
