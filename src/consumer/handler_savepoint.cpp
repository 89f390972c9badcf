#include "consumer/handler_savepoint.hpp"

#include <stdexcept>

#include "database/error_map.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

pqxx::transaction_base& HandlerSavepoint::transaction() {
  batch_.session()->home().require("Context::transaction()");
  if (savepoint_) return *savepoint_;
  auto* const outer = batch_.transaction();
  if (!outer) {
    throw std::logic_error{
        "Context::transaction(): no transaction is open in split mode, which cooperative and "
        "concurrent consumers always use"};
  }
  const auto waiting = waiting_for_server();
  batch_.limit_as_server_does();
  try {
    savepoint_ = make_at_home<pqxx::subtransaction>(*outer, "pgque_handler");
    set_savepoint(*savepoint_);
  } catch (const std::exception& error) {
    savepoint_.reset();
    const Call call{"savepoint", {}, {}, batch_.id()};
    throw_mapped(error, {call, Role::none, batch_.session()->is_open()});
  }
  return *savepoint_;
}

void HandlerSavepoint::keep() {
  if (!savepoint_) return;
  const auto waiting = waiting_for_server();
  savepoint_->exec(sql::check_constraints);
  savepoint_->commit();
}

void HandlerSavepoint::discard() {
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
