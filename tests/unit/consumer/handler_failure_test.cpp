#include "consumer/handler_failure.hpp"

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::after_handler_failure;
using detail::HandlerFailure;

constexpr bool in_batch = true;
constexpr bool may_rerun = true;

TEST(AfterHandlerFailure, ADeadlockRunsTheHandlerAgainAsLongAsItMay) {
  EXPECT_EQ(after_handler_failure("40P01", in_batch, may_rerun), HandlerFailure::run_again);
  EXPECT_EQ(after_handler_failure("40P01", in_batch, !may_rerun), HandlerFailure::leave_batch);
}

TEST(AfterHandlerFailure, ASerializationFailureLeavesTheBatch) {
  for (const bool rerun : {true, false}) {
    EXPECT_EQ(after_handler_failure("40001", in_batch, rerun), HandlerFailure::leave_batch);
  }
}

TEST(AfterHandlerFailure, AConflictInATransactionOfItsOwnRunsTheHandlerAgainAsLongAsItMay) {
  for (const auto* const state : {"40P01", "40001"}) {
    EXPECT_EQ(after_handler_failure(state, !in_batch, may_rerun), HandlerFailure::run_again);
    EXPECT_EQ(after_handler_failure(state, !in_batch, !may_rerun), HandlerFailure::nack);
  }
}

TEST(AfterHandlerFailure, EverythingElseIsANack) {
  for (const auto* const state : {"", "23505", "55P03", "57014", "P0001", "25P02"}) {
    for (const bool inside : {true, false}) {
      EXPECT_EQ(after_handler_failure(state, inside, may_rerun), HandlerFailure::nack) << state;
    }
  }
}

}  // namespace
}  // namespace pgque::test
