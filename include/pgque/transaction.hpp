#pragma once

/// @file
/// Several calls, one commit.

#include <memory>

#include <pgque/export.hpp>
#include <pgque/operations.hpp>

// libpqxx is not part of this library's interface, except that a Transaction can work on yours. A forward declaration
// is all it takes, so this header costs nothing to those who do not use libpqxx themselves.
namespace pqxx {
class transaction_base;
}

namespace pgque {

namespace detail {
class Session;
struct Access;
}  // namespace detail

/// All calls on this object are one database transaction.
///
/// Two ways to get one: `Client::begin()`, to be committed with `commit()`; and the constructor below, which works
/// inside the caller's own libpqxx transaction, so that the caller's rows and the events commit together (the
/// transactional outbox).
///
/// **The snapshot rule.** An event is visible to `receive` only if it was committed before a tick that was committed
/// before the `receive`. Sending, ticking and receiving in one transaction therefore delivers nothing; the event
/// arrives with the next tick after the commit.
///
/// **After an error** PostgreSQL has given up the whole transaction. A transaction from `begin()` then refuses every
/// further call and `commit()`, with `std::logic_error`, instead of pretending. A caller's transaction must be
/// abandoned by the caller: libpqxx lets a commit after a swallowed error pass without storing anything.
///
/// **Thread safety.** One thread at a time, together with the client or connection it works on.
class PGQUE_EXPORT Transaction : public Operations {
 public:
  /// Works inside the caller's transaction: `pqxx::work`, a `pqxx::subtransaction`, `pqxx::nontransaction` and so on.
  /// Nothing is committed or rolled back here. Each call first makes sure that the transaction is still open and
  /// throws `std::logic_error` if not: libpqxx by itself would run it in autocommit mode. The transaction must outlive
  /// this object.
  /// @throws std::invalid_argument if the connection's client_encoding is not UTF8
  explicit Transaction(pqxx::transaction_base& transaction);

  /// A moved-from transaction can be assigned to and destroyed; every other use throws `std::logic_error`.
  Transaction(Transaction&&) noexcept;
  /// The same; what this one had open is rolled back.
  Transaction& operator=(Transaction&&) noexcept;
  /// Rolls back what was begun with `Client::begin()` and not committed.
  ~Transaction();

  /// Makes everything since `begin()` permanent.
  /// @throws ConnectionError with `outcome_unknown()` if the connection is lost while committing
  /// @throws Error if the server refuses, for example because of a deferred constraint; nothing is stored then
  /// @throws std::logic_error if it is finished already, failed, or the caller's own
  /// SQL: `COMMIT`
  void commit();

  /// Gives up everything since `begin()`. Does nothing if it is finished already.
  /// @throws std::logic_error if the transaction is the caller's own
  /// SQL: `ROLLBACK`
  void rollback();

 private:
  friend class Client;
  explicit Transaction(std::shared_ptr<detail::Session> session);
};

}  // namespace pgque
