#pragma once

// The calls of handlers that one page makes.

#include <cstddef>
#include <memory>
#include <vector>

#include <pgque/message.hpp>

#include "consumer/crash_guard.hpp"
#include "consumer/handler_call.hpp"
#include "consumer/handlers.hpp"

namespace pgque::detail {

// The messages of one call.
struct CallMessages {
  std::vector<Message> messages;
  Verdicts verdicts{};  // of those that failed although the handler returned
};

// Calls fail(message) for those that are not named by a verdict. False if there are none.
template <class Fail>
bool fail_rest(const Message* messages, std::size_t size, const Verdicts& verdicts, const Fail& fail) {
  bool any = false;
  for (std::size_t i = 0; i < size; ++i) {
    if (verdicts.count(i) != 0) continue;
    fail(messages[i]);
    any = true;
  }
  return any;
}

struct PageCall {
  const Handler* handler = nullptr;  // null if there is none for the message
  const Message* first = nullptr;
  std::size_t size = 1;
  std::shared_ptr<CallMessages> many{};  // of a handler of several messages
};

// In the order of their first messages.
class PageCalls {
 public:
  // All must outlive it; the crash guard may be null. Messages of handlers of several are moved out of the page.
  PageCalls(std::vector<Message>& page, const Handlers& handlers, const CrashGuardFile* crash_guard);
  std::size_t size() const noexcept { return calls_.size(); }
  const PageCall& operator[](std::size_t number) const noexcept { return calls_[number]; }

 private:
  std::vector<PageCall> calls_;
};

}  // namespace pgque::detail
