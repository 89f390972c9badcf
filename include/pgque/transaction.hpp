#pragma once

/// @file
/// Several calls, one commit.

#include <memory>

#include <pgque/export.hpp>
#include <pgque/on_send.hpp>
#include <pgque/operations.hpp>

// libpqxx is not part of this library's interface, except that a Transaction can work in the caller's. A forward
// declaration is enough for that, so this header does not include libpqxx.
namespace pqxx {
class dbtransaction;
class transaction_base;
}  // namespace pqxx

namespace pgque {

/// All calls on this object are one database transaction.
///
/// There are two ways to get one. `Client::begin()` starts a transaction, which `commit()` ends. The constructor below
/// works inside the caller's own libpqxx transaction, so that the caller's rows and the events commit together (the
/// transactional outbox).
///
/// **The snapshot rule.** An event is visible to `receive` only if it was committed before a tick that was committed
/// before the `receive`. Sending, ticking and receiving in one transaction therefore delivers nothing; the event
/// arrives with the next tick after the commit.
///
/// **After an error** the whole transaction has failed in PostgreSQL. A transaction from `begin()` then throws
/// `std::logic_error` from every further call and from `commit()`. If the transaction is the caller's, the caller must
/// roll it back: after a swallowed error libpqxx's commit succeeds without storing anything.
///
/// **Thread safety.** One thread at a time, together with the client or connection it works on. A call while another
/// thread is in one throws `std::logic_error`, and the other one goes on. Moving and destruction, which rolls back, are
/// not checked: they must not happen while another thread is in a call.
///
/// **After `fork()`** it belongs to the parent process. In the child every call throws `std::logic_error`, and the
/// destructor does nothing. A transaction of the caller's own libpqxx is not protected: its destructor sends a rollback
/// to the parent's server.
class PGQUE_EXPORT Transaction : public Operations {
 public:
  /// Works inside the caller's transaction: `pqxx::work`, a `pqxx::subtransaction`, `pqxx::nontransaction` and so on.
  /// Nothing is committed or rolled back here. Each call first makes sure that the transaction is still open and throws
  /// `std::logic_error` if not, because libpqxx would run the call in autocommit mode. The transaction must outlive
  /// this object.
  /// @param on_send called with each event, as `ClientOptions::on_send` is for a transaction from `begin()`
  /// @throws std::invalid_argument if the connection's client_encoding is not UTF8
  explicit Transaction(pqxx::transaction_base& transaction, OnSend on_send = {});
  /// The same, for what `Context::transaction()` returns, where libpqxx's headers are not included.
  explicit Transaction(pqxx::dbtransaction& transaction, OnSend on_send = {});

  /// A moved-from transaction can be assigned to and destroyed; every other use throws `std::logic_error`.
  Transaction(Transaction&&) noexcept;
  /// The same; a transaction that this object had open is rolled back.
  Transaction& operator=(Transaction&&) noexcept;
  /// Rolls back a transaction from `Client::begin()` that was not committed.
  ~Transaction();

  /// Makes everything since `begin()` permanent.
  /// @throws ConnectionError with `outcome_unknown()` if the connection is lost while committing
  /// @throws Error if the server refuses, for example because of a deferred constraint; nothing is stored then
  /// @throws std::logic_error if the transaction is finished already, has failed, or is the caller's own
  /// SQL: `COMMIT`
  void commit();

  /// Gives up everything since `begin()`. Does nothing if the transaction is finished already.
  /// @throws std::logic_error if the transaction is the caller's own, or another thread is in a call
  /// SQL: `ROLLBACK`
  void rollback();

 private:
  friend class Client;
  explicit Transaction(std::unique_ptr<detail::Executor> executor);
};

}  // namespace pgque
