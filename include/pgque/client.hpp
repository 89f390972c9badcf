#pragma once

/// @file
/// The client: one connection, one call at a time.

#include <chrono>
#include <memory>

#include <pgque/dsn.hpp>
#include <pgque/export.hpp>
#include <pgque/on_send.hpp>
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
  /// statement may reach another server session. Then statements are not prepared. Default false: each statement is
  /// prepared once per connection.
  bool pooled = false;
  /// How long connecting to one host may take. Default 10 s; 0 waits as long as the operating system does; at most 30
  /// days. A `connect_timeout` in the DSN or its service file, and PGCONNECT_TIMEOUT in the environment, take
  /// precedence. libpq counts in whole seconds and treats 1 as 2.
  std::chrono::seconds connect_timeout{10};
  /// Called with each event before it is checked and sent, by the client and by its transactions; see `OnSend`.
  /// Default: none. `chain()` makes one of several.
  OnSend on_send{};
};

/// A connection to a database with PgQue. Each call is one transaction, which is committed when the call returns;
/// `begin()` starts a transaction for several calls.
///
/// If the connection is lost, the call that notices it throws `ConnectionError`, and so does every later one. A client
/// never replaces a lost connection by itself, because only the caller can decide whether to repeat a call that may
/// have taken effect (`Error::outcome_unknown()`). Make a new client instead.
///
/// Some errors last as long as the session, such as those of plans that an upgrade has made invalid. When a call has
/// failed with the same error of this kind three times in a row, the client makes a new connection before its next
/// call, unless `native()` was called. That call then throws `ConnectionError` if connecting fails.
///
/// **Thread safety.** One thread at a time; a client and its transactions count as one object. Give each thread its own
/// client. A call while another thread is in one throws `std::logic_error`, and the other one goes on. One thread after
/// the other may use it. `close()`, moving and destruction are not checked: they must not happen while another thread
/// is in a call.
///
/// **After `fork()`** a child process must make a new client. With the parent's, every call throws `std::logic_error`,
/// but `close()` does nothing and `is_open()` is false. The destructor leaves the parent's connection alone.
class PGQUE_EXPORT Client : public Operations {
 public:
  /// Connects. The client encoding is always UTF-8, even if the DSN asks for another. The `application_name` is `pgque`
  /// unless the DSN or PGAPPNAME sets one. TCP keepalives are 30 s + 3 x 10 s unless the DSN sets them; if the DSN
  /// names a service, the service file has to set them.
  /// @param dsn a string or a function, see `Dsn`
  /// @param options see `ClientOptions`
  /// @throws ConnectionError if the DSN is malformed, or the server refuses the connection or cannot be reached within
  ///   `connect_timeout`; the message never shows the DSN
  /// @throws std::invalid_argument naming the option
  explicit Client(const Dsn& dsn, const ClientOptions& options = {});

  /// A moved-from client can be assigned to and destroyed; every other use throws `std::logic_error`.
  Client(Client&&) noexcept;
  /// The same.
  Client& operator=(Client&&) noexcept;
  /// Closes the connection as `close()` does; an open transaction keeps the connection until it ends.
  ~Client();

  /// Starts a transaction. Until it is committed, rolled back or destroyed, the client itself must not be used:
  /// its calls throw `std::logic_error`.
  /// @throws ConnectionError
  /// @throws std::logic_error if a transaction is open already, or the client is closed or moved from
  /// SQL: `BEGIN`
  Transaction begin();

  /// Closes the connection if this client made it; a borrowed one stays open. Later calls throw `std::logic_error`.
  /// Closing again does nothing. An open transaction is rolled back.
  void close() noexcept;

  /// False after `close()`, after the connection was found lost, for a moved-from client, and in a child process after
  /// `fork()`.
  bool is_open() const noexcept;

 private:
  friend struct detail::Access;
  Client(std::shared_ptr<detail::Session> session, OnSend on_send);

  std::shared_ptr<detail::Session> session_;
};

}  // namespace pgque
