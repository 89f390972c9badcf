#include "consumer/page_calls.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using detail::Handlers;
using detail::PageCalls;
using testing::ElementsAre;
using testing::IsEmpty;

class PageCallsTest : public testing::Test {
 protected:
  void many(const std::string& type, const OnBatchOptions& options = {}) {
    handlers_.add(
        type, [](const std::vector<Message>&, BatchContext&) {}, options);
  }
  void one(const std::string& type) {
    handlers_.add(type, [](const Message&, Context&) {});
  }
  // The ids of each call's messages, for a page with messages of these types and the ids 1, 2, 3, ...
  std::vector<std::vector<std::int64_t>> calls(const std::vector<std::string>& types) {
    std::vector<Message> page;
    for (const auto& type : types) {
      Message message;
      message.msg_id = EventId{static_cast<std::int64_t>(page.size()) + 1};
      message.type = type;
      page.push_back(message);
    }
    const PageCalls calls{page, handlers_, nullptr};
    std::vector<std::vector<std::int64_t>> out;
    for (std::size_t i = 0; i < calls.size(); ++i) {
      out.emplace_back();
      for (std::size_t j = 0; j < calls[i].size; ++j) {
        out.back().push_back(static_cast<std::int64_t>(calls[i].first[j].msg_id));
      }
    }
    return out;
  }

 private:
  Handlers handlers_;
};

TEST_F(PageCallsTest, AHandlerOfSingleMessagesHasACallForEach) {
  one("a");
  EXPECT_THAT(calls({"a", "b", "a"}), ElementsAre(ElementsAre(1), ElementsAre(2), ElementsAre(3)));
  EXPECT_THAT(calls({}), IsEmpty());
}

TEST_F(PageCallsTest, AHandlerOfSeveralHasOneCallAtItsFirstMessage) {
  one("a");
  many("b");
  EXPECT_THAT(calls({"a", "b", "a", "b", "c"}),
              ElementsAre(ElementsAre(1), ElementsAre(2, 4), ElementsAre(3), ElementsAre(5)));
}

TEST_F(PageCallsTest, TypesOfOnePrefixShareACall) {
  many("b.*");
  many("*");
  EXPECT_THAT(calls({"b.1", "x", "b.2", "y"}), ElementsAre(ElementsAre(1, 3), ElementsAre(2, 4)));
}

TEST_F(PageCallsTest, AChunkLimitsEachCall) {
  many("b", {2});
  many("c", {1});
  EXPECT_THAT(calls({"b", "c", "b", "b", "c", "b", "b"}),
              ElementsAre(ElementsAre(1, 3), ElementsAre(2), ElementsAre(4, 6), ElementsAre(5), ElementsAre(7)));
}

}  // namespace
}  // namespace pgque::test
