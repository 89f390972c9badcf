#include "consumer/handlers.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "support/checks.hpp"
#include "support/text.hpp"

namespace pgque::detail {

void Handlers::add(const std::string& type, std::function<void(const Message&, Context&)> one) {
  put(type, {std::move(one), {}});
}

void Handlers::add(const std::string& type, std::function<void(const std::vector<Message>&, BatchContext&)> many,
                   const OnBatchOptions& options) {
  if (options.chunk) check_at_least("chunk", *options.chunk, 1);
  const auto chunk = options.chunk ? static_cast<std::size_t>(*options.chunk) : std::numeric_limits<std::size_t>::max();
  put(type, {{}, std::move(many), chunk});
  any_for_many_ = true;
}

void Handlers::put(const std::string& type, Handler handler) {
  check_text("type", type);
  const auto refuse = [&](const Handler& present) {
    throw std::invalid_argument{"type: \"" + type + "\" has a handler already, by " +
                                (present.one ? "on()" : "on_batch()") + "; a type has one handler"};
  };
  if (type.empty() || type.back() != '*') {
    const auto [place, added] = exact_.try_emplace(type);
    if (!added) refuse(place->second);
    place->second = std::move(handler);
    return;
  }
  const auto prefix = type.substr(0, type.size() - 1);
  const auto place = std::find_if(prefixes_.begin(), prefixes_.end(),
                                  [&](const auto& present) { return present.first.size() <= prefix.size(); });
  const auto same = std::find_if(place, prefixes_.end(), [&](const auto& present) { return present.first == prefix; });
  if (same != prefixes_.end()) refuse(same->second);
  prefixes_.emplace(place, prefix, std::move(handler));
}

const Handler* Handlers::find(const Message& message) const {
  if (!message.type) {
    // Only the empty prefix, which is the last.
    return prefixes_.empty() || !prefixes_.back().first.empty() ? nullptr : &prefixes_.back().second;
  }
  const auto exact = exact_.find(*message.type);
  if (exact != exact_.end()) return &exact->second;
  for (const auto& [prefix, handler] : prefixes_) {
    if (message.type->compare(0, prefix.size(), prefix) == 0) return &handler;
  }
  return nullptr;
}

}  // namespace pgque::detail
