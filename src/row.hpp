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

// The single value of a single row; empty for SQL NULL.
std::optional<std::int64_t> read_int64(const pqxx::result& result);

}  // namespace pgque::detail
