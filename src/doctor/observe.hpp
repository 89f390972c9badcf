#pragma once

// Observes a database over a separate connection.

#include <pgque/doctor.hpp>

#include "doctor/observations.hpp"

namespace pgque::detail {

Observations observe(const Dsn& dsn, const DiagnoseOptions& options);

}  // namespace pgque::detail
