#pragma once

// Finds a connection pooler that does not keep a server session for each client.

#include <memory>

#include "database/session.hpp"
#include "database/statement_guard.hpp"

namespace pgque::detail {

// Whether the DSN, by which the idle session was made, leads to a pooler that gives the server sessions of idle clients
// to others, as in transaction mode: what a session holds, such as a lock, then is not the client's.
bool shares_sessions(const std::shared_ptr<Session>& session, const Dsn& dsn, const SessionOptions& options,
                     StatementGuard& guard);

}  // namespace pgque::detail
