#pragma once

// Looks at a database, over a connection of its own.

#include <string_view>

#include <pgque/doctor.hpp>

#include "doctor/observations.hpp"

namespace pgque::detail {

Observations observe(std::string_view dsn, const DiagnoseOptions& options);

}  // namespace pgque::detail
