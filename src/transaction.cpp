#include <pgque/transaction.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"

namespace pgque {

Transaction::Transaction(pqxx::transaction_base& transaction)
    : Operations{std::make_unique<detail::CallerExecutor>(transaction)} {}

Transaction::Transaction(pqxx::dbtransaction& transaction)
    : Transaction{static_cast<pqxx::transaction_base&>(transaction)} {}

Transaction::Transaction(std::shared_ptr<detail::Session> session)
    : Operations{std::make_unique<detail::TransactionExecutor>(std::move(session))} {}

Transaction::Transaction(Transaction&&) noexcept = default;
Transaction& Transaction::operator=(Transaction&&) noexcept = default;
Transaction::~Transaction() = default;

void Transaction::commit() {
  executor().commit({"commit"});
}

void Transaction::rollback() {
  executor().rollback();
}

}  // namespace pgque
