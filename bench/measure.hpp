#pragma once

// Time, processor time and memory of what is measured, and comparisons in interleaved pairs.

#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace pgque::bench {

using Clock = std::chrono::steady_clock;

// Throws, because a benchmark that does not do its work measures nothing.
inline void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error{what};
}

// Measures from start() to stop(), which may be called on different threads.
class Meter {
 public:
  // Watching the memory costs page faults, so it is done in runs whose time does not count.
  explicit Meter(bool watch_memory = false) : watch_memory_{watch_memory} {}

  void start();
  void stop(std::int64_t messages);
  bool stopped() const noexcept { return messages_ != 0; }

  std::int64_t messages() const noexcept { return messages_; }
  // Per message.
  double seconds() const { return seconds_ / static_cast<double>(messages_); }
  double cpu_seconds() const { return cpu_seconds_ / static_cast<double>(messages_); }  // of this process, all threads
  double peak_mib() const noexcept { return peak_mib_; }  // how far memory grew; negative if that cannot be known

 private:
  bool watch_memory_;
  Clock::time_point start_;
  double cpu_start_ = 0;
  double memory_start_ = 0;
  std::int64_t messages_ = 0;
  double seconds_ = 0;
  double cpu_seconds_ = 0;
  double peak_mib_ = -1;
};

// One run of one side; it starts and stops the meter.
using Side = std::function<void(Meter&)>;

struct Comparison {
  double seconds = 0, raw_seconds = 0;  // medians per message
  double cpu = 0, raw_cpu = 0;
  double peak_mib = -1, raw_peak_mib = -1;
  // Speed as a part of the raw program's: median and quartiles over the pairs.
  double ratio = 0, ratio_low = 0, ratio_high = 0;
};

// Runs both sides alternately: one pair to warm up and to see the memory, then `pairs` that count.
Comparison compare(int pairs, const Side& pgque, const Side& raw);

// The value below which that part of the values lies.
double quantile(std::vector<double> values, double part);
inline double median(std::vector<double> values) {
  return quantile(std::move(values), 0.5);
}

// Runs `work` in a separate process and returns by how many MiB its memory grew from the beginning of `work`.
double memory_growth_mib(const std::function<void()>& work);

}  // namespace pgque::bench
