#include "consumer/handlers.hpp"

#include <stdexcept>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "consumer/handler_call.hpp"

namespace pgque::test {
namespace {

using detail::Handlers;
using testing::ThrowsMessage;

// Which of the handlers was found, by what it notes.
class HandlersTest : public testing::Test {
 protected:
  void add(const std::string& type) {
    handlers.add(type, [this, type](const Message&, Context&) { called = type; });
  }
  void add_batch(const std::string& type, const OnBatchOptions& options = {}) {
    handlers.add(
        type, [](const std::vector<Message>&, BatchContext&) {}, options);
  }
  std::string found(const std::optional<std::string>& type) {
    Message message;
    message.type = type;
    const auto* const handler = handlers.find(message);
    if (handler == nullptr) return "none";
    if (handler->many) return "many";
    handler->one(message, context_);
    return called;
  }

  Handlers handlers;
  std::string called;

 private:
  detail::Stopper stopper_;
  detail::Claim claim_;
  OnSend on_send_;
  detail::HandlerCall call_{stopper_, claim_, on_send_};
  Context context_{call_};
};

TEST_F(HandlersTest, ExactGoesBeforePrefixBeforeStar) {
  for (const auto* const type : {"*", "order.*", "order.paid", "order.paid.*", "ord*"}) add(type);
  EXPECT_EQ(found("order.paid"), "order.paid");
  EXPECT_EQ(found("order.paid.late"), "order.paid.*");
  EXPECT_EQ(found("order.made"), "order.*");
  EXPECT_EQ(found("order."), "order.*");
  EXPECT_EQ(found("order"), "ord*");
  EXPECT_EQ(found("or"), "*");
  EXPECT_EQ(found(""), "*");
  EXPECT_EQ(found(std::nullopt), "*");
}

TEST_F(HandlersTest, WithoutAStarOtherTypesHaveNone) {
  add("order.*");
  EXPECT_EQ(found("order.made"), "order.*");
  EXPECT_EQ(found("invoice"), "none");
  EXPECT_EQ(found(std::nullopt), "none");
  EXPECT_EQ(found(""), "none");
}

TEST_F(HandlersTest, TheOrderOfRegistrationDoesNotMatter) {
  for (const auto* const type : {"a.b.*", "a.*", "*", "a.b.c.*", "b.*"}) add(type);
  EXPECT_EQ(found("a.b.c.d"), "a.b.c.*");
  EXPECT_EQ(found("a.b.d"), "a.b.*");
  EXPECT_EQ(found("a.d"), "a.*");
  EXPECT_EQ(found("b.d"), "b.*");
  EXPECT_EQ(found("c"), "*");
}

TEST_F(HandlersTest, AStarElsewhereIsACharacterLikeOthers) {
  add("a*b");
  EXPECT_EQ(found("a*b"), "a*b");
  EXPECT_EQ(found("axb"), "none");
}

TEST_F(HandlersTest, ASecondHandlerForATypeIsAnErrorThatNamesItAndChangesNothing) {
  for (const std::string type : {"t", "t.*", "*"}) {
    add(type);
    add_batch("many." + type);
    for (const bool many : {false, true}) {
      const auto name = (many ? "many." : "") + type;
      const auto refused =
          ThrowsMessage<std::invalid_argument>("type: \"" + name + "\" has a handler already, by " +
                                               (many ? "on_batch()" : "on()") + "; a type has one handler");
      EXPECT_THAT([&] { handlers.add(name, [](const Message&, Context&) {}); }, refused);
      EXPECT_THAT([&] { add_batch(name); }, refused);
    }
  }
  EXPECT_EQ(found("t"), "t");
  EXPECT_EQ(found("t.x"), "t.*");
  EXPECT_EQ(found("x"), "*");
  EXPECT_EQ(found("many.t"), "many");
  EXPECT_EQ(found("many.x"), "many");
}

TEST_F(HandlersTest, AreEmptyUntilOneIsAdded) {
  EXPECT_TRUE(handlers.empty());
  add("t");
  EXPECT_FALSE(handlers.empty());
  Handlers prefix;
  prefix.add("t.*", [](const Message&, Context&) {});
  EXPECT_FALSE(prefix.empty());
}

TEST_F(HandlersTest, AChunkHasAtLeastOneMessage) {
  for (const int chunk : {0, -1}) {
    EXPECT_THAT([&] { add_batch("t", {chunk}); },
                ThrowsMessage<std::invalid_argument>(testing::HasSubstr("chunk: must be at least 1")));
  }
  EXPECT_FALSE(handlers.any_for_many());
  EXPECT_EQ(found("t"), "none");
  add_batch("t", {1});
  EXPECT_TRUE(handlers.any_for_many());
}

TEST_F(HandlersTest, ATypeIsText) {
  EXPECT_THROW(add("\xff"), std::invalid_argument);
  EXPECT_THROW(add_batch(std::string{"a\0b", 3}), std::invalid_argument);
}

}  // namespace
}  // namespace pgque::test
