#include "consumer/handler_failure.hpp"

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::after_handler_failure;
using detail::HandlerFailure;

TEST(AfterHandlerFailure, ADeadlockRunsTheHandlerAgainThreeTimesAtMost) {
  for (const int reruns : {0, 1, 2}) EXPECT_EQ(after_handler_failure("40P01", reruns), HandlerFailure::run_again);
  EXPECT_EQ(after_handler_failure("40P01", 3), HandlerFailure::leave_batch);
}

TEST(AfterHandlerFailure, ASerializationFailureLeavesTheBatch) {
  EXPECT_EQ(after_handler_failure("40001", 0), HandlerFailure::leave_batch);
}

TEST(AfterHandlerFailure, EverythingElseIsANack) {
  for (const auto* const state : {"", "23505", "55P03", "57014", "P0001", "25P02"}) {
    EXPECT_EQ(after_handler_failure(state, 0), HandlerFailure::nack) << state;
  }
}

}  // namespace
}  // namespace pgque::test
