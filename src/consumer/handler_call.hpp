#pragma once

// One call of a handler: what its Context refers to.

#include <cstdint>

#include <pgque/message.hpp>

#include "consumer/claim.hpp"
#include "consumer/handler_savepoint.hpp"
#include "support/stopper.hpp"

namespace pgque::detail {

struct HandlerCall {
  const Message& message;
  const std::int32_t attempt;
  const Stopper& stopper;
  const Claim& claim;
  HandlerSavepoint& savepoint;
};

}  // namespace pgque::detail
