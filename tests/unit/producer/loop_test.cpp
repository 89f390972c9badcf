#include "producer/loop.hpp"

#include <gtest/gtest.h>
#include <pgque/error.hpp>

namespace pgque::test {
namespace {

using detail::Delivery;
using detail::delivery_after;

TEST(DeliveryAfter, TellsWhatMayBeSentAgain) {
  constexpr bool open = true;
  constexpr bool closed = false;
  const struct {
    const char* what;
    const char* sqlstate;
    bool lost;  // a ConnectionError
    bool unknown;
    bool connection;
    Delivery before;
    Delivery committing;
  } cases[] = {
      {"bad JSON", "22P02", false, false, open, Delivery::refused, Delivery::refused},
      {"no such queue", "P0001", false, false, open, Delivery::refused, Delivery::refused},
      {"a timeout of the server's", "57014", false, false, open, Delivery::refused, Delivery::refused},
      {"lost", "08006", true, false, closed, Delivery::kept, Delivery::in_doubt},
      {"lost earlier", "08003", true, false, open, Delivery::kept, Delivery::in_doubt},
      {"lost without a word", "", false, false, closed, Delivery::kept, Delivery::in_doubt},
      {"in doubt", "08007", true, true, closed, Delivery::in_doubt, Delivery::in_doubt},
      {"terminated", "57P01", false, false, open, Delivery::kept, Delivery::in_doubt},
      {"crashed", "57P02", false, false, open, Delivery::kept, Delivery::in_doubt},
      {"starting", "57P03", false, false, open, Delivery::kept, Delivery::in_doubt},
      {"read-only", "25006", false, false, open, Delivery::kept, Delivery::kept},
      {"statement forgotten", "26000", false, false, open, Delivery::kept, Delivery::kept},
      {"another's statement", "42P05", false, false, open, Delivery::kept, Delivery::kept},
  };
  for (const auto& one : cases) {
    Error::Facts facts;
    facts.sqlstate = one.sqlstate;
    facts.outcome_unknown = one.unknown;
    const auto after = [&](bool committing) {
      return one.lost ? delivery_after(ConnectionError{facts}, one.connection, committing)
                      : delivery_after(Error{facts}, one.connection, committing);
    };
    EXPECT_EQ(after(false), one.before) << one.what;
    EXPECT_EQ(after(true), one.committing) << one.what;
  }
}

}  // namespace
}  // namespace pgque::test
