#include <pgque/transaction.hpp>

#include <stdexcept>

#include "executor.hpp"
#include "session.hpp"

namespace pgque {

namespace {

detail::TransactionExecutor& own(detail::Executor& executor, const char* verb) {
  if (auto* transaction = dynamic_cast<detail::TransactionExecutor*>(&executor)) return *transaction;
  throw std::logic_error{std::string{verb} + ": the transaction is the caller's own, who alone ends it"};
}

}  // namespace

Transaction::Transaction(pqxx::transaction_base& transaction)
    : Operations{std::make_unique<detail::CallerExecutor>(transaction)} {}

Transaction::Transaction(std::shared_ptr<detail::Session> session)
    : Operations{std::make_unique<detail::TransactionExecutor>(std::move(session))} {}

Transaction::Transaction(Transaction&&) noexcept = default;
Transaction& Transaction::operator=(Transaction&&) noexcept = default;
Transaction::~Transaction() = default;

void Transaction::commit() {
  own(executor(), "commit").commit({"commit"});
}

void Transaction::rollback() {
  own(executor(), "rollback").rollback();
}

}  // namespace pgque
