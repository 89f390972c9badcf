#pragma once

// Observes a database over a separate connection.

#include <string_view>

#include <pgque/doctor.hpp>

#include "doctor/observations.hpp"

namespace pgque::detail {

Observations observe(std::string_view dsn, const DiagnoseOptions& options);

}  // namespace pgque::detail
