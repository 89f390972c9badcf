#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>

namespace pgque::bench {

namespace {

constexpr std::size_t columns = 7;

std::array<std::string, columns> cells(const Row& row) {
  return {row.workload, row.pgque, row.raw, row.ratio, row.cpu, row.memory, row.at_least};
}

const Row header{"workload",           "pgque",         "raw libpq",     "ratio (quartiles)",
                 "client CPU/message", "memory growth", "ratio at least"};

std::string mib(double value) {
  return value < 0 ? "?" : fixed(value, 1);
}

}  // namespace

std::string fixed(double value, int digits) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", digits, value);
  return buffer.data();
}

std::string per_second(double seconds_per_message) {
  // Three significant digits; more would only be noise.
  const double rate = 1 / seconds_per_message;
  const double unit = std::pow(10, std::max(0.0, std::floor(std::log10(rate)) - 2));
  auto digits = fixed(std::round(rate / unit) * unit, 0);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3) {
    digits.insert(static_cast<std::size_t>(at), ",");
  }
  return digits + "/s";
}

std::string micros(double seconds) {
  return fixed(seconds * 1e6, seconds < 1e-5 ? 2 : 1) + " us";
}

std::string millis(double seconds) {
  return fixed(seconds * 1e3, 2) + " ms";
}

void Report::add(const Row& row) {
  rows_.push_back(row);
  std::string line;
  for (const auto& cell : cells(row)) line += (line.empty() ? "" : " | ") + cell;
  std::fprintf(stderr, "%s\n", line.c_str());
}

void Report::add(const std::string& workload, const Comparison& c, const std::string& at_least) {
  add({workload, per_second(c.seconds), per_second(c.raw_seconds),
       fixed(c.ratio, 2) + " (" + fixed(c.ratio_low, 2) + "-" + fixed(c.ratio_high, 2) + ")",
       fixed(c.cpu * 1e6, 2) + " / " + fixed(c.raw_cpu * 1e6, 2) + " us",
       mib(c.peak_mib) + " / " + mib(c.raw_peak_mib) + " MiB", at_least});
}

void Report::print() const {
  std::array<std::size_t, columns> widths{};
  auto all = rows_;
  all.insert(all.begin(), header);
  for (const auto& row : all) {
    const auto texts = cells(row);
    for (std::size_t i = 0; i < columns; ++i) widths.at(i) = std::max(widths.at(i), texts.at(i).size());
  }
  for (const auto& row : all) {
    const auto texts = cells(row);
    for (std::size_t i = 0; i < columns; ++i) {
      std::printf(i == 0 ? "%-*s" : "  %*s", static_cast<int>(widths.at(i)), texts.at(i).c_str());
    }
    std::printf("\n");
  }
  std::printf("\n%s\n", footer_.c_str());
}

void Report::write_markdown(const std::string& file) const {
  std::ofstream out{file};
  const auto line = [&](const std::array<std::string, columns>& texts) {
    for (const auto& text : texts) out << "| " << text << ' ';
    out << "|\n";
  };
  line(cells(header));
  line({"---", "--:", "--:", "--:", "--:", "--:", "--:"});
  for (const auto& row : rows_) line(cells(row));
  out << '\n' << footer_ << '\n';
  require(out.flush().good(), "cannot write " + file);
}

void Report::write_points(const std::string& directory) const {
  for (const auto& [series, lines] : points_) {
    const auto file = directory + '/' + series + ".dat";
    std::ofstream out{file};
    for (const auto& values : lines) {
      for (const double value : values) out << value << ' ';
      out << '\n';
    }
    require(out.flush().good(), "cannot write " + file);
  }
}

}  // namespace pgque::bench
