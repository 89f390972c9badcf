#include "database/executor.hpp"

#include <cassert>
#include <charconv>
#include <stdexcept>
#include <vector>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/peer.hpp"
#include "database/session.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

namespace {

[[noreturn]] void fail(Session& session, const std::exception& error, const FailureContext& context) {
  try {
    throw_mapped(error, context);
  } catch (const Error& mapped) {
    session.failed(context.call, mapped);
    throw;
  }
}

// True for a registration that lost a race, and for a prepared statement that the server has forgotten.
bool worth_repeating(const Error& error, Session& session) {
  if (is_about_prepared_statement(error.sqlstate())) {
    session.forget_statements();
    return true;
  }
  return error.sqlstate() == "23505" && error.retryable();
}

// Below PostgreSQL's limit of 1 GiB, with some room for what is not a parameter.
constexpr std::size_t longest_message = (std::size_t{1} << 30U) - 4096;

std::string too_long(std::size_t bytes) {
  return "there are " + std::to_string(bytes) +
         " bytes to send, but PostgreSQL takes less than 1 GiB at once: send less in one call";
}

// For advice on a queue that does not exist. Nothing that goes wrong here matters beside that.
std::vector<std::string> queue_names(Connection& connection) {
  std::vector<std::string> names;
  try {
    pqxx::nontransaction tx{connection};
    for_each_row(tx.exec(std::string{sql::queue_names.sql}), [&](auto field) { names.emplace_back(field->c_str()); });
    tx.commit();
  } catch (const std::exception&) {
    names.clear();
  }
  return names;
}

void check_params(Params params, const Call& call) {
  std::size_t bytes = 0;
  for (const auto& param : params) bytes += param.text().size();
  check_message(bytes, call);
}

}  // namespace

void check_message(std::size_t bytes, const Call& call) {
  if (bytes > longest_message) throw std::invalid_argument{call.describe() + ": " + too_long(bytes)};
}

void Executor::commit(const Call& call) {
  throw std::logic_error{call.describe() + ": the transaction is the caller's; only the caller can end it"};
}

void Executor::rollback() {
  throw std::logic_error{"rollback: the transaction is the caller's; only the caller can end it"};
}

template <class Run>
pqxx::result AutocommitExecutor::once(const Call& call, Role role, const Run& run) {
  const OneAtATime::Use use{session_->users(), call};
  Connection& connection = session_->idle_connection(call);
  bool executing = false;
  try {
    pqxx::nontransaction tx{connection};
    auto result = run(tx, executing);
    tx.commit();
    session_->succeeded(call);
    return result;
  } catch (const std::exception& error) {
    fail(*session_, error,
         {call, role, connection.is_open(), executing, [&connection] { return queue_names(connection); }});
  }
}

pqxx::result AutocommitExecutor::run(const Statement& statement, Params params, const Call& call) {
  check_params(params, call);
  const OneAtATime::Use use{session_->users(), call};
  constexpr int attempts = 5;
  for (int attempt = 1;; ++attempt) {
    try {
      return once(call, statement.role, [&](pqxx::transaction_base& tx, bool& executing) {
        const auto settings = settings_ + settings_of(statement);
        if (settings.empty()) {
          session_->prepare(statement);
          executing = true;
          return session_->execute(tx, statement, params);
        }
        // Several statements in one message are one transaction, which `set local` is limited to.
        const auto sql = settings + render(tx, statement, params);
        executing = true;
        return tx.exec(sql);
      });
    } catch (const Error& error) {
      if (attempt == attempts || !worth_repeating(error, *session_)) throw;
    }
  }
}

void AutocommitExecutor::require_usable(const Call& call) {
  const OneAtATime::Use use{session_->users(), call};
  session_->idle_connection(call);
}

pqxx::result AutocommitExecutor::attempt(const Statement& statement, Params params, const Call& call) {
  return run(statement, params, call);
}

pqxx::result AutocommitExecutor::run_plain(const std::string& sql, const Call& call, Role role) {
  return once(call, role, [&](pqxx::transaction_base& tx, bool&) { return tx.exec(sql); });
}

TransactionExecutor::TransactionExecutor(std::shared_ptr<Session> session) : session_{std::move(session)} {
  const Call call{"begin"};
  const OneAtATime::Use use{session_->users(), call};
  Connection& connection = session_->idle_connection(call);
  try {
    work_ = make_at_home<pqxx::work>(connection);
  } catch (const std::exception& error) {
    throw_mapped(error, {call, Role::none, connection.is_open()});
  }
  session_->transaction_begun();
}

TransactionExecutor::~TransactionExecutor() {
  end();
}

template <class Run>
auto TransactionExecutor::guarded(const Call& call, Role role, const Run& run) {
  const OneAtATime::Use use{session_->users(), call};
  require_usable(call);
  try {
    auto result = run();
    session_->succeeded(call);
    return result;
  } catch (const std::exception& error) {
    failure_ = call.describe();
    fail(*session_, error, {call, role, session_->connection().is_open()});
  }
}

void TransactionExecutor::require_usable(const Call& call) {
  const OneAtATime::Use use{session_->users(), call};
  if (!home().is_this()) home().require(call.describe());
  if (!work_) throw std::logic_error{call.describe() + ": the transaction is finished"};
  if (session_->closed()) throw std::logic_error{call.describe() + ": the client is closed"};
  if (!failure_.empty()) {
    throw std::logic_error{call.describe() + ": the transaction has failed and must be rolled back; it failed at " +
                           failure_};
  }
  if (!session_->finds_loss()) return;
  failure_ = call.describe();
  throw_not_sent(call, true);
}

pqxx::result TransactionExecutor::run(const Statement& statement, Params params, const Call& call) {
  check_params(params, call);
  return guarded(call, statement.role, [&] { return execute(statement, params); });
}

pqxx::result TransactionExecutor::execute(const Statement& statement, Params params) {
  assert(statement.path == SearchPath::callers);
  try {
    return session_->execute(*work_, statement, params);
  } catch (const pqxx::sql_error& error) {
    // The transaction has failed, but the session is good: the next transaction prepares the statement again.
    if (is_about_prepared_statement(error.sqlstate())) session_->forget_statements();
    throw;
  }
}

pqxx::result TransactionExecutor::attempt(const Statement& statement, Params params, const Call& call) {
  check_params(params, call);
  const OneAtATime::Use use{session_->users(), call};
  // A call of its own: that it succeeds says nothing about the statement.
  const Call savepoint{"savepoint", call.queue, call.consumer, call.batch};
  run_plain(sql::set_attempt, savepoint);
  pqxx::result result;
  try {
    result = execute(statement, params);
  } catch (const std::exception& error) {
    const bool open = session_->connection().is_open();
    if (open) {
      run_plain(sql::undo_attempt, savepoint);
    } else {
      failure_ = call.describe();
    }
    fail(*session_, error, {call, statement.role, open});
  }
  run_plain(sql::keep_attempt, savepoint);
  session_->succeeded(call);
  return result;
}

pqxx::result TransactionExecutor::run_plain(const std::string& sql, const Call& call) {
  return guarded(call, Role::reader, [&] { return work_->exec(sql); });
}

void TransactionExecutor::commit(const Call& call) {
  const OneAtATime::Use use{session_->users(), call};
  guarded(call, Role::none, [&] {
    work_->commit();
    return true;  // libpqxx 6's constructor of an empty result ends the process if there is no memory for it
  });
  end();
}

void TransactionExecutor::rollback() {
  const OneAtATime::Use use{session_->users(), Call{"rollback"}};
  end();
}

void TransactionExecutor::end() noexcept {
  if (!work_) return;
  // After close() the connection object is gone or disconnected; then there is nothing left to tell the server.
  work_.reset();
  session_->transaction_ended();
}

CallerExecutor::CallerExecutor(pqxx::transaction_base& transaction) : transaction_{transaction} {
  const auto encoding = client_encoding(connection_of(transaction));
  if (encoding != "UTF8" && encoding != "SQL_ASCII") {
    throw std::invalid_argument{"transaction: its connection's client_encoding is " + encoding + ", must be UTF8"};
  }
}

void CallerExecutor::require_usable(const Call& call) {
  const OneAtATime::Use use{users_, call};
  try {
    transaction_.exec(std::string{});
  } catch (const std::exception& error) {
    throw_mapped(error, {call, Role::none, connection_of(transaction_).is_open()});
  }
}

pqxx::result CallerExecutor::run(const Statement& statement, Params params, const Call& call) {
  assert(statement.path == SearchPath::callers);
  check_params(params, call);
  const OneAtATime::Use use{users_, call};
  // In a transaction, whatever is lost before its commit had no effect.
  const bool autocommit = dynamic_cast<const pqxx::nontransaction*>(&transaction_) != nullptr;
  if (autocommit && peer_closed(connection_of(transaction_))) throw_not_sent(call, false);
  bool executing = false;
  try {
    const bool has_binary = params.size() != 0 && (params.end() - 1)->kind() == Param::Kind::binary;
    // Only libpqxx's plain exec() makes sure that the transaction is still open, and opens libpqxx 6's lazy savepoints.
    // For a large array the extra round trip is cheaper than writing the array out as a literal.
    if (!has_binary) {
      const auto sql = render(transaction_, statement, params);
      // Until this, libpqxx has only looked whether the connection is open.
      if (autocommit && !connection_of(transaction_).is_open()) transaction_.exec(std::string{});
      executing = autocommit;
      return transaction_.exec(sql);
    }
    transaction_.exec(std::string{});
    executing = autocommit;
    return exec_params(transaction_, statement.sql, params);
  } catch (const std::exception& error) {
    throw_mapped(error, {call, statement.role, connection_of(transaction_).is_open(), executing});
  }
}

pqxx::result CallerExecutor::attempt(const Statement& statement, Params params, const Call& call) {
  check_params(params, call);
  const OneAtATime::Use use{users_, call};
  auto* const transaction = dynamic_cast<pqxx::dbtransaction*>(&transaction_);
  if (!transaction) return run(statement, params, call);  // there is no transaction to save
  try {
    // libpqxx 6 ends a transaction of which a statement failed, but not the one around a subtransaction.
    pqxx::subtransaction savepoint{*transaction, "pgque_attempt"};
    set_savepoint(savepoint);
    auto result = savepoint.exec(render(savepoint, statement, params));
    savepoint.commit();
    return result;
  } catch (const std::exception& error) {
    throw_mapped(error, {call, statement.role, connection_of(transaction_).is_open()});
  }
}

std::string settings_of(const Statement& statement) {
  return statement.path == SearchPath::own ? sql::set_own_path : "";
}

std::string render(pqxx::transaction_base& tx, const Statement& statement, Params params) {
  const std::string_view sql{statement.sql};
  std::string out;
  out.reserve(sql.size() + 64);
  for (std::size_t i = 0; i < sql.size();) {
    if (sql[i] != '$') {
      out += sql[i++];
      continue;
    }
    std::size_t number = 0;
    const auto* const end = std::from_chars(sql.data() + i + 1, sql.data() + sql.size(), number).ptr;
    i = static_cast<std::size_t>(end - sql.data());
    const Param& param = *(params.begin() + (number - 1));
    switch (param.kind()) {
      case Param::Kind::null:
        out += "null";
        break;
      case Param::Kind::number:
        out += '\'' + std::to_string(param.number()) + '\'';
        break;
      case Param::Kind::text:
        out += quote(tx, param.text());
        break;
      case Param::Kind::binary:
        throw std::logic_error{"a binary parameter cannot be written as a literal"};
    }
  }
  // Texts become longer as literals, where quotes are doubled.
  if (out.size() > longest_message) throw pqxx::argument_error{too_long(out.size())};
  return out;
}

}  // namespace pgque::detail
