#pragma once

// The savepoints in which the handlers of a page write into their batch's transaction, one after another.
//
// When a handler has returned, its deferred constraints are to be checked and its savepoint is to be released. That
// goes to the server along with the savepoint of the next handler, so that a handler costs one round trip beside its
// own statements. Whether its writes can be kept is therefore known only then, or at settle().

#include <cstddef>
#include <exception>
#include <optional>
#include <string>

#include "consumer/batch.hpp"
#include "database/pqxx_compat.hpp"
#include "database/statement_guard.hpp"

namespace pgque::detail {

// Why the messages of a handler that did this fail.
inline constexpr const char* ended_transaction =
    "the handler, or its on_ack() callback, has ended the batch's transaction by a COMMIT or ROLLBACK of its own; only "
    "the consumer may do that";

class HandlerSavepoint {
 public:
  // The database's deferrable constraints.
  struct Constraints {
    bool exist;
    std::string immediate;  // those that are INITIALLY IMMEDIATE, as a list
    int checks = 0;         // since PostgreSQL has forgotten the earlier ones
  };

  // All of them must outlive it. The constraints are asked for when they are first needed.
  HandlerSavepoint(Batch& batch, StatementGuard& guard, std::optional<Constraints>& constraints) noexcept
      : batch_{batch}, guard_{guard}, constraints_{constraints} {}

  // The batch's transaction, within the running handler's savepoint. Throws std::logic_error in split mode, and Error
  // if there can be no savepoint. Then all other functions throw the same, because the batch's transaction cannot go
  // on.
  pqxx::dbtransaction& transaction();
  // Whether there is one while handlers run: not in split mode.
  bool has_transaction() noexcept { return batch_.transaction() != nullptr; }
  // Whether the call of this number, which has just returned, has asked for the transaction.
  bool keeps(std::size_t number) const noexcept { return kept_ == number; }
  // The text of an exception that left the running handler, with what had gone wrong in its transaction before.
  std::string text_of(const std::exception& error) const;
  // Whether the running handler has asked for the transaction.
  bool is_set() const noexcept { return inner_ && !kept_; }
  // The handler has returned: its writes are to become part of the batch's transaction, under this number. Throws if it
  // ended the transaction.
  void keep(std::size_t number);
  // Undoes the running handler's writes; throws Error if that is not possible, because then the batch must not be
  // acked.
  void discard(std::size_t number);

  // Makes the writes that are to be kept part of the batch's transaction.
  void settle();
  // Throws what made the batch's transaction unusable, if anything did.
  void require_sound() const;
  // The writes that could not be kept, once. They are undone.
  struct Refused {
    std::size_t number;
    std::exception_ptr error;
  };
  std::optional<Refused> take_refused();
  // The number of the call that has ended the batch's transaction by a statement of its own, if one has. Then
  // everything else throws.
  std::optional<std::size_t> ended_by() const noexcept { return ended_by_; }

 private:
  // With this guard, stop() does not wait for ever for a server that does not answer.
  StatementGuard::Scope waiting_for_server() { return {guard_, batch_.session(), StatementGuard::OnStop::drain}; }

  void set();
  void ask_for_constraints(const std::string& first);
  std::string begin_handler();
  bool settle(const std::string& then);
  bool list_is_stale(const std::exception_ptr& error);
  void undo(std::size_t number, const std::exception_ptr& why);
  std::string why_it_failed() const;
  void run(const std::string& sql);
  [[noreturn]] void fail(const std::exception_ptr& error) const;
  template <class Do>
  void soundly(const Do& action);

  Batch& batch_;
  StatementGuard& guard_;
  std::optional<Constraints>& constraints_;
  std::optional<InnerTransaction> inner_;  // while there is a savepoint
  std::optional<std::size_t> kept_;        // whose writes are to be settled
  std::string swallowed_;                  // the error of the last statement of that handler, if it is known
  std::optional<Refused> refused_;
  std::optional<std::size_t> ended_by_;
  std::exception_ptr broken_;
};

}  // namespace pgque::detail
