#include <pgque/pqxx.hpp>

#include <stdexcept>

#include "access.hpp"
#include "database/session.hpp"

namespace pgque {

Client borrow(PqxxConnection& connection) {
  return detail::Access::make_client(detail::Session::borrow(connection));
}

PqxxConnection& native(Client& client) {
  const auto& session = detail::Access::session(client);
  if (!session || session->closed()) throw std::logic_error{"native: the client is closed or moved from"};
  session->home().require("native");
  session->keep_connection();
  return session->connection();
}

}  // namespace pgque
