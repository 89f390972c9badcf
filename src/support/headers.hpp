#pragma once

// The JSON object of strings in which headers travel.

#include <optional>
#include <string>
#include <string_view>

#include <pgque/message.hpp>

namespace pgque::detail {

// Empty if the text is anything but JSON of an object that has only strings, or if jsonb could not hold it.
std::optional<Headers> read_headers(std::string_view json);
std::string write_headers(const Headers& headers);

}  // namespace pgque::detail
