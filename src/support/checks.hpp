#pragma once

// Checks of numbers and durations that callers hand in. Each throws std::invalid_argument that names the argument.

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace pgque::detail {

inline void check_at_least(std::string_view argument, std::int64_t value, std::int64_t least) {
  if (value >= least) return;
  throw std::invalid_argument{std::string{argument} + ": must be at least " + std::to_string(least) + ", is " +
                              std::to_string(value)};
}

template <class Rep, class Period>
void check_duration(std::string_view argument, std::chrono::duration<Rep, Period> value,
                    std::chrono::milliseconds least, std::chrono::milliseconds most) {
  // In floating point, where no conversion of units overflows.
  const std::chrono::duration<double, std::milli> exact{value};
  if (exact >= least && exact <= most) return;
  throw std::invalid_argument{std::string{argument} + ": must be between " + std::to_string(least.count()) +
                              " ms and " + std::to_string(most.count()) + " ms"};
}

// PgQue keeps the delay in an int4 of seconds.
inline constexpr std::chrono::seconds longest_retry_after{std::numeric_limits<std::int32_t>::max()};

inline void check_retry_after(std::chrono::seconds value, std::string_view argument = "retry_after") {
  if (value >= std::chrono::seconds{0} && value <= longest_retry_after) return;
  throw std::invalid_argument{std::string{argument} + ": must be between 0 s and " +
                              std::to_string(longest_retry_after.count()) + " s, is " + std::to_string(value.count()) +
                              " s"};
}

// 30 days: longer waits are mistakes of unit, and shorter ones overflow no arithmetic.
inline constexpr std::chrono::milliseconds longest_wait{std::chrono::hours{24 * 30}};

inline std::optional<std::int64_t> microseconds_of(std::string_view argument,
                                                   std::optional<std::chrono::milliseconds> value) {
  if (!value) return std::nullopt;
  // Zero or less would take batches away from workers that are alive.
  check_duration(argument, *value, std::chrono::milliseconds{1}, longest_wait);
  return std::int64_t{value->count()} * 1000;
}

}  // namespace pgque::detail
