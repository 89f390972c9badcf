#include <pgque/transaction.hpp>

#include <utility>

#include "database/executor.hpp"

namespace pgque {

Transaction::Transaction(pqxx::transaction_base& transaction, OnSend on_send)
    : Operations{std::make_unique<detail::CallerExecutor>(transaction)} {
  executor_->intercept(detail::Executor::shared(std::move(on_send)));
}

Transaction::Transaction(pqxx::dbtransaction& transaction, OnSend on_send)
    : Transaction{static_cast<pqxx::transaction_base&>(transaction), std::move(on_send)} {}

Transaction::Transaction(std::unique_ptr<detail::Executor> executor) : Operations{std::move(executor)} {}

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
