#include "database/session.hpp"

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <pgque/error.hpp>

#include "database/conninfo.hpp"
#include "database/error_map.hpp"

namespace pgque::detail {

namespace {

[[noreturn]] void throw_lost(const Call& call) {
  Error::Facts facts;
  facts.operation = call.describe();
  facts.sqlstate = "08003";
  facts.advice = "the connection was lost earlier; make a new client";
  throw ConnectionError{std::move(facts)};
}

// libpq reports each host or address that it tried on a separate line. All lines are kept, because only the user knows
// which of them matters.
std::string connect_message(std::string_view text) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  if (text.find('\n') == std::string_view::npos) return primary_message(text);
  std::string out;
  for (const char c : text) out += c == '\n' ? std::string_view{"; "} : std::string_view{&c, 1};
  return out;
}

int duplicate(int socket) {
  const int copy = ::fcntl(socket, F_DUPFD_CLOEXEC, 0);
  if (copy >= 0) return copy;
  Error::Facts facts;
  facts.operation = "connect";
  facts.server_message = "no descriptor for the socket: " + std::generic_category().message(errno);
  facts.retryable = true;
  throw ConnectionError{std::move(facts)};
}

}  // namespace

std::shared_ptr<Session> Session::connect(std::string_view dsn, const SessionOptions& options) {
  const auto conninfo = complete_conninfo(dsn, options);
  AtHome<OwnedConnection> connection;
  try {
    connection = make_at_home<OwnedConnection>(conninfo);
  } catch (const std::exception& error) {
    Error::Facts facts;
    facts.operation = "connect";
    facts.sqlstate = classify(error).sqlstate;
    facts.server_message = connect_message(error.what());
    facts.retryable = true;
    throw ConnectionError{std::move(facts)};
  }
  inhibit_reconnect(*connection);
  return std::shared_ptr<Session>{new Session{std::move(connection), options}};
}

std::shared_ptr<Session> Session::borrow(Connection& connection) {
  const auto encoding = client_encoding(connection);
  if (encoding != "UTF8" && encoding != "SQL_ASCII") {
    throw std::invalid_argument{"connection: its client_encoding is " + encoding + ", must be UTF8"};
  }
  return std::shared_ptr<Session>{new Session{connection}};
}

Session::Session(AtHome<OwnedConnection> owned, const SessionOptions& options)
    : owned_{std::move(owned)},
      connection_{owned_.get()},
      prepare_{!options.pooled},
      socket_{options.stoppable ? duplicate(owned_->sock()) : -1} {}

Session::Session(Connection& borrowed) : connection_{&borrowed}, prepare_{false} {}

Session::~Session() {
  close();
  if (socket_ >= 0) ::close(socket_);
}

Connection& Session::idle_connection(const Call& call) {
  if (!home_.is_this()) home_.require(call.describe());
  if (closed_) throw std::logic_error{call.describe() + ": the client is closed"};
  if (transaction_open_) {
    throw std::logic_error{call.describe() +
                           ": a transaction from begin() is open; use it, commit it or roll it back first"};
  }
  if (!connection_->is_open()) throw_lost(call);
  return *connection_;
}

pqxx::result Session::execute(pqxx::transaction_base& tx, const Statement& statement, Params params) {
  if (!prepare_) return exec_params(tx, statement.sql, params);
  auto prepared = prepared_.find(statement.name);
  if (prepared == prepared_.end()) {
    auto name = std::string{statement.name} + '_' + std::to_string(generation_);
    connection_->prepare(name, statement.sql);
    prepared = prepared_.emplace(statement.name, std::move(name)).first;
  }
  return exec_prepared(tx, prepared->second, params);
}

void Session::forget_statements() {
  prepared_.clear();
  ++generation_;
}

void Session::close() noexcept {
  if (!home_.is_this()) return;
  const std::lock_guard lock{cancel_mutex_};
  if (closed_) return;
  closed_ = true;
  if (!owned_) return;
  try {
    disconnect(*owned_);
  } catch (...) {
    // Errors do not matter for a connection that is being closed.
  }
}

bool Session::is_open() const noexcept {
  return home_.is_this() && !closed_ && connection_->is_open();
}

void Session::shut_down() noexcept {
  if (home_.is_this()) ::shutdown(socket_, SHUT_RDWR);
}

bool Session::peer_closed() noexcept {
#if defined(POLLRDHUP)
  constexpr short closed = POLLRDHUP | POLLHUP | POLLERR;
#else
  constexpr short closed = POLLHUP | POLLERR;
#endif
  pollfd descriptor{connection_->sock(), closed, 0};
  return descriptor.fd < 0 || (::poll(&descriptor, 1, 0) > 0 && (descriptor.revents & closed) != 0);
}

void Session::cancel() noexcept {
  if (!home_.is_this()) return;
  const std::lock_guard lock{cancel_mutex_};
  if (closed_) return;
  try {
    connection_->cancel_query();
  } catch (...) {
    // A request to cancel may come too late or fail; the caller repeats it if necessary.
  }
}

}  // namespace pgque::detail
