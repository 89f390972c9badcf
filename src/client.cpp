#include <pgque/client.hpp>

#include "access.hpp"
#include "executor.hpp"
#include "limits.hpp"
#include "session.hpp"

namespace pgque {

namespace {

std::shared_ptr<detail::Session> connect(std::string_view dsn, const ClientOptions& options) {
  detail::check_duration("connect_timeout", options.connect_timeout, std::chrono::milliseconds{0},
                         detail::longest_wait);
  detail::SessionOptions session_options;
  session_options.prepared_statements = options.prepared_statements;
  session_options.connect_timeout = options.connect_timeout;
  return detail::Session::connect(dsn, session_options);
}

}  // namespace

Client::Client(std::string_view dsn, const ClientOptions& options) : Client{connect(dsn, options)} {}

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
