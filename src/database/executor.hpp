#pragma once

// How a statement is run: each in its own transaction, in a transaction that this library began, or in the caller's.

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include <pgque/on_send.hpp>

#include "database/pqxx_compat.hpp"
#include "database/statement.hpp"
#include "support/home_process.hpp"
#include "support/one_at_a_time.hpp"

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
  // The same, but in a transaction within a savepoint: if the server refuses the statement, the transaction can go on.
  // In the caller's transaction, binary parameters are not possible.
  virtual pqxx::result attempt(const Statement& statement, Params params, const Call& call) = 0;
  // Throws as run() would if no statement can be run any more.
  virtual void require_usable(const Call& call) = 0;

  // Both end a transaction that this library began. For any other executor they throw std::logic_error.
  virtual void commit(const Call& call);
  virtual void rollback();

  // What sees the events before they are sent; null if there is nothing. The executors of a client and of its
  // transactions share it.
  const std::shared_ptr<const OnSend>& on_send() const noexcept { return on_send_; }
  void intercept(std::shared_ptr<const OnSend> on_send) noexcept { on_send_ = std::move(on_send); }
  static std::shared_ptr<const OnSend> shared(OnSend on_send) {
    return on_send ? std::make_shared<const OnSend>(std::move(on_send)) : nullptr;
  }

  // The only process in which it may be used.
  const HomeProcess& home() const noexcept { return home_; }

 private:
  std::shared_ptr<const OnSend> on_send_;
  HomeProcess home_;
};

// Each statement is committed before run() returns. A statement that certainly had no effect is repeated in two cases:
// after a lost registration race, and if the server no longer knows the prepared statement.
class AutocommitExecutor final : public Executor {
 public:
  // The settings, SQL that ends with a semicolon, are sent along with each statement, and apply to it alone.
  explicit AutocommitExecutor(std::shared_ptr<Session> session, std::string settings = {})
      : session_{std::move(session)}, settings_{std::move(settings)} {}
  pqxx::result run(const Statement& statement, Params params, const Call& call) override;
  pqxx::result attempt(const Statement& statement, Params params, const Call& call) override;
  void require_usable(const Call& call) override;
  // Runs `sql` as it is, once. It concerns only the session: settings and cursors, which are gone with the connection.
  // The role is what the caller has to be granted.
  pqxx::result run_plain(const std::string& sql, const Call& call, Role role = Role::none);

 private:
  // run(transaction, bool& executing): sets the latter when it sends what has an effect.
  template <class Run>
  pqxx::result once(const Call& call, Role role, const Run& run);

  std::shared_ptr<Session> session_;
  std::string settings_;
};

// A transaction that this library began.
class TransactionExecutor final : public Executor {
 public:
  explicit TransactionExecutor(std::shared_ptr<Session> session);
  ~TransactionExecutor() override;

  pqxx::result run(const Statement& statement, Params params, const Call& call) override;
  pqxx::result attempt(const Statement& statement, Params params, const Call& call) override;
  void require_usable(const Call& call) override;
  // Runs `sql` as it is, for statements that cannot be prepared.
  pqxx::result run_plain(const std::string& sql, const Call& call);

  void commit(const Call& call) override;
  // Errors of the server are ignored. Does nothing in a child process.
  void rollback() override;
  pqxx::dbtransaction& work() { return *work_; }

 private:
  template <class Run>
  auto guarded(const Call& call, Role role, const Run& run);
  pqxx::result execute(const Statement& statement, Params params);
  // Destroys the transaction, without committing what is not committed.
  void end() noexcept;

  std::shared_ptr<Session> session_;
  AtHome<pqxx::work> work_;
  std::string failure_;  // why nothing more can be done in this transaction
};

// The caller's transaction: nothing is prepared, begun or ended there.
class CallerExecutor final : public Executor {
 public:
  explicit CallerExecutor(pqxx::transaction_base& transaction);
  pqxx::result run(const Statement& statement, Params params, const Call& call) override;
  pqxx::result attempt(const Statement& statement, Params params, const Call& call) override;
  void require_usable(const Call& call) override;

 private:
  pqxx::transaction_base& transaction_;
  OneAtATime users_;
};

// What has to be set for the statement's transaction before it: nothing, or SQL that ends with a semicolon. Only
// AutocommitExecutor does that by itself, and takes statements with SearchPath::own: a longer transaction would keep
// the setting.
std::string settings_of(const Statement& statement);

// Throws std::invalid_argument if PostgreSQL would not take so many bytes in one message: it would close the
// connection, and nobody would know why.
void check_message(std::size_t bytes, const Call& call);

// The statement with its parameters written into it as literals. Throws pqxx::argument_error if it is too long to send.
std::string render(pqxx::transaction_base& tx, const Statement& statement, Params params);

}  // namespace pgque::detail
