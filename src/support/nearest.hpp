#pragma once

// Which of the words that are known somebody may have meant.

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgque::detail {

// How many letters have to be inserted, removed, replaced or swapped with their neighbour to make one word the other.
inline std::size_t edit_distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> before;
  std::vector<std::size_t> last;
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= from.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = i;
    for (std::size_t k = 1; k <= to.size(); ++k) {
      const bool same = from[i - 1] == to[k - 1];
      row[k] = std::min({last[k] + 1, row[k - 1] + 1, last[k - 1] + (same ? 0 : 1)});
      if (i > 1 && k > 1 && from[i - 1] == to[k - 2] && from[i - 2] == to[k - 1]) {
        row[k] = std::min(row[k], before[k - 2] + 1);
      }
    }
  }
  return row[to.size()];
}

// Whether at most a third of the letters differ.
inline bool is_near(std::size_t distance, std::string_view word, std::string_view other) {
  return distance * 3 <= std::max(word.size(), other.size());
}

inline std::string lower_case(std::string_view text) {
  std::string out{text};
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

// The nearest of these other words, small and capital letters alike; none if none is near.
inline std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& others) {
  const auto wanted = lower_case(word);
  std::optional<std::string> best;
  std::size_t least = 0;
  for (const auto& other : others) {
    if (other == word) continue;
    const auto distance = edit_distance(wanted, lower_case(other));
    if (!is_near(distance, word, other) || (best && distance >= least)) continue;
    best = other;
    least = distance;
  }
  return best;
}

}  // namespace pgque::detail
