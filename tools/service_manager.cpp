#include "service_manager.hpp"

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <system_error>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "output.hpp"

namespace pgque::tool {

namespace {

// Returns errno, or 0.
int send_datagram(std::string_view name, std::string_view text) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof address.sun_path) return ENAMETOOLONG;
  name.copy(address.sun_path, name.size());
  // An abstract socket, which is not a file.
  if (name.front() == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const int descriptor = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  if (descriptor < 0) return errno;
  ssize_t sent = -1;
  do {
    sent = ::sendto(descriptor, text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                    length);
  } while (sent < 0 && errno == EINTR);
  const int error = sent < 0 ? errno : 0;
  ::close(descriptor);
  return error;
}

}  // namespace

void tell_service_manager(std::string_view state) {
  const char* const name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr || *name == '\0') return;
  const int error = send_datagram(name, state);
  if (error == 0) return;
  complain("warning: cannot send " + std::string{state} +
           " to the service manager (NOTIFY_SOCKET): " + std::generic_category().message(error));
}

}  // namespace pgque::tool
