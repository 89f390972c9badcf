#include <pgque/pqxx.hpp>

#include <stdexcept>
#include <utility>

#include "access.hpp"
#include "database/session.hpp"

namespace pgque {

Client borrow(PqxxConnection& connection, OnSend on_send) {
  return detail::Access::make_client(detail::Session::borrow(connection), std::move(on_send));
}

PqxxConnection& native(Client& client) {
  const auto& session = detail::Access::session(client);
  if (!session || session->closed()) throw std::logic_error{"native: the client is closed or moved from"};
  session->home().require("native");
  session->keep_connection();
  return session->connection();
}

}  // namespace pgque
