#include <pgque/client.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"

namespace pgque {

Client::Client(const Dsn& dsn, const ClientOptions& options)
    : Client{detail::Session::connect(dsn, detail::session_options(options)), options.on_send} {}

Client::Client(std::shared_ptr<detail::Session> session, OnSend on_send)
    : Operations{std::make_unique<detail::AutocommitExecutor>(session)}, session_{std::move(session)} {
  executor_->intercept(detail::Executor::shared(std::move(on_send)));
}

Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Transaction Client::begin() {
  const auto& on_send = executor().on_send();  // throws if moved from
  auto transaction = std::make_unique<detail::TransactionExecutor>(session_);
  transaction->intercept(on_send);
  return Transaction{std::move(transaction)};
}

void Client::close() noexcept {
  if (session_) session_->close();
}

bool Client::is_open() const noexcept {
  return session_ && session_->is_open();
}

}  // namespace pgque
