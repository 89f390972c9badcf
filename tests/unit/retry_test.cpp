#include <pgque/retry.hpp>

#include <limits>
#include <set>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using std::chrono::seconds;
using testing::StartsWith;
using testing::ThrowsMessage;

constexpr seconds longest{2147483647};

TEST(ExponentialRetry, DrawsFromTheUpperHalfOfTheGrownDelay) {
  const auto delay = exponential_retry(10s, 60s);
  const Message message;
  const struct {
    std::int32_t attempt;
    seconds grown;
  } cases[] = {{1, 10s}, {2, 20s}, {3, 40s}, {4, 60s}, {5, 60s}, {std::numeric_limits<std::int32_t>::max(), 60s}};
  for (const auto& [attempt, grown] : cases) {
    for (int i = 0; i < 50; ++i) {
      const auto drawn = delay(message, attempt);
      EXPECT_GE(drawn, grown / 2) << attempt;
      EXPECT_LE(drawn, grown) << attempt;
    }
  }
}

TEST(ExponentialRetry, VariesInWholeSeconds) {
  const auto delay = exponential_retry(4s, 4s);
  std::set<std::int64_t> drawn;
  for (int i = 0; i < 500; ++i) drawn.insert(delay({}, 1).count());
  EXPECT_THAT(drawn, testing::ElementsAre(2, 3, 4));
}

TEST(ExponentialRetry, NeverComesBackAtOnce) {
  const auto delay = exponential_retry(1s, 1s);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(delay({}, 1), 1s);
}

TEST(ExponentialRetry, TakesTheLongestDelayPgQueCanStore) {
  const auto delay = exponential_retry(1s, longest);
  const auto drawn = delay({}, 1000);
  EXPECT_GE(drawn, longest / 2);
  EXPECT_LE(drawn, longest);
}

TEST(ExponentialRetry, RefusesDelaysOutOfRange) {
  const auto refuses = [](const char* argument, seconds initial, seconds maximum) {
    EXPECT_THAT([&] { exponential_retry(initial, maximum); },
                ThrowsMessage<std::invalid_argument>(StartsWith(argument)));
  };
  refuses("initial: ", 0s, 10s);
  refuses("initial: ", -1s, 10s);
  refuses("initial: ", longest + 1s, longest + 1s);
  refuses("maximum: ", 10s, 9s);
  refuses("maximum: ", 10s, longest + 1s);
  refuses("maximum: ", 10s, seconds::max());
  EXPECT_NO_THROW(exponential_retry(longest, longest));
}

TEST(RetryAfter, CarriesItsDelayAndReason) {
  const RetryAfter retry{90s, "not yet"};
  EXPECT_EQ(retry.delay(), 90s);
  EXPECT_STREQ(retry.what(), "not yet");
  EXPECT_STREQ(RetryAfter{1s}.what(), "retry requested");
}

TEST(RetryAfter, CanBeCaughtAsRuntimeError) {
  EXPECT_THROW(throw RetryAfter{1s}, std::runtime_error);
}

TEST(RetryAfter, RefusesADelayOutOfRange) {
  const auto refused = ThrowsMessage<std::invalid_argument>(StartsWith("delay: "));
  EXPECT_THAT([] { RetryAfter{-1s}; }, refused);
  EXPECT_THAT([] { RetryAfter{longest + 1s}; }, refused);
  EXPECT_EQ(RetryAfter{0s}.delay(), 0s);
  EXPECT_EQ(RetryAfter{longest}.delay(), longest);
}

TEST(NotNow, CarriesItsDelayAndReason) {
  const NotNow not_now{30s, "payments are down"};
  EXPECT_EQ(not_now.delay(), 30s);
  EXPECT_STREQ(not_now.what(), "payments are down");
  EXPECT_STREQ(NotNow{1ms}.what(), "the handler asked to wait");
  EXPECT_THROW(throw NotNow{1s}, std::runtime_error);
}

TEST(NotNow, RefusesADelayOutOfRange) {
  const auto refused = ThrowsMessage<std::invalid_argument>(StartsWith("delay: "));
  EXPECT_THAT([] { NotNow{-1ms}; }, refused);
  EXPECT_THAT([] { NotNow{std::chrono::hours{24 * 30} + 1ms}; }, refused);
  EXPECT_EQ(NotNow{0ms}.delay(), 0ms);
  EXPECT_EQ(NotNow{std::chrono::hours{24 * 30}}.delay(), std::chrono::hours{24 * 30});
}

}  // namespace
}  // namespace pgque::test
