#pragma once

// How a statement is run: each in its own transaction, in a transaction that this library began, or in the caller's.

#include <memory>
#include <string>

#include "database/pqxx_compat.hpp"
#include "database/statement.hpp"

namespace pgque::detail {

class Session;

class Executor {
 public:
  Executor() = default;
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  virtual ~Executor() = default;

  // Runs one statement; failures are thrown as pgque errors.
  virtual pqxx::result run(const Statement& statement, Params params, const Call& call) = 0;
  // Throws as run() would if no statement can be run any more.
  virtual void require_usable(const Call& call) = 0;

  // Both end a transaction that this library began. For any other executor they throw std::logic_error.
  virtual void commit(const Call& call);
  virtual void rollback();
};

// Each statement is committed before run() returns. A statement that certainly had no effect is repeated in two cases:
// after a lost registration race, and if the server no longer knows the prepared statement.
class AutocommitExecutor final : public Executor {
 public:
  explicit AutocommitExecutor(std::shared_ptr<Session> session) : session_{std::move(session)} {}
  pqxx::result run(const Statement& statement, Params params, const Call& call) override;
  void require_usable(const Call& call) override;
  // Runs `sql` as it is, once.
  pqxx::result run_plain(const std::string& sql, const Call& call);
  // Runs the statement once, in one round trip and one transaction with the settings, which `set local` makes for it.
  pqxx::result run_with(const std::string& settings, const Statement& statement, Params params, const Call& call);

 private:
  template <class Run>
  pqxx::result once(const Call& call, Role role, const Run& run);

  std::shared_ptr<Session> session_;
};

// A transaction that this library began.
class TransactionExecutor final : public Executor {
 public:
  explicit TransactionExecutor(std::shared_ptr<Session> session);
  ~TransactionExecutor() override;

  pqxx::result run(const Statement& statement, Params params, const Call& call) override;
  void require_usable(const Call& call) override;
  // Runs `sql` as it is, for statements that cannot be prepared.
  pqxx::result run_plain(const std::string& sql, const Call& call);

  void commit(const Call& call) override;
  // Destroys the transaction without committing; errors are ignored.
  void rollback() noexcept override;
  pqxx::dbtransaction& work() { return *work_; }

 private:
  template <class Run>
  pqxx::result guarded(const Call& call, Role role, const Run& run);

  std::shared_ptr<Session> session_;
  std::unique_ptr<pqxx::work> work_;
  std::string failure_;  // why nothing more can be done in this transaction
};

// The caller's transaction: nothing is prepared, begun or ended there.
class CallerExecutor final : public Executor {
 public:
  explicit CallerExecutor(pqxx::transaction_base& transaction);
  pqxx::result run(const Statement& statement, Params params, const Call& call) override;
  void require_usable(const Call& call) override;

 private:
  pqxx::transaction_base& transaction_;
};

// The statement with its parameters written into it as literals.
std::string render(pqxx::transaction_base& tx, const Statement& statement, Params params);

}  // namespace pgque::detail
