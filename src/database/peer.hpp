#pragma once

// What is known about the server at the other end of a connection without asking it, which is the difference between a
// call that was not sent and one that may have been executed.

#include "database/pqxx_compat.hpp"
#include "database/statement.hpp"

namespace pgque::detail {

// Whether the server has closed the connection, although libpq may not have noticed yet. Costs one system call. False
// if the connection has no socket any more: then libpq knows.
bool peer_closed(Connection& connection) noexcept;

// For a call of which nothing was sent, because the connection was lost before. Throws ConnectionError. In a
// transaction nothing of that is stored either.
[[noreturn]] void throw_not_sent(const Call& call, bool in_transaction);

}  // namespace pgque::detail
