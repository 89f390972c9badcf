#include "database/pooler.hpp"

#include <chrono>

#include <pgque/error.hpp>

#include "database/executor.hpp"
#include "database/pqxx_compat.hpp"
#include "database/row.hpp"

namespace pgque::detail {

namespace {

// Which server process answers, in a transaction of its own.
std::int64_t answering_process(const std::shared_ptr<Session>& session, StatementGuard& guard,
                               StatementGuard::Clock::time_point deadline = StatementGuard::never) {
  const StatementGuard::Scope scope{guard, session, StatementGuard::OnStop::cancel, deadline};
  AutocommitExecutor executor{session};
  const auto process = executor.run_plain("select pg_catalog.pg_backend_pid()", {"look for a pooler"});
  return read_int64(process).value_or(0);
}

}  // namespace

bool shares_sessions(const std::shared_ptr<Session>& session, const Dsn& dsn, const SessionOptions& options,
                     StatementGuard& guard) {
  const auto first = answering_process(session, guard);
  if (first == backend_pid(session->connection())) return false;  // there is nothing in between
  // With little traffic, a pooler in transaction mode gives a client the same session again and again. But it gives
  // that session to another client as well, which a pooler in session mode never does while the first is connected.
  try {
    const auto other = Session::connect(dsn, options);
    // A pooler in session mode makes a client wait if no session is left.
    constexpr std::chrono::seconds patience{5};
    const auto deadline = StatementGuard::Clock::now() + patience;
    // More often than a pool usually has sessions, which may take turns. The first client asks nothing meanwhile: of
    // two sessions that take turns, each client would get its own again and again.
    constexpr int attempts = 100;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      if (answering_process(other, guard, deadline) == first) return true;
    }
  } catch (const ConnectionError&) {
    // There was no session for another client, which tells nothing.
  }
  return answering_process(session, guard) != first;
}

}  // namespace pgque::detail
