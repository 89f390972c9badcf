#pragma once

// The user's DSN with this library's defaults for the settings that it leaves open.

#include <string>
#include <string_view>

#include <pgque/dsn.hpp>

#include "database/session_options.hpp"

namespace pgque::detail {

// Throws ConnectionError on a malformed DSN, without showing any of it. A function is not called: what it returns is
// known only when it is needed.
void check_fixed(const Dsn& dsn);

// A key=value connection string. Throws as check_fixed() does.
std::string complete_conninfo(std::string_view dsn, const SessionOptions& options);

}  // namespace pgque::detail
