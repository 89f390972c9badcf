#include "output.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <regex>
#include <stdexcept>

#include <poll.h>
#include <unistd.h>

#include "support/in_words.hpp"

namespace pgque::tool {

namespace {

// How many columns a text takes in a terminal, estimated without a table of characters.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

std::tm parts_of(Timestamp time) {
  const std::time_t whole = std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&whole, &parts);
  return parts;
}

}  // namespace

void print(std::string_view text) {
  while (!text.empty()) {
    const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    // Another program on the same terminal may have made it non-blocking.
    if (written < 0 && errno == EAGAIN) {
      output_writable(std::chrono::milliseconds{-1});
      continue;
    }
    if (written < 0) {
      const int error = errno;
      // A reader that closed the pipe needs no message; by default SIGPIPE has ended the process already.
      if (error != EPIPE) complain(std::string{"cannot write to standard output: "} + std::strerror(error));
      ::_exit(1);
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void print_line(const std::string& text) {
  print(text + '\n');
}

bool output_writable(std::chrono::milliseconds patience) {
  pollfd descriptor{STDOUT_FILENO, POLLOUT, 0};
  const int ready = ::poll(&descriptor, 1, static_cast<int>(patience.count()));
  // write() finds and reports a failure; a signal is no failure, and says nothing about the output.
  return ready > 0 || (ready < 0 && errno != EINTR);
}

void complain(std::string_view text) {
  std::string line = "pgque: ";
  line.append(text).append("\n");
  // If this fails, the failure cannot be reported.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

bool is_terminal(int descriptor) {
  return ::isatty(descriptor) == 1;
}

Table::Table(std::vector<std::string> columns) : columns_{std::move(columns)} {
  for (auto& column : columns_) {
    right_.push_back(column.front() == '>');
    if (right_.back()) column.erase(0, 1);
  }
}

void Table::add(std::vector<std::string> row) {
  row.resize(columns_.size());
  for (auto& cell : row) cell = printable(cell);
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    widths.push_back(width(columns_[i]));
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  const auto append = [&](const std::vector<std::string>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - width(row[i]), ' ');
      out += right_[i] ? padding + row[i] : row[i] + padding;
      out += i + 1 < row.size() ? "  " : "";
    }
    while (out.back() == ' ') out.pop_back();
    out += '\n';
  };
  append(columns_);
  for (const auto& row : rows_) append(row);
  return out;
}

std::string iso_time(Timestamp time) {
  const auto parts = parts_of(time);
  std::array<char, 64> text{};
  const auto length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  const auto fraction = time - std::chrono::floor<std::chrono::seconds>(time);
  std::snprintf(text.data() + length, text.size() - length, ".%06ldZ", static_cast<long>(fraction.count()));
  return text.data();
}

std::string short_time(Timestamp time) {
  const auto parts = parts_of(time);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts)};
}

std::string in_words(std::optional<std::chrono::microseconds> duration) {
  if (!duration) return "-";
  return detail::in_words(*duration);
}

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0U;
    if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // some terminals take U+009B for ESC [
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", next);
      out += escape.data();
      ++i;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\x%02x", static_cast<unsigned>(byte));
      out += escape.data();
    } else {
      out += c;
    }
  }
  return out;
}

std::chrono::milliseconds parse_duration(const std::string& text) {
  struct Unit {
    std::string_view name;
    double milliseconds;
  };
  static constexpr std::array<Unit, 10> units{{{"ms", 1},
                                               {"s", 1000},
                                               {"sec", 1000},
                                               {"m", 60e3},
                                               {"min", 60e3},
                                               {"h", 3600e3},
                                               {"hours", 3600e3},
                                               {"d", 86400e3},
                                               {"day", 86400e3},
                                               {"days", 86400e3}}};
  char* end = nullptr;
  const double number = text.empty() || text[0] == '-' ? -1 : std::strtod(text.c_str(), &end);
  if (number >= 0 && end != text.c_str()) {
    std::string_view name{end};
    while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
    for (const auto& unit : units) {
      const double milliseconds = number * unit.milliseconds;
      if (name == unit.name && milliseconds < 1e15) return std::chrono::milliseconds{std::llround(milliseconds)};
    }
    if (name.empty()) {
      throw std::invalid_argument{"'" + text + "' has no unit: write " + text + "ms or " + text + "s"};
    }
  }
  throw std::invalid_argument{"'" + text + "' is not a duration: write it as 100ms, 3s, 5min, 2h or 30d"};
}

Timestamp parse_time(const std::string& text) {
  static const std::regex pattern{
      R"((\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?([Zz]|([+-])(\d\d):?(\d\d)?))"};
  std::smatch found;
  if (!std::regex_match(text, found, pattern)) {
    throw std::invalid_argument{"must be a tick, or a time with its zone, such as 2026-11-24T08:00:00Z or +01:00"};
  }
  const auto number = [&](std::size_t group) { return found[group].matched ? std::stoi(found[group]) : 0; };
  std::tm parts{};
  parts.tm_year = number(1) - 1900;
  parts.tm_mon = number(2) - 1;
  parts.tm_mday = number(3);
  // Not by system_clock::from_time_t(), whose nanoseconds end in 2262.
  const Timestamp midnight{std::chrono::seconds{::timegm(&parts)}};
  // timegm() makes another date of one that there is not.
  const bool valid = parts.tm_mon == number(2) - 1 && parts.tm_mday == number(3) && number(4) < 24 && number(5) < 60 &&
                     number(6) < 60 && number(10) < 16 && number(11) < 60;
  if (!valid) throw std::invalid_argument{"there is no such time"};
  const auto fraction = found[7].matched ? std::stoi((found[7].str() + "00000").substr(0, 6)) : 0;
  const auto zone = std::chrono::minutes{number(10) * 60 + number(11)};
  const auto local = midnight + std::chrono::hours{number(4)} + std::chrono::minutes{number(5)} +
                     std::chrono::seconds{number(6)} + std::chrono::microseconds{fraction};
  return found[9] == "-" ? local + zone : local - zone;
}

std::string compact_json(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      out += c;
      if (c == '\\' && i + 1 < json.size()) out += json[++i];
      in_string = c != '"';
    } else if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
      out += c;
      in_string = c == '"';
    }
  }
  return out;
}

}  // namespace pgque::tool
