#include "ticker/ticker_session.hpp"

#include <utility>

#include <pgque/error.hpp>

#include "database/executor.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

TickerSession::TickerSession(std::shared_ptr<Session> session, StatementGuard& guard, std::optional<std::int64_t> lock)
    : session_{std::move(session)}, guard_{guard}, lock_{lock} {}

std::optional<pqxx::result> TickerSession::run(const Statement& statement, Params params, const Call& call,
                                               const TimeLimits& limits) {
  const StatementGuard::Scope scope{guard_, session_, StatementGuard::OnStop::cancel};
  const auto settings = sql::set_milliseconds(true, "lock_timeout", limits.lock.count()) +
                        sql::set_milliseconds(true, "statement_timeout", limits.statement.count());
  if (!lock_) return AutocommitExecutor{session_, settings}.run(statement, params, call);
  TransactionExecutor transaction{session_};
  try {
    transaction.run_plain(sql::take_turn(*lock_), {"become the active ticker"});
  } catch (const Error& error) {
    if (error.sqlstate() != "55P03") throw;  // lock_not_available
    return std::nullopt;
  }
  transaction.run_plain(settings + settings_of(statement), call);
  auto result = transaction.run({statement.name, statement.role, statement.sql}, params, call);  // its path is set
  transaction.commit({"commit"});
  return result;
}

std::optional<std::int64_t> TickerSession::ask(const Statement& statement, Params params, const Call& call,
                                               const TimeLimits& limits) {
  const auto result = run(statement, params, call, limits);
  return result ? std::optional{read_int64(*result).value_or(0)} : std::nullopt;
}

}  // namespace pgque::detail
