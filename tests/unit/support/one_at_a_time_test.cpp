#include "support/one_at_a_time.hpp"

#include <optional>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::OneAtATime;

struct Call {
  static std::string describe() { return "send (queue \"orders\")"; }
};

// What happens when another thread begins to use it.
std::string seen_by_another_thread(OneAtATime& object) {
  std::string text = "nothing";
  std::thread{[&] {
    try {
      const OneAtATime::Use use{object, Call{}};
    } catch (const std::logic_error& error) {
      text = error.what();
    }
  }}.join();
  return text;
}

TEST(OneAtATime, RefusesASecondThreadAtEachAttemptUntilTheFirstHasFinished) {
  OneAtATime object;
  {
    const OneAtATime::Use use{object, Call{}};
    for (int attempt = 0; attempt < 2; ++attempt) {
      EXPECT_THAT(seen_by_another_thread(object),
                  testing::AllOf(testing::StartsWith("send (queue \"orders\"): another thread"),
                                 testing::HasSubstr("give each thread its own")));
    }
  }
  EXPECT_EQ(seen_by_another_thread(object), "nothing");
}

TEST(OneAtATime, LetsItsThreadUseItAgainMeanwhile) {
  OneAtATime object;
  const OneAtATime::Use outer{object, Call{}};
  { const OneAtATime::Use inner{object, Call{}}; }
  EXPECT_NE(seen_by_another_thread(object), "nothing");  // the inner one has not ended the outer
}

TEST(OneAtATime, MayGoFromThreadToThread) {
  OneAtATime object;
  for (int thread = 0; thread < 3; ++thread) EXPECT_EQ(seen_by_another_thread(object), "nothing");
  EXPECT_NO_THROW((OneAtATime::Use{object, Call{}}));
}

TEST(OneAtATime, IsFreeAgainAfterAnException) {
  OneAtATime object;
  try {
    const OneAtATime::Use use{object, Call{}};
    throw 1;
  } catch (int) {
  }
  EXPECT_EQ(seen_by_another_thread(object), "nothing");
}

}  // namespace
}  // namespace pgque::test
