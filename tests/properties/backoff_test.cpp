#include "support/backoff.hpp"

#include <cstdint>
#include <limits>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "properties.hpp"

namespace pgque::test {
namespace {

using detail::Backoff;
using detail::exponential;
using std::chrono::milliseconds;

constexpr std::int64_t longest = 24LL * 30 * 60 * 60 * 1000;

rc::Gen<ReconnectOptions> any_options() {
  // Short and long ones alike: the exponent is drawn, and not the number.
  const auto number = rc::gen::map(rc::gen::pair(rc::gen::inRange(0, 32), rc::gen::inRange(0, 1 << 30)),
                                   [](const std::pair<int, int>& drawn) {
                                     const auto least = std::int64_t{1} << drawn.first;
                                     return std::min(longest, least + drawn.second % least);
                                   });
  return rc::gen::map(rc::gen::pair(number, number), [](const std::pair<std::int64_t, std::int64_t>& two) {
    ReconnectOptions options;
    options.initial = milliseconds{std::min(two.first, two.second)};
    options.maximum = milliseconds{std::max(two.first, two.second)};
    return options;
  });
}

// Without overflow, because it divides instead of multiplying.
std::int64_t grown(const ReconnectOptions& options, int attempt) {
  const auto initial = options.initial.count();
  const auto maximum = options.maximum.count();
  return attempt > 62 || initial > maximum >> (attempt - 1) ? maximum : initial << (attempt - 1);
}

RC_GTEST_PROP(BackoffProperties, APauseIsBetweenHalfOfTheGrownDelayAndAllOfIt, ()) {
  const auto options = *any_options();
  const auto seed = *rc::gen::arbitrary<std::uint32_t>();
  const auto resets = *rc::gen::container<std::vector<bool>>(rc::gen::element(true, false, false, false));
  detail::check(options);
  Backoff backoff{options, seed};
  int attempt = 0;
  for (const bool reset : resets) {
    if (reset) {
      backoff.reset();
      attempt = 0;
    }
    const auto delay = grown(options, ++attempt);
    const auto pause = backoff.next().count();
    RC_ASSERT(pause >= delay - delay / 2);
    RC_ASSERT(pause <= delay);
    RC_ASSERT(pause >= 1);
  }
}

RC_GTEST_PROP(BackoffProperties, TheDelayNeverShrinksNorPassesTheMaximum, ()) {
  const auto options = *any_options();
  const auto attempt = *rc::gen::inRange<int>(1, 200);
  const auto delay = exponential(options.initial, options.maximum, attempt);
  RC_ASSERT(delay.count() == grown(options, attempt));
  RC_ASSERT(exponential(options.initial, options.maximum, attempt + 1) >= delay);
  RC_ASSERT(exponential(options.initial, options.maximum, std::numeric_limits<std::int64_t>::max()) == options.maximum);
}

}  // namespace
}  // namespace pgque::test
