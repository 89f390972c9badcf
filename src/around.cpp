#include <algorithm>
#include <cstddef>
#include <utility>

#include <pgque/consumer_options.hpp>

namespace pgque {

namespace {

void call_from(const std::vector<Around>& arounds, std::size_t index, const Message& message, Context& context,
               const std::function<void()>& next) {
  if (index == arounds.size()) return next();
  arounds[index](message, context, [&] { call_from(arounds, index + 1, message, context, next); });
}

}  // namespace

Around chain(std::vector<Around> arounds) {
  arounds.erase(std::remove(arounds.begin(), arounds.end(), nullptr), arounds.end());
  if (arounds.empty()) return {};
  return [arounds = std::move(arounds)](const Message& message, Context& context, const std::function<void()>& next) {
    call_from(arounds, 0, message, context, next);
  };
}

}  // namespace pgque
