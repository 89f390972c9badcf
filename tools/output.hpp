#pragma once

// What the command prints, and how.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/message.hpp>

namespace pgque::tool {

// Writes to standard output and flushes. If that fails, the process ends at once with status 1, because text that was
// not written must not count as delivered.
void print(std::string_view text);
// The same, with a line feed.
void print_line(const std::string& text);
// Whether standard output accepts data now or within the time; a negative time is for ever.
bool output_writable(std::chrono::milliseconds patience);

// A line to standard error, beginning with the program's name.
void complain(std::string_view text);

bool is_terminal(int descriptor);

// Columns as wide as they need to be. Numbers are right-aligned.
class Table {
 public:
  // A column whose name begins with '>' is right-aligned.
  explicit Table(std::vector<std::string> columns);
  void add(std::vector<std::string> row);
  bool empty() const noexcept { return rows_.empty(); }
  std::string text() const;

 private:
  std::vector<std::string> columns_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// "2026-11-24T00:03:04.123456Z".
std::string iso_time(Timestamp time);
// "2026-11-24 00:03:04", in UTC.
std::string short_time(Timestamp time);
// "1 h 5 min", or "-" for nothing.
std::string in_words(std::optional<std::chrono::microseconds> duration);
// Text for a terminal or a table: control characters, such as escape sequences, are made visible.
std::string printable(std::string_view text);

template <class T>
std::string or_dash(const std::optional<T>& value) {
  if (!value) return "-";
  using std::to_string;
  return to_string(*value);
}

inline double in_seconds(std::chrono::microseconds duration) {
  return static_cast<double>(duration.count()) / 1e6;
}

// Parses "100ms", "3 s", "1.5h", "2min", "30d"; the unit is required. Throws std::invalid_argument.
std::chrono::milliseconds parse_duration(const std::string& text);

// Parses "2026-11-24T00:03:04.5Z" and "2026-11-24 01:03+01:00"; the zone is required. Throws std::invalid_argument.
Timestamp parse_time(const std::string& text);

// JSON text without the white space between its tokens and otherwise unchanged. The text must be valid.
std::string compact_json(std::string_view json);

}  // namespace pgque::tool
