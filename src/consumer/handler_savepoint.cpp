#include "consumer/handler_savepoint.hpp"

#include <stdexcept>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

pqxx::transaction_base& HandlerSavepoint::transaction() {
  batch_.session()->home().require("Context::transaction()");
  require_sound();
  if (savepoint_) return *savepoint_;
  auto* const outer = batch_.transaction();
  if (!outer) {
    throw std::logic_error{
        "Context::transaction(): no transaction is open in split mode, which cooperative and "
        "concurrent consumers always use"};
  }
  try {
    set(*outer);
  } catch (const Error&) {
    broken_ = std::current_exception();
    throw;
  }
  return *savepoint_;
}

void HandlerSavepoint::set(pqxx::dbtransaction& outer) {
  const auto waiting = waiting_for_server();
  batch_.limit_as_server_does();
  try {
    savepoint_ = make_at_home<pqxx::subtransaction>(outer, "pgque_handler");
    set_savepoint(*savepoint_);
  } catch (const std::exception& error) {
    savepoint_.reset();
    const Call call{"savepoint", {}, {}, batch_.id()};
    throw_mapped(error, {call, Role::none, batch_.session()->is_open()});
  }
}

void HandlerSavepoint::require_sound() const {
  if (broken_) std::rethrow_exception(broken_);
}

void HandlerSavepoint::keep() {
  require_sound();
  if (!savepoint_) return;
  const auto waiting = waiting_for_server();
  savepoint_->exec(sql::check_constraints + batch_.limit_after_handler());
  savepoint_->commit();
}

void HandlerSavepoint::discard() {
  require_sound();
  if (!savepoint_) return;
  const auto waiting = waiting_for_server();
  const Call call{"roll back to the handler's savepoint", {}, {}, batch_.id()};
  auto& outer = *batch_.transaction();
  try {
    // Roll back with plain SQL: libpqxx considers a subtransaction whose commit failed as rolled back, but it is not if
    // the handler swallowed an SQL error.
    const auto name = outer.quote_name(savepoint_name(*savepoint_));
    savepoint_.reset();
    outer.exec(sql::undo_savepoint(name));
  } catch (const std::exception& error) {
    savepoint_.reset();
    throw_mapped(error, {call, Role::none, batch_.session()->is_open()});
  }
}

}  // namespace pgque::detail
