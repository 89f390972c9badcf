#include "executor.hpp"

#include <cctype>
#include <charconv>
#include <stdexcept>

#include <pgque/error.hpp>

#include "error_map.hpp"
#include "session.hpp"
#include "text.hpp"

namespace pgque::detail {

namespace {

// Names are the user's: long ones are cut, so that a message stays readable.
void append_name(std::string& out, const char* what, std::string_view name) {
  if (name.empty()) return;
  constexpr std::size_t longest = 100;
  const auto shown = sanitized(name, longest);
  out += out.back() == '(' ? "" : ", ";
  out += what;
  out += " \"";
  out += shown;
  out += shown.size() < name.size() ? "...\"" : "\"";
}

// A registration that lost a race against another one, or a statement that a pooler or DISCARD made the server forget.
bool worth_repeating(const Error& error, Session& session) {
  if (error.sqlstate() == "26000") {
    session.forget_statements();
    return true;
  }
  return error.sqlstate() == "23505" && error.retryable();
}

}  // namespace

std::string Operation::describe() const {
  std::string out = verb;
  if (queue.empty() && consumer.empty() && !batch) return out;
  out += " (";
  append_name(out, "queue", queue);
  append_name(out, "consumer", consumer);
  if (batch) {
    out += out.back() == '(' ? "batch " : ", batch ";
    out += to_string(*batch);
  }
  return out += ')';
}

template <class Run>
pqxx::result AutocommitExecutor::once(const Operation& operation, Role role, const Run& run) {
  Connection& connection = session_->idle_connection(operation);
  try {
    pqxx::nontransaction tx{connection};
    auto result = run(tx);
    tx.commit();
    return result;
  } catch (const std::exception& error) {
    throw_mapped(error, {operation, role, connection.is_open(), true});
  }
}

pqxx::result AutocommitExecutor::run(const Statement& statement, Params params, const Operation& operation) {
  constexpr int attempts = 5;
  for (int attempt = 1;; ++attempt) {
    try {
      return once(operation, statement.role,
                  [&](pqxx::transaction_base& tx) { return session_->execute(tx, statement, params); });
    } catch (const Error& error) {
      if (attempt == attempts || !worth_repeating(error, *session_)) throw;
    }
  }
}

void AutocommitExecutor::require_usable(const Operation& operation) {
  session_->idle_connection(operation);
}

pqxx::result AutocommitExecutor::run_plain(const std::string& sql, const Operation& operation) {
  return once(operation, Role::none, [&](pqxx::transaction_base& tx) { return tx.exec(sql); });
}

TransactionExecutor::TransactionExecutor(std::shared_ptr<Session> session) : session_{std::move(session)} {
  const Operation operation{"begin"};
  Connection& connection = session_->idle_connection(operation);
  try {
    work_ = std::make_unique<pqxx::work>(connection);
  } catch (const std::exception& error) {
    throw_mapped(error, {operation, Role::none, connection.is_open()});
  }
  session_->transaction_begun();
}

TransactionExecutor::~TransactionExecutor() {
  rollback();
}

template <class Run>
pqxx::result TransactionExecutor::guarded(const Operation& operation, Role role, const Run& run) {
  require_usable(operation);
  try {
    return run();
  } catch (const std::exception& error) {
    failure_ = operation.describe();
    throw_mapped(error, {operation, role, session_->connection().is_open()});
  }
}

void TransactionExecutor::require_usable(const Operation& operation) {
  if (!work_) throw std::logic_error{operation.describe() + ": the transaction is finished"};
  if (session_->closed()) throw std::logic_error{operation.describe() + ": the client is closed"};
  if (!failure_.empty()) {
    throw std::logic_error{operation.describe() +
                           ": the transaction has failed and must be rolled back; it failed at " + failure_};
  }
}

pqxx::result TransactionExecutor::run(const Statement& statement, Params params, const Operation& operation) {
  return guarded(operation, statement.role, [&] {
    try {
      return session_->execute(*work_, statement, params);
    } catch (const pqxx::sql_error& error) {
      // The transaction is lost, but not the session: the next one prepares anew.
      if (std::string{error.sqlstate()} == "26000") session_->forget_statements();
      throw;
    }
  });
}

pqxx::result TransactionExecutor::run_plain(const std::string& sql, const Operation& operation) {
  return guarded(operation, Role::reader, [&] { return work_->exec(sql); });
}

void TransactionExecutor::commit(const Operation& operation) {
  guarded(operation, Role::none, [&] {
    work_->commit();
    return pqxx::result{};
  });
  rollback();
}

void TransactionExecutor::rollback() noexcept {
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

void CallerExecutor::require_usable(const Operation& operation) {
  try {
    transaction_.exec(std::string{});
  } catch (const std::exception& error) {
    throw_mapped(error, {operation, Role::none, connection_of(transaction_).is_open()});
  }
}

pqxx::result CallerExecutor::run(const Statement& statement, Params params, const Operation& operation) {
  try {
    const bool has_binary = params.size() != 0 && (params.end() - 1)->kind() == Param::Kind::binary;
    // Only libpqxx's plain exec() makes sure that the transaction is still open, and opens libpqxx 6's lazy
    // savepoints. A large array is worth the extra round trip instead of being written out as a literal.
    if (!has_binary) return transaction_.exec(render(transaction_, statement, params));
    transaction_.exec(std::string{});
    return exec_params(transaction_, statement.sql, params);
  } catch (const std::exception& error) {
    const bool autocommit = dynamic_cast<const pqxx::nontransaction*>(&transaction_) != nullptr;
    throw_mapped(error, {operation, statement.role, connection_of(transaction_).is_open(), autocommit});
  }
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
  return out;
}

}  // namespace pgque::detail
