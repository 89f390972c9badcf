#pragma once

// A workload, and the settings that it gets.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "measure.hpp"
#include "report.hpp"

namespace pgque::bench {

enum class Scale {
  full,
  quick,  // a third of the pairs
  smoke,  // tiny: only to see that everything works
};

struct Setting {
  std::string dsn;
  Scale scale = Scale::full;

  int pairs(int full) const { return scale == Scale::full ? full : scale == Scale::quick ? std::max(3, full / 3) : 1; }
  template <class Size>
  Size size(Size full, Size smoke) const {
    return scale == Scale::smoke ? smoke : full;
  }
};

struct Workload {
  std::string name;
  std::function<void(const std::string& name, const Setting& setting, Report& report)> run;
};

std::vector<Workload> send_workloads();
std::vector<Workload> receive_workloads();
std::vector<Workload> consume_workloads();
std::vector<Workload> latency_workloads();
std::vector<Workload> backlog_workloads();
std::vector<Workload> scaling_workloads();
std::vector<Workload> ticking_workloads();
std::vector<Workload> held_transaction_workloads();

}  // namespace pgque::bench
