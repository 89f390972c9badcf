#include <pgque/on_send.hpp>

#include <stdexcept>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "thrown.hpp"

namespace pgque::test {
namespace {

OnSend appending(char letter) {
  return [letter](Event& event) { event.type += letter; };
}

std::string type_after(const OnSend& on_send) {
  Event event{"1", ""};
  on_send(event);
  return event.type;
}

TEST(Chain, CallsAllInTheirOrder) {
  EXPECT_EQ(type_after(chain({appending('a'), appending('b'), appending('c')})), "abc");
  EXPECT_EQ(type_after(chain({chain({appending('a'), appending('b')}), appending('c')})), "abc");
}

TEST(Chain, LeavesEmptyOnesOut) {
  EXPECT_EQ(type_after(chain({OnSend{}, appending('a'), OnSend{}, appending('b')})), "ab");
  EXPECT_FALSE(chain(std::vector<OnSend>{}));
  EXPECT_FALSE(chain({OnSend{}, OnSend{}}));
}

void append_x(Event& event) {
  event.type += 'x';
}
void append_y(Event& event) {
  event.type += 'y';
}

TEST(Chain, TakesPlainFunctions) {
  EXPECT_EQ(type_after(chain({append_x, append_y})), "xy");
  EXPECT_EQ(type_after(chain({append_y, append_x, append_y})), "yxy");
}

TEST(Chain, StopsAtAnException) {
  Event event{"1", ""};
  const auto on_send = chain({appending('a'), [](Event&) { throw std::runtime_error{"no"}; }, appending('c')});
  EXPECT_STREQ(thrown<std::runtime_error>([&] { on_send(event); }).what(), "no");
  EXPECT_EQ(event.type, "a");
}

}  // namespace
}  // namespace pgque::test
