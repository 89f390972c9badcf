#pragma once

#include <chrono>
#include <cstdint>
#include <iterator>
#include <string>

namespace pgque::detail {

// A duration for a person, such as "1 h 5 min" or "2.5 s"; "-1 h 5 min" if it is negative.
inline std::string in_words(std::chrono::microseconds duration) {
  if (duration <= std::chrono::milliseconds{-1}) return '-' + in_words(-duration);
  struct Unit {
    std::int64_t seconds;
    const char* name;
  };
  static constexpr Unit units[]{{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(duration).count();
  if (whole < 10) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
    if (ms < 1000) return std::to_string(ms) + " ms";
    const auto tenths = ms / 100 % 10;
    return std::to_string(whole) + (tenths == 0 ? "" : '.' + std::to_string(tenths)) + " s";
  }
  for (std::size_t i = 0; i < std::size(units); ++i) {
    if (whole < units[i].seconds) continue;
    auto out = std::to_string(whole / units[i].seconds) + ' ' + units[i].name;
    const auto rest = whole % units[i].seconds;
    if (i + 1 < std::size(units) && rest >= units[i + 1].seconds) {
      out += ' ' + std::to_string(rest / units[i + 1].seconds) + ' ' + units[i + 1].name;
    }
    return out;
  }
  return "0 s";
}

// How often something happened.
inline std::string times_in_words(std::int64_t times) {
  return times == 1 ? "once" : std::to_string(times) + " times";
}

}  // namespace pgque::detail
