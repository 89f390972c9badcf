#pragma once

// A connection to the server that a test may inspect, hold, freeze and cut.

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "support.hpp"

namespace pgque::test {

// Forwards connections to a port of this machine, one thread for all.
class TcpProxy {
 public:
  explicit TcpProxy(int target_port);
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;
  ~TcpProxy();

  int port() const noexcept { return port_; }
  int connections() const;

  // Forwards nothing any more in either direction, and closes nothing. The operating systems at the ends go on
  // acknowledging packets, keepalives included: what a hung server or balancer looks like. New connections are taken
  // likewise.
  void freeze();
  // Goes on as if nothing had happened.
  void thaw();
  // As if the cable were cut: from now on both ends' packets are not even acknowledged, connection requests included.
  // No FIN, no RST.
  void vanish();
  // New connections are possible again. The old ones stay dead, silently.
  void reappear();
  // Both ends of all connections see a RST.
  void cut();

  // Holds everything from the next request on that contains the text, in any case; release() lets it go.
  void hold_requests_from(const std::string& text);
  // Forwards that request, and holds everything that the server says from then on.
  void hold_answers_after(const std::string& text);
  bool wait_held(std::chrono::milliseconds patience = 20s) const {
    return wait_until([this] { return held_.load(); }, patience);
  }
  void release();

  // From now on puts another text of the same length in its place, wherever a request contains it; an empty text ends
  // that.
  void replace_in_requests(const std::string& text, const std::string& replacement);

  // From now on counts the requests that contain the text.
  void count_requests(const std::string& text);
  int requests() const noexcept { return requests_; }

 private:
  struct Link {
    int client = -1;
    int server = -1;
    std::string to_server{};
    std::string to_client{};
    bool requests_held = false;
    bool answers_held = false;
    bool dead = false;  // vanished: keep the sockets, do nothing
  };

  void run();
  void accept();
  bool pump(Link& link, bool client_ready, bool server_ready);
  void take_requests(Link& link, std::size_t before);
  template <class Change>
  void change(const Change& change);

  const int target_port_;
  int listener_ = -1;
  int port_ = 0;
  int wake_read_ = -1;
  int wake_write_ = -1;
  mutable std::mutex mutex_;
  std::list<Link> links_;
  bool frozen_ = false;
  bool quit_ = false;
  std::string hold_from_;
  std::string hold_after_;
  std::string counted_;
  std::string replaced_;
  std::string replacement_;
  std::atomic<bool> held_{false};
  std::atomic<int> requests_{0};
  std::thread thread_;
};

}  // namespace pgque::test
