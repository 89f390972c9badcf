#include <pgque/signals.hpp>

#include "access.hpp"
#include "consumer/loop.hpp"
#include "ticker/loop.hpp"

namespace pgque {

void stop_on_signals(Consumer& consumer) {
  if (const auto& loop = detail::Access::loop(consumer)) loop->stop_on_signals();
}

void stop_on_signals(Ticker& ticker) {
  if (const auto& loop = detail::Access::loop(ticker)) loop->stop_on_signals();
}

}  // namespace pgque
