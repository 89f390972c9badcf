#include <pgque/error.hpp>

#include <optional>
#include <type_traits>

#include <gtest/gtest.h>

namespace pgque::test {
namespace {

Error::Facts all_facts() {
  Error::Facts facts;
  facts.operation = "send (queue \"orders\")";
  facts.server_message = "permission denied for function send";
  facts.sqlstate = "42501";
  facts.advice = "grant the role pgque_writer";
  facts.retryable = true;
  facts.outcome_unknown = true;
  return facts;
}

std::string text_of(const char* operation, const char* server_message, const char* sqlstate, const char* advice) {
  Error::Facts facts;
  facts.operation = operation;
  facts.server_message = server_message;
  facts.sqlstate = sqlstate;
  facts.advice = advice;
  return Error{facts}.what();
}

TEST(Error, SaysWhatWasDoneWhatTheServerSaidAndWhatToDo) {
  EXPECT_STREQ(Error{all_facts()}.what(),
               "send (queue \"orders\"): permission denied for function send [SQLSTATE 42501]: "
               "grant the role pgque_writer");
}

TEST(Error, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(text_of("ack", "", "", ""), "ack");
  EXPECT_EQ(text_of("ack", "no", "", ""), "ack: no");
  EXPECT_EQ(text_of("ack", "", "08006", ""), "ack [SQLSTATE 08006]");
  EXPECT_EQ(text_of("ack", "", "", "try again"), "ack: try again");
  EXPECT_EQ(text_of("ack", "no", "P0001", ""), "ack: no [SQLSTATE P0001]");
  EXPECT_EQ(text_of("", "", "", "try again"), "try again");
  EXPECT_EQ(text_of("", "", "", ""), "");
}

TEST(Error, BeginsWithTheServersWordsWhenTheOperationIsNotKnown) {
  EXPECT_EQ(text_of("", "no", "P0001", ""), "no [SQLSTATE P0001]");
}

TEST(Error, GivesEachFact) {
  const Error error{all_facts()};
  EXPECT_EQ(error.operation(), "send (queue \"orders\")");
  EXPECT_EQ(error.server_message(), "permission denied for function send");
  EXPECT_EQ(error.sqlstate(), "42501");
  EXPECT_TRUE(error.retryable());
  EXPECT_TRUE(error.outcome_unknown());
}

TEST(Error, IsNeitherRetryableNorUncertainUnlessSaid) {
  const Error error{Error::Facts{}};
  EXPECT_FALSE(error.retryable());
  EXPECT_FALSE(error.outcome_unknown());
}

// An exception that throws while it is copied ends the program.
static_assert(std::is_nothrow_copy_constructible_v<Error> && std::is_nothrow_copy_assignable_v<Error>);
static_assert(std::is_nothrow_copy_constructible_v<ConnectionError>);
static_assert(std::is_nothrow_copy_constructible_v<BatchOverflow>);

TEST(Error, KeepsItsFactsWhenCopiedAndWhenTheOriginalIsGone) {
  std::optional<Error> original{all_facts()};
  const Error copy{*original};
  Error assigned{Error::Facts{}};
  assigned = *original;
  original.reset();
  for (const Error& error : {copy, assigned}) {
    EXPECT_EQ(error.operation(), "send (queue \"orders\")");
    EXPECT_EQ(error.sqlstate(), "42501");
    EXPECT_TRUE(error.retryable());
    EXPECT_STREQ(error.what(), Error{all_facts()}.what());
  }
}

TEST(Error, KeepsItsFactsWhenADerivedOneIsSliced) {
  const Error error = QueueNotFound{all_facts()};
  EXPECT_EQ(error.sqlstate(), "42501");
}

template <class E>
struct Make {
  static E error() { return E{all_facts()}; }
};
template <>
struct Make<BatchOverflow> {
  static BatchOverflow error() { return {all_facts(), 10}; }
};

template <class E>
class DerivedError : public testing::Test {};
using DerivedErrors =
    testing::Types<ConnectionError, QueueNotFound, ConsumerNotFound, BatchNotFound, BatchOverflow, PayloadError>;
TYPED_TEST_SUITE(DerivedError, DerivedErrors, );

TYPED_TEST(DerivedError, CanBeCaughtAsItselfAsErrorAndAsRuntimeError) {
  EXPECT_THROW(throw Make<TypeParam>::error(), TypeParam);
  try {
    throw Make<TypeParam>::error();
  } catch (const Error& error) {
    EXPECT_EQ(error.server_message(), "permission denied for function send");
  }
  try {
    throw Make<TypeParam>::error();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), Error{all_facts()}.what());
  }
}

// A handler for one class must not catch another class with it.
static_assert(!std::is_base_of_v<QueueNotFound, ConsumerNotFound> &&
              !std::is_base_of_v<ConsumerNotFound, QueueNotFound>);
static_assert(!std::is_base_of_v<ConnectionError, BatchNotFound> && !std::is_base_of_v<BatchNotFound, BatchOverflow>);

TEST(BatchOverflow, GivesTheLimitThatWasTooSmall) {
  EXPECT_EQ((BatchOverflow{all_facts(), 25}.limit()), 25);
}

}  // namespace
}  // namespace pgque::test
