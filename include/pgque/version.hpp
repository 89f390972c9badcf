#pragma once

/// @file
/// The version of this library. CMake reads it from here; there is no second place to change.

#include <pgque/export.hpp>

/// The version of these headers: before 1.0, each minor version may change the interface.
#define PGQUE_VERSION_MAJOR 0
/// See PGQUE_VERSION_MAJOR.
#define PGQUE_VERSION_MINOR 1
/// Raised by a release that does not change the interface.
#define PGQUE_VERSION_PATCH 0

namespace pgque {

/// The version of the library that is linked in, such as "0.1.0". Differs from the macros above when headers and
/// library come from different installations. For the server's version, see `Admin::server_version()`.
PGQUE_EXPORT const char* version() noexcept;

}  // namespace pgque
