#include "database/peer.hpp"

#include <utility>

#include <poll.h>

#include <pgque/error.hpp>

namespace pgque::detail {

bool peer_closed(Connection& connection) noexcept {
#if defined(POLLRDHUP)
  constexpr short closed = POLLRDHUP | POLLHUP | POLLERR;
#else
  constexpr short closed = POLLHUP | POLLERR;
#endif
  pollfd descriptor{connection.sock(), closed, 0};
  return descriptor.fd >= 0 && ::poll(&descriptor, 1, 0) > 0 && (descriptor.revents & closed) != 0;
}

void throw_not_sent(const Call& call, bool in_transaction) {
  Error::Facts facts;
  facts.operation = call.describe();
  facts.sqlstate = "08006";
  facts.advice = in_transaction ? "the connection was lost; nothing of the transaction was stored"
                                : "the connection was lost before the call, which was not sent";
  facts.retryable = true;
  throw ConnectionError{std::move(facts)};
}

}  // namespace pgque::detail
