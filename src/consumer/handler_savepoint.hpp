#pragma once

// The savepoint in which a handler writes into its batch's transaction.

#include <exception>

#include "consumer/batch.hpp"
#include "database/pqxx_compat.hpp"
#include "database/statement_guard.hpp"
#include "support/home_process.hpp"

namespace pgque::detail {

class HandlerSavepoint {
 public:
  // Both must outlive it.
  HandlerSavepoint(Batch& batch, StatementGuard& guard) noexcept : batch_{batch}, guard_{guard} {}

  // The batch's transaction, within the savepoint. Throws std::logic_error in split mode, and Error if there can be no
  // savepoint. Then keep() and discard() throw the same, because the batch's transaction cannot go on.
  pqxx::transaction_base& transaction();
  // Whether the handler has asked for the transaction.
  bool is_set() const noexcept { return savepoint_ != nullptr; }
  // Makes the handler's writes part of the batch's transaction; throws if the handler left it unusable.
  void keep();
  // Undoes the handler's writes; throws Error if that is not possible, because then the batch must not be acked.
  void discard();

 private:
  // With this guard, stop() does not wait for ever for a server that does not answer.
  StatementGuard::Scope waiting_for_server() { return {guard_, batch_.session(), StatementGuard::OnStop::drain}; }

  void set(pqxx::dbtransaction& outer);
  void require_sound() const;

  Batch& batch_;
  StatementGuard& guard_;
  AtHome<pqxx::subtransaction> savepoint_{};
  std::exception_ptr broken_;
};

}  // namespace pgque::detail
