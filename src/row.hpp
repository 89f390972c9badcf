#pragma once

// Result rows to values.

#include <cstdint>
#include <optional>
#include <vector>

#include <pgque/message.hpp>

#include "pqxx_compat.hpp"

namespace pgque::detail {

// The rows selected by PGQUE_MESSAGE_COLUMNS.
std::vector<Message> read_messages(const pqxx::result& result);

// Numbers are read up to their terminator: asking libpqxx for their length takes longer than reading them. Both throw
// std::runtime_error for anything else.
std::int64_t parse_integer(const char* text);
// From a timestamptz's binary form in hexadecimal: microseconds since the year 2000. PostgreSQL's infinity becomes the
// latest time there is.
Timestamp parse_timestamp(const char* hex);

// The single value of a single row; empty for SQL NULL.
std::optional<std::int64_t> read_int64(const pqxx::result& result);

}  // namespace pgque::detail
