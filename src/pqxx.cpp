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
  constexpr const char* of_no_use = "native: the client is closed or moved from";
  if (!session) throw std::logic_error{of_no_use};
  session->home().require("native");
  const detail::OneAtATime::Use use{session->users(), detail::Call{"native"}};
  if (session->closed()) throw std::logic_error{of_no_use};
  session->keep_connection();
  return session->connection();
}

}  // namespace pgque
