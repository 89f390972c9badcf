#pragma once

// What the library's own parts may do with public objects and users may not.

#include <memory>

#include <pgque/admin.hpp>
#include <pgque/client.hpp>
#include <pgque/consumer.hpp>
#include <pgque/ticker.hpp>

namespace pgque::detail {

struct Access {
  static Client make_client(std::shared_ptr<Session> session) { return Client{std::move(session)}; }
  static const std::shared_ptr<Session>& session(const Client& client) { return client.session_; }
  static AdminImpl& impl(const Admin& admin) { return admin.impl(); }
  static const std::shared_ptr<ConsumerImpl>& impl(const Consumer& consumer) { return consumer.impl_; }
  static const std::shared_ptr<TickerImpl>& impl(const Ticker& ticker) { return ticker.impl_; }
};

}  // namespace pgque::detail
