#include "support/backoff.hpp"

#include "support/checks.hpp"

namespace pgque::detail {

std::chrono::milliseconds exponential(std::chrono::milliseconds initial, std::chrono::milliseconds maximum,
                                      std::int64_t attempt) {
  auto delay = initial;
  for (; attempt > 1 && delay < maximum; --attempt) delay = delay > maximum / 2 ? maximum : delay * 2;
  return delay < maximum ? delay : maximum;
}

void check(const ReconnectOptions& options) {
  check_duration("reconnect.initial", options.initial, std::chrono::milliseconds{1}, longest_wait);
  check_duration("reconnect.maximum", options.maximum, options.initial, longest_wait);
}

std::chrono::milliseconds Backoff::next() {
  const auto delay = exponential(options_.initial, options_.maximum, ++attempt_);
  return std::chrono::milliseconds{
      std::uniform_int_distribution<std::int64_t>{delay.count() - delay.count() / 2, delay.count()}(random_)};
}

}  // namespace pgque::detail
