#include "measure.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <fstream>

#include <sys/wait.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace pgque::bench {

namespace {

double cpu_now() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

// VmRSS or VmHWM, as Linux reports them; negative elsewhere.
double status_mib(const std::string& key) {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ':', 0) == 0) return std::strtod(line.c_str() + key.size() + 1, nullptr) / 1024;
  }
  return -1;
}

// Returns free memory to the system and resets the peak. Returns how much is in use.
double begin_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
  std::ofstream{"/proc/self/clear_refs"} << "5";
  return status_mib("VmRSS");
}

double memory_growth(double since) {
  const double peak = status_mib("VmHWM");
  return peak < 0 || since < 0 ? -1 : std::max(0.0, peak - since);
}

}  // namespace

void Meter::start() {
  if (watch_memory_) memory_start_ = begin_memory();
  cpu_start_ = cpu_now();
  start_ = Clock::now();
}

void Meter::stop(std::int64_t messages) {
  seconds_ = std::chrono::duration<double>(Clock::now() - start_).count();
  cpu_seconds_ = cpu_now() - cpu_start_;
  if (watch_memory_) peak_mib_ = memory_growth(memory_start_);
  messages_ = messages;
}

Comparison compare(int pairs, const Side& pgque, const Side& raw) {
  const auto run = [](const Side& side, Meter meter) {
    side(meter);
    require(meter.stopped(), "nothing was measured");
    return meter;
  };
  Comparison out;
  out.peak_mib = run(pgque, Meter{true}).peak_mib();
  out.raw_peak_mib = run(raw, Meter{true}).peak_mib();

  std::vector<double> seconds, raw_seconds, cpu, raw_cpu, ratios;
  for (int pair = 0; pair < pairs; ++pair) {
    // The side that runs second finds warmer caches, so the order alternates.
    Meter first = run(pair % 2 == 0 ? pgque : raw, Meter{});
    Meter second = run(pair % 2 == 0 ? raw : pgque, Meter{});
    if (pair % 2 != 0) std::swap(first, second);
    require(first.messages() == second.messages(), "the two sides did not do the same work");
    seconds.push_back(first.seconds());
    cpu.push_back(first.cpu_seconds());
    raw_seconds.push_back(second.seconds());
    raw_cpu.push_back(second.cpu_seconds());
    ratios.push_back(second.seconds() / first.seconds());
  }
  out.seconds = median(seconds);
  out.raw_seconds = median(raw_seconds);
  out.cpu = median(cpu);
  out.raw_cpu = median(raw_cpu);
  out.ratio = median(ratios);
  out.ratio_low = quantile(ratios, 0.25);
  out.ratio_high = quantile(ratios, 0.75);
  return out;
}

double quantile(std::vector<double> values, double part) {
  require(!values.empty(), "no values");
  std::sort(values.begin(), values.end());
  const double position = part * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const auto above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (position - std::floor(position));
}

double memory_growth_mib(const std::function<void()>& work) {
  int ends[2];
  require(::pipe(ends) == 0, "pipe");
  std::fflush(nullptr);
  const pid_t child = ::fork();
  require(child >= 0, "fork");
  if (child == 0) {
    double growth = -2;
    try {
      const double before = begin_memory();
      work();
      growth = memory_growth(before);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    [[maybe_unused]] const auto written = ::write(ends[1], &growth, sizeof growth);
    ::_exit(0);  // only the parent ends what it has made
  }
  ::close(ends[1]);
  double growth = -2;
  const auto got = ::read(ends[0], &growth, sizeof growth);
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
  require(got == sizeof growth && growth != -2, "the measured process failed");
  return growth;
}

}  // namespace pgque::bench
