#include <pgque/client.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"

namespace pgque {

Client::Client(const Dsn& dsn, const ClientOptions& options)
    : Client{detail::Session::connect(dsn, detail::session_options(options))} {}

Client::Client(std::shared_ptr<detail::Session> session)
    : Operations{std::make_unique<detail::AutocommitExecutor>(session)}, session_{std::move(session)} {}

Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Transaction Client::begin() {
  executor();  // throws if moved from
  return Transaction{session_};
}

void Client::close() noexcept {
  if (session_) session_->close();
}

bool Client::is_open() const noexcept {
  return session_ && session_->is_open();
}

}  // namespace pgque
