#pragma once

/// @file
/// The client: one connection, one call at a time.

#include <chrono>
#include <memory>
#include <string_view>

#include <pgque/export.hpp>
#include <pgque/operations.hpp>
#include <pgque/transaction.hpp>

namespace pgque {

namespace detail {
class Session;
struct Access;
}  // namespace detail

/// How a client uses its connection. A wrong value makes the constructor throw `std::invalid_argument`.
struct ClientOptions {
  /// Set to true if the DSN points to a connection pooler in transaction mode, such as PgBouncer's, where the next
  /// statement may reach another server session. Statements are then not prepared. Default false: each statement is
  /// prepared once per connection.
  bool pooled = false;
  /// How long connecting to one host may take. Default 10 s; 0 waits as long as the operating system does; at most
  /// 30 days. The DSN's own `connect_timeout`, its service file and the environment's PGCONNECT_TIMEOUT come first.
  /// PostgreSQL's client counts in whole seconds and takes 1 for 2.
  std::chrono::seconds connect_timeout{10};
};

/// A connection to a database with PgQue. Each call is a transaction of its own that is committed when the call
/// returns; `begin()` gives one for several calls.
///
/// If the connection is lost, the call that notices throws `ConnectionError`, and so does every later one: a client
/// never reconnects behind its user's back, because whether the lost call took effect is the user's decision
/// (`Error::outcome_unknown()`). Make a new client.
///
/// **Thread safety.** One thread at a time; a client and its transactions count as one object. Give each thread a
/// client of its own.
class PGQUE_EXPORT Client : public Operations {
 public:
  /// Connects. The connection speaks UTF-8 whatever the DSN says, calls itself `pgque` unless the DSN or PGAPPNAME
  /// gives an `application_name`, and has TCP keepalives of 30 s + 3 x 10 s unless the DSN sets them or names a
  /// service, whose file then has to.
  /// @param dsn a `postgresql://` URI or `key=value` settings, as libpq takes them
  /// @param options see `ClientOptions`
  /// @throws ConnectionError if the DSN is malformed or the server does not take the connection, within
  ///   `connect_timeout`; the message never shows the DSN
  /// @throws std::invalid_argument naming the option
  explicit Client(std::string_view dsn, const ClientOptions& options = {});

  /// A moved-from client can be assigned to and destroyed; every other use throws `std::logic_error`.
  Client(Client&&) noexcept;
  /// The same.
  Client& operator=(Client&&) noexcept;
  /// Closes the connection as `close()` does; an open transaction keeps it until its own end.
  ~Client();

  /// Starts a transaction. Until it is committed, rolled back or destroyed, the client itself must not be used:
  /// its calls throw `std::logic_error`.
  /// @throws ConnectionError
  /// @throws std::logic_error if one is open already, or the client is closed or moved from
  /// SQL: `BEGIN`
  Transaction begin();

  /// Closes the connection if this client made it; a borrowed one stays open. Later calls throw `std::logic_error`.
  /// Closing again does nothing. An open transaction is rolled back.
  void close() noexcept;

  /// False after `close()`, after the connection was found lost, and for a moved-from client.
  bool is_open() const noexcept;

 private:
  friend struct detail::Access;
  explicit Client(std::shared_ptr<detail::Session> session);

  std::shared_ptr<detail::Session> session_;
};

}  // namespace pgque
