#pragma once

// Turns observations into findings, without looking at the database.

#include <vector>

#include <pgque/doctor.hpp>

#include "doctor/observations.hpp"

namespace pgque::detail {

// The worst first.
std::vector<Finding> judge(const Observations& seen, const DiagnoseOptions& options);

}  // namespace pgque::detail
