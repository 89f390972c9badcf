#include "consumer/page_calls.hpp"

#include <set>
#include <unordered_map>
#include <utility>

namespace pgque::detail {

namespace {

// After a crash nobody knows which message of a call was the reason. So where a handler's page has a suspect, its
// messages come one by one.
std::set<const Handler*> suspected(const std::vector<Message>& page, const Handlers& handlers,
                                   const CrashGuardFile* crash_guard) {
  std::set<const Handler*> found;
  if (crash_guard == nullptr) return found;
  for (const auto& message : page) {
    if (crash_guard->suspects(message.msg_id)) found.insert(handlers.find(message));
  }
  return found;
}

}  // namespace

PageCalls::PageCalls(std::vector<Message>& page, const Handlers& handlers, const CrashGuardFile* crash_guard) {
  calls_.reserve(page.size());
  if (!handlers.any_for_many()) {
    for (const auto& message : page) calls_.push_back({handlers.find(message), &message});
    return;
  }
  const auto one_by_one = suspected(page, handlers, crash_guard);
  std::unordered_map<const Handler*, std::size_t> open;  // the numbers of the calls that may get more messages
  for (auto& message : page) {
    const auto* const handler = handlers.find(message);
    if (handler == nullptr || !handler->many) {
      calls_.push_back({handler, &message});
      continue;
    }
    const auto chunk = one_by_one.count(handler) != 0 ? 1 : handler->chunk;
    const auto [place, first] = open.try_emplace(handler, calls_.size());
    if (first || calls_[place->second].many->messages.size() >= chunk) {
      place->second = calls_.size();
      calls_.push_back({handler, nullptr, 0, std::make_shared<CallMessages>()});
    }
    calls_[place->second].many->messages.push_back(std::move(message));
  }
  for (auto& call : calls_) {
    if (!call.many) continue;
    call.first = call.many->messages.data();
    call.size = call.many->messages.size();
  }
}

}  // namespace pgque::detail
