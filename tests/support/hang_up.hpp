#pragma once

// That a server has gone, as the socket of its client sees it: some time after the server's session is not listed any
// more.

#include <poll.h>

namespace pgque::test {

// Waits until the other end has closed the connection. False if it does not within 20 s.
inline bool wait_hung_up(int socket) {
#if defined(POLLRDHUP)
  pollfd descriptor{socket, POLLRDHUP, 0};
#else
  pollfd descriptor{socket, 0, 0};
#endif
  return ::poll(&descriptor, 1, 20'000) == 1;
}

}  // namespace pgque::test
