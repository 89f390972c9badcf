#pragma once

// The names of the queues under test: a prefix, when the queue was made, and a random number. No I/O.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pgque::detail {

// What make_test_name() adds to the prefix: "_65f0c1a2_0123456789ab".
inline constexpr std::size_t test_name_suffix = 22;
inline constexpr std::size_t longest_queue_name = 57;

inline std::string hexadecimal(std::uint64_t number, std::size_t digits) {
  std::string out(digits, '0');
  for (auto digit = out.rbegin(); digit != out.rend(); ++digit, number /= 16) *digit = "0123456789abcdef"[number % 16];
  return out;
}

inline std::string make_test_name(std::string_view prefix, std::int64_t seconds, std::uint64_t random) {
  return std::string{prefix} + '_' + hexadecimal(static_cast<std::uint64_t>(seconds), 8) + '_' +
         hexadecimal(random, 12);
}

// When the queue was made, in seconds since 1970; empty if make_test_name() has not made the name with this prefix.
inline std::optional<std::int64_t> time_of_test_name(std::string_view prefix, std::string_view name) {
  if (name.size() != prefix.size() + test_name_suffix || name.substr(0, prefix.size()) != prefix) return std::nullopt;
  const auto rest = name.substr(prefix.size());
  std::int64_t seconds = 0;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    if (i == 0 || i == 9) {
      if (rest[i] != '_') return std::nullopt;
      continue;
    }
    const auto digit = std::string_view{"0123456789abcdef"}.find(rest[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    if (i < 9) seconds = seconds * 16 + static_cast<std::int64_t>(digit);
  }
  return seconds;
}

// The advisory lock by which the processes of a database agree on who uses a queue: FNV-1a.
inline std::int64_t lock_of_test_queue(std::string_view name) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return static_cast<std::int64_t>(hash);
}

}  // namespace pgque::detail
