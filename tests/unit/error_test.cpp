#include <pgque/error.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_map.hpp"

namespace pgque {
namespace {

using testing::HasSubstr;

TEST(Error, SaysWhatWasDoneWhatTheServerSaidAndWhatToDo) {
  Error::Facts facts;
  facts.operation = "send (queue \"orders\")";
  facts.server_message = "permission denied for function send";
  facts.sqlstate = "42501";
  facts.advice = "grant the role pgque_writer";
  const Error error{facts};
  EXPECT_STREQ(error.what(),
               "send (queue \"orders\"): permission denied for function send [SQLSTATE 42501]: grant the role pgque_writer");
  EXPECT_EQ(error.server_message(), facts.server_message);
  EXPECT_EQ(error.sqlstate(), "42501");
}

TEST(PrimaryMessage, IsWithoutSeverityAndContext) {
  EXPECT_EQ(detail::primary_message("ERROR:  queue not found: a\nCONTEXT:  PL/pgSQL function x\n"), "queue not found: a");
}

}  // namespace
}  // namespace pgque
