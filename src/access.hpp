#pragma once

// Lets the public classes use each other's private members, which users cannot reach.

#include <memory>

#include <pgque/client.hpp>
#include <pgque/consumer.hpp>
#include <pgque/ticker.hpp>

namespace pgque::detail {

struct Access {
  static Client make_client(std::shared_ptr<Session> session, OnSend on_send) {
    return Client{std::move(session), std::move(on_send)};
  }
  static const std::shared_ptr<Session>& session(const Client& client) { return client.session_; }
  static const std::shared_ptr<ConsumerLoop>& loop(const Consumer& consumer) { return consumer.loop_; }
  static const std::shared_ptr<TickerLoop>& loop(const Ticker& ticker) { return ticker.loop_; }
};

}  // namespace pgque::detail
