#pragma once

// The user's DSN with this library's defaults for the settings that it leaves open.

#include <string>
#include <string_view>

#include "database/session_options.hpp"

namespace pgque::detail {

// A key=value connection string. Throws ConnectionError on a malformed DSN, without showing any of it.
std::string complete_conninfo(std::string_view dsn, const SessionOptions& options);

}  // namespace pgque::detail
