#pragma once

// What a handler's Context refers to.

#include <memory>

#include <pgque/message.hpp>

#include "batch.hpp"
#include "pqxx_compat.hpp"
#include "stopper.hpp"

namespace pgque::detail {

struct ContextState {
  const Message& message;
  Batch& batch;
  const Stopper& stopper;
  const std::int32_t attempt;
  std::unique_ptr<pqxx::subtransaction> savepoint{};

  // The batch's transaction, within a savepoint for this handler.
  pqxx::transaction_base& transaction();
  // Makes the handler's writes part of the batch's transaction; throws if the handler left it unusable.
  void keep();
  // Undoes the handler's writes; throws Error if that is not possible, because then the batch must not be acked.
  void discard();
};

}  // namespace pgque::detail
