#pragma once

// What a handler's Context refers to.

#include <memory>

#include <pgque/message.hpp>

#include "batch.hpp"
#include "pqxx_compat.hpp"
#include "receive_canceller.hpp"
#include "stopper.hpp"

namespace pgque::detail {

struct ContextState {
  const Message& message;
  Batch& batch;
  const Stopper& stopper;
  ReceiveCanceller& canceller;
  const std::int32_t attempt;
  std::unique_ptr<pqxx::subtransaction> savepoint{};

  // The batch's transaction, within a savepoint for this handler.
  pqxx::transaction_base& transaction();
  // Makes the handler's writes part of the batch's transaction; throws if the handler left it unusable.
  void keep();
  // Undoes the handler's writes; throws Error if that is not possible, because then the batch must not be acked.
  void discard();

 private:
  // stop() does not wait for ever for a server that does not answer.
  ReceiveCanceller::Scope waiting_for_server() { return {canceller, batch.session(), ReceiveCanceller::OnStop::drain}; }
};

}  // namespace pgque::detail
