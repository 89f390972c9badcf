#pragma once

// A call of a handler without a consumer that runs and without a database.

#include <pgque/message.hpp>
#include <pgque/testing.hpp>

#include "consumer/handlers.hpp"

namespace pgque::detail {

struct TestAccess {
  // The handler is one for single messages.
  static testing::Outcome call(const Handler& handler, const Message& message);
};

}  // namespace pgque::detail
