#pragma once

/// @file
/// Opt-in: for programs that use libpqxx themselves. It includes libpqxx; no other header of this library does. The
/// program must be built with the libpqxx this library was built with.

#include <pqxx/connection>
#include <pqxx/version>

#include <pgque/client.hpp>
#include <pgque/export.hpp>

namespace pgque {

#if PQXX_VERSION_MAJOR < 7
/// libpqxx's class for connections.
using PqxxConnection = pqxx::connection_base;  // libpqxx 6 has a class for each way of connecting
#else
/// libpqxx's class for connections; with libpqxx 6, the base of its several connection classes.
using PqxxConnection = pqxx::connection;
#endif

/// A client that uses the caller's connection. The connection must outlive the client and is not closed by it. Nothing
/// is prepared on it and no setting is changed. While the caller has a transaction open on the connection, the client's
/// calls throw `std::logic_error`: use `Transaction{work}` there. After `fork()` all calls in the child process throw
/// `std::logic_error`; do not borrow the parent's connection there, and do not destroy it, because libpqxx would end
/// the parent's session. Thread safety: one thread at a time, together with the connection.
/// @param on_send as `ClientOptions::on_send`
/// @throws std::invalid_argument if the connection's client_encoding is not UTF8
PGQUE_EXPORT Client borrow(PqxxConnection& connection, OnSend on_send = {});

/// The client's connection, for statements that this library has no function for. Use it only between calls, and do not
/// keep it beyond the client's lifetime. From then on the client never replaces its connection. Thread safety: as the
/// client.
/// @throws std::logic_error if the client is closed or moved from, or in a child process after `fork()`
PGQUE_EXPORT PqxxConnection& native(Client& client);

}  // namespace pgque
