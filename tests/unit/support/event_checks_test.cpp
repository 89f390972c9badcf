#include "support/event_checks.hpp"

#include <functional>
#include <stdexcept>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "thrown.hpp"

namespace pgque::test {
namespace {

using detail::check_event;

const std::string nul{"a\0b", 3};

TEST(CheckEvent, NamesWhatIsWrong) {
  const struct {
    std::function<void(Event&)> change;
    const char* error;
  } cases[] = {
      {[](Event& e) { e.payload = text("\xFF"); }, "payload: is not valid UTF-8 at offset 0"},
      {[](Event& e) { e.type = nul; }, "type: contains a NUL byte, which PostgreSQL cannot store, at offset 1"},
      {[](Event& e) { e.key = ""; }, "key: must not be empty; an event without a key has none"},
      {[](Event& e) { e.key = std::string(1025, 'k'); }, "key: has 1025 bytes, must have at most 1024"},
      {[](Event& e) { e.key = nul; }, "key: contains a NUL byte, which PostgreSQL cannot store, at offset 1"},
      {[](Event& e) { e.key = "k\xC3"; }, "key: is not valid UTF-8 at offset 1"},
      {[](Event& e) { e.headers[""] = "v"; }, "headers, a name: must not be empty"},
      {[](Event& e) { e.headers[std::string(257, 'n')] = "v"; },
       "headers, a name: has 257 bytes, must have at most 256"},
      {[](Event& e) { e.headers[nul] = "v"; },
       "headers, a name: contains a NUL byte, which PostgreSQL cannot store, at offset 1"},
      {[](Event& e) { e.headers["\xFF"] = "v"; }, "headers, a name: is not valid UTF-8 at offset 0"},
      {[](Event& e) { e.headers["postgresql://u:secret@h/d"] = "v"; },
       "headers, a name: is a DSN, which is not shown here, and not a name"},
      {[](Event& e) { e.headers["traceparent"] = nul; },
       "headers[\"traceparent\"]: contains a NUL byte, which PostgreSQL cannot store, at offset 1"},
      {[](Event& e) { (e.headers["good"] = "v", e.headers["x-bad"] = "\xED\xA0\x80"); },
       "headers[\"x-bad\"]: is not valid UTF-8 at offset 0"},
  };
  for (const auto& [change, text] : cases) {
    Event event{"1", "t", "key", {{"name", "value"}}};
    EXPECT_NO_THROW(check_event(event));
    change(event);
    EXPECT_STREQ(thrown<std::invalid_argument>([&] { check_event(event); }).what(), text);
  }
}

TEST(CheckEvent, AcceptsTheLongestAndAnythingElse) {
  EXPECT_NO_THROW(check_event({std::nullopt}));
  EXPECT_NO_THROW(check_event({"", "", std::string(1024, 'k')}));
  EXPECT_NO_THROW(check_event({"1", "t", "https://example.org/customer?7", {{std::string(256, 'n'), ""}}}));
  EXPECT_NO_THROW(check_event({"1", "t", " \n", {{" ", std::string(100'000, 'v')}, {"\"\\", "\x01"}}}));
}

}  // namespace
}  // namespace pgque::test
