#include "database/session.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <pgque/error.hpp>

#include "database/conninfo.hpp"
#include "database/error_map.hpp"
#include "database/peer.hpp"

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

[[noreturn]] void throw_no_dsn(const std::string& why) {
  Error::Facts facts;
  facts.operation = "connect";
  facts.advice = "dsn: the function threw " + why;
  facts.retryable = true;
  throw ConnectionError{std::move(facts)};
}

std::string ask(const Dsn& dsn) {
  if (!dsn.is_function()) return dsn();
  try {
    return dsn();
  } catch (const std::exception& error) {
    throw_no_dsn(std::string{"an exception: "} + error.what());
  } catch (...) {
    throw_no_dsn("an exception that is not a std::exception");
  }
}

AtHome<OwnedConnection> open(const Dsn& dsn, const SessionOptions& options) {
  const auto conninfo = complete_conninfo(ask(dsn), options);
  try {
    auto connection = make_at_home<OwnedConnection>(conninfo);
    inhibit_reconnect(*connection);
    return connection;
  } catch (const std::exception& error) {
    Error::Facts facts;
    facts.operation = "connect";
    facts.sqlstate = classify(error).sqlstate;
    facts.server_message = connect_message(error.what());
    // libpq passes no SQLSTATE on when connecting fails, so this one is recognised by its text, in English only.
    const bool wrong_password = facts.server_message.find("password authentication failed") != std::string::npos;
    if (wrong_password) facts.sqlstate = "28P01";
    // A function may return another password the next time.
    facts.retryable = dsn.is_function() || facts.sqlstate != "28P01";
    throw ConnectionError{std::move(facts)};
  }
}

// Whether an error may be one of the session, and not of the arguments, the permissions or the moment.
bool may_be_the_sessions(std::string_view state) {
  static constexpr std::array<std::string_view, 6> classes{"0A", "24", "26", "34", "42", "XX"};
  return state != "42501" && std::find(classes.begin(), classes.end(), state.substr(0, 2)) != classes.end();
}

}  // namespace

std::shared_ptr<Session> Session::connect(const Dsn& dsn, const SessionOptions& options) {
  return std::shared_ptr<Session>{new Session{dsn, options}};
}

std::shared_ptr<Session> Session::borrow(Connection& connection) {
  const auto encoding = client_encoding(connection);
  if (encoding != "UTF8" && encoding != "SQL_ASCII") {
    throw std::invalid_argument{"connection: its client_encoding is " + encoding + ", must be UTF8"};
  }
  return std::shared_ptr<Session>{new Session{connection}};
}

Session::Session(const Dsn& dsn, const SessionOptions& options)
    : dsn_{dsn},
      options_{options},
      owned_{open(dsn, options)},
      connection_{owned_.get()},
      renewable_{options.renewable},
      socket_{options.stoppable ? duplicate(owned_->sock()) : -1} {}

Session::Session(Connection& borrowed) : connection_{&borrowed} {}

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
  if (lost_ || !connection_->is_open()) throw_lost(call);
  if (finds_loss()) throw_not_sent(call, false);
  if (worn_out_ && renewable_) renew();
  return *connection_;
}

void Session::renew() {
  auto connection = open(dsn_, options_);
  {
    const std::lock_guard lock{cancel_mutex_};
    owned_.swap(connection);
    connection_ = owned_.get();
  }
  prepared_.clear();
  failures_.clear();
  worn_out_ = false;
}

void Session::succeeded(const Call& call) {
  if (!failures_.empty()) failures_.erase({call.verb, std::string{call.queue}});
}

void Session::failed(const Call& call, const Error& error) {
  if (!may_be_the_sessions(error.sqlstate())) {
    succeeded(call);
    return;
  }
  constexpr int most = 3;
  auto text = error.sqlstate();
  // The message of the others has the statement's name, which is a new one each time.
  if (!is_about_prepared_statement(text)) text += error.server_message();
  auto& failures = failures_[{call.verb, std::string{call.queue}}];
  if (failures.error != text) failures = {std::move(text), 0};
  if (++failures.count == most) worn_out_ = true;
}

const std::string* Session::prepare(const Statement& statement) {
  if (!owned_ || options_.pooled) return nullptr;
  auto prepared = prepared_.find(statement.name);
  if (prepared == prepared_.end()) {
    auto name = std::string{statement.name} + '_' + std::to_string(generation_);
    prepare_now(*connection_, name, statement.sql);
    prepared = prepared_.emplace(statement.name, std::move(name)).first;
  }
  return &prepared->second;
}

pqxx::result Session::execute(pqxx::transaction_base& tx, const Statement& statement, Params params) {
  const auto* const name = prepare(statement);
  return name ? exec_prepared(tx, *name, params) : exec_params(tx, statement.sql, params);
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
  return home_.is_this() && !closed_ && !lost_ && connection_->is_open();
}

void Session::shut_down() noexcept {
  if (home_.is_this()) ::shutdown(socket_, SHUT_RDWR);
}

bool Session::finds_loss() noexcept {
  lost_ = lost_ || !connection_->is_open() || peer_closed(*connection_);
  return lost_;
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
