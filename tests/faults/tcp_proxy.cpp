#include "tcp_proxy.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <system_error>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace pgque::test {

namespace {

void check(int result, const char* what) {
  if (result < 0) throw std::system_error{errno, std::generic_category(), what};
}

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void close_with_reset(int socket) {
  const linger reset{1, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  ::close(socket);
}

// Drops each packet that arrives before TCP sees it, so that nothing is acknowledged.
void deafen(int socket) {
  sock_filter drop{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog program{1, &drop};
  check(::setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), "SO_ATTACH_FILTER");
}

void undeafen(int socket) {
  const int unused = 0;
  ::setsockopt(socket, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused);
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// False once the other end is gone.
bool read_some(int socket, std::string& buffer) {
  char bytes[65536];
  const auto size = ::recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
  if (size > 0) buffer.append(bytes, static_cast<std::size_t>(size));
  return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

bool write_all(int socket, std::string& buffer) {
  while (!buffer.empty()) {
    const auto size = ::send(socket, buffer.data(), buffer.size(), MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return false;
    buffer.erase(0, static_cast<std::size_t>(size));
  }
  return true;
}

}  // namespace

TcpProxy::TcpProxy(int target_port) : target_port_{target_port} {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(listener_, "socket");
  auto address = loopback(0);
  check(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
  check(::listen(listener_, 64), "listen");
  socklen_t size = sizeof address;
  check(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  port_ = ntohs(address.sin_port);
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), "pipe2");
  wake_read_ = ends[0];
  wake_write_ = ends[1];
  thread_ = std::thread{[this] { run(); }};
}

TcpProxy::~TcpProxy() {
  change([this] { quit_ = true; });
  thread_.join();
  for (const auto& link : links_) {
    close_with_reset(link.client);
    close_with_reset(link.server);
  }
  ::close(listener_);
  ::close(wake_read_);
  ::close(wake_write_);
}

int TcpProxy::connections() const {
  const std::lock_guard lock{mutex_};
  return static_cast<int>(std::count_if(links_.begin(), links_.end(), [](const Link& link) { return !link.dead; }));
}

template <class Change>
void TcpProxy::change(const Change& change) {
  const std::lock_guard lock{mutex_};
  change();
  // Under the lock: whoever finds no byte may go on with the list as it was.
  [[maybe_unused]] const auto written = ::write(wake_write_, "", 1);
}

void TcpProxy::freeze() {
  change([this] { frozen_ = true; });
}

void TcpProxy::thaw() {
  change([this] { frozen_ = false; });
}

void TcpProxy::vanish() {
  change([this] {
    deafen(listener_);
    for (auto& link : links_) {
      deafen(link.client);
      deafen(link.server);
      link.dead = true;
    }
  });
}

void TcpProxy::reappear() {
  change([this] { undeafen(listener_); });
}

void TcpProxy::cut() {
  change([this] {
    for (auto link = links_.begin(); link != links_.end();) {
      if (link->dead) {
        ++link;
        continue;
      }
      close_with_reset(link->client);
      close_with_reset(link->server);
      link = links_.erase(link);
    }
    held_ = false;
  });
}

void TcpProxy::hold_requests_from(const std::string& text) {
  change([&] { hold_from_ = lower(text); });
}

void TcpProxy::hold_answers_after(const std::string& text) {
  change([&] { hold_after_ = lower(text); });
}

void TcpProxy::release() {
  change([this] {
    hold_from_.clear();
    hold_after_.clear();
    for (auto& link : links_) link.requests_held = link.answers_held = false;
    held_ = false;
  });
}

void TcpProxy::replace_in_requests(const std::string& text, const std::string& replacement) {
  change([&] {
    replaced_ = text;
    replacement_ = replacement;
  });
}

void TcpProxy::count_requests(const std::string& text) {
  change([&] {
    counted_ = lower(text);
    requests_ = 0;
  });
}

void TcpProxy::accept() {
  const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
  if (client < 0) return;
  const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const auto address = loopback(target_port_);
  if (server < 0 || ::connect(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (server >= 0) ::close(server);
    close_with_reset(client);
    return;
  }
  const int yes = 1;
  for (const int socket : {client, server}) ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  links_.emplace_back();
  links_.back().client = client;
  links_.back().server = server;
}

// Looks at what has come from the client, of which `before` bytes are known.
void TcpProxy::take_requests(Link& link, std::size_t before) {
  if (!replaced_.empty()) {
    if (const auto found = link.to_server.find(replaced_, before); found != std::string::npos) {
      link.to_server.replace(found, replaced_.size(), replacement_);
    }
  }
  const auto fresh = lower(link.to_server.substr(before));
  if (!counted_.empty() && fresh.find(counted_) != std::string::npos) ++requests_;
  if (!hold_from_.empty() && fresh.find(hold_from_) != std::string::npos) {
    hold_from_.clear();
    link.requests_held = true;
    held_ = true;
  }
  if (!hold_after_.empty() && fresh.find(hold_after_) != std::string::npos) {
    hold_after_.clear();
    link.answers_held = true;
    held_ = true;
  }
}

// False once the link is at its end.
bool TcpProxy::pump(Link& link, bool client_ready, bool server_ready) {
  if (client_ready) {
    const auto before = link.to_server.size();
    if (!read_some(link.client, link.to_server)) return false;
    take_requests(link, before);
  }
  if (!link.requests_held && !write_all(link.server, link.to_server)) return false;
  bool server_open = true;
  if (server_ready) server_open = read_some(link.server, link.to_client);
  if (!link.answers_held && !write_all(link.client, link.to_client)) return false;
  return server_open;
}

void TcpProxy::run() {
  for (;;) {
    std::vector<pollfd> descriptors;
    std::vector<std::list<Link>::iterator> polled;
    {
      const std::lock_guard lock{mutex_};
      if (quit_) return;
      // What was held and is not any more goes first.
      if (!frozen_) {
        for (auto link = links_.begin(); link != links_.end();) {
          if (link->dead || pump(*link, false, false)) {
            ++link;
            continue;
          }
          ::close(link->client);
          ::close(link->server);
          link = links_.erase(link);
        }
      }
      descriptors.push_back({wake_read_, POLLIN, 0});
      descriptors.push_back({listener_, static_cast<short>(frozen_ ? 0 : POLLIN), 0});
      for (auto link = links_.begin(); !frozen_ && link != links_.end(); ++link) {
        if (link->dead) continue;
        polled.push_back(link);
        // A side that is held is not read either, so that its end is not noticed before its time.
        descriptors.push_back({link->client, static_cast<short>(link->requests_held ? 0 : POLLIN), 0});
        descriptors.push_back({link->server, static_cast<short>(link->answers_held ? 0 : POLLIN), 0});
        if (link->requests_held) descriptors[descriptors.size() - 2].fd = -1;
        if (link->answers_held) descriptors.back().fd = -1;
      }
    }
    ::poll(descriptors.data(), static_cast<nfds_t>(descriptors.size()), -1);
    const std::lock_guard lock{mutex_};
    char ignored[64];
    bool changed = false;
    while (::read(wake_read_, ignored, sizeof ignored) > 0) changed = true;
    if (changed) continue;  // the list may not be what was polled
    for (std::size_t i = 0; i < polled.size(); ++i) {
      const auto link = polled[i];
      if (pump(*link, descriptors[2 + 2 * i].revents != 0, descriptors[3 + 2 * i].revents != 0)) continue;
      ::close(link->client);
      ::close(link->server);
      links_.erase(link);
    }
    if (descriptors[1].revents != 0) accept();
  }
}

}  // namespace pgque::test
