#pragma once

// The table, and the numbers behind its pictures.

#include <map>
#include <string>
#include <vector>

#include "measure.hpp"

namespace pgque::bench {

struct Row {
  std::string workload;
  std::string pgque;
  std::string raw = "-";
  std::string ratio = "-";
  std::string cpu = "-";     // client, per message: pgque / raw libpq
  std::string memory = "-";  // growth: pgque / raw libpq
  std::string at_least = "-";
};

class Report {
 public:
  // Prints the row at once, too: a whole run takes minutes.
  void add(const Row& row);
  void add(const std::string& workload, const Comparison& comparison, const std::string& at_least = "-");
  // A line of numbers for the picture `series`.
  void point(const std::string& series, const std::vector<double>& values) { points_[series].push_back(values); }

  bool empty() const noexcept { return rows_.empty(); }
  // What was measured, and on what.
  void set_footer(std::string footer) { footer_ = std::move(footer); }
  void print() const;
  void write_markdown(const std::string& file) const;
  void write_points(const std::string& directory) const;

 private:
  std::vector<Row> rows_;
  std::map<std::string, std::vector<std::vector<double>>> points_;
  std::string footer_;
};

std::string per_second(double seconds_per_message);  // "13,900/s"
std::string micros(double seconds);                  // "12.3 us"
std::string millis(double seconds);                  // "0.42 ms"
std::string fixed(double value, int digits);

}  // namespace pgque::bench
