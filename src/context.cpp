#include <stdexcept>

#include <pgque/consumer.hpp>

#include "context_state.hpp"
#include "error_map.hpp"

namespace pgque {

namespace detail {

pqxx::transaction_base& ContextState::transaction() {
  if (savepoint) return *savepoint;
  auto* const outer = batch.transaction();
  if (!outer) {
    throw std::logic_error{
        "Context::transaction(): no transaction is open in split mode, which cooperative and "
        "concurrent consumers always use"};
  }
  const auto waiting = waiting_for_server();
  try {
    savepoint = std::make_unique<pqxx::subtransaction>(*outer, "pgque_handler");
    set_savepoint(*savepoint);
  } catch (const std::exception& error) {
    savepoint.reset();
    const Operation operation{"savepoint", {}, {}, batch.id()};
    throw_mapped(error, {operation, Role::none, batch.session()->is_open()});
  }
  return *savepoint;
}

void ContextState::keep() {
  if (!savepoint) return;
  const auto waiting = waiting_for_server();
  // Deferred constraints are checked now, while it is known whose writes violate them: at the batch's commit one bad
  // message would fail all, for ever. Going back to the inner savepoint leaves the constraints deferred.
  savepoint->exec(
      "savepoint pgque_check; set constraints all immediate; rollback to savepoint pgque_check; "
      "release savepoint pgque_check");
  savepoint->commit();
}

void ContextState::discard() {
  if (!savepoint) return;
  const auto waiting = waiting_for_server();
  const Operation operation{"roll back to the handler's savepoint", {}, {}, batch.id()};
  auto& outer = *batch.transaction();
  try {
    // By hand: libpqxx takes a subtransaction whose commit failed for rolled back, which it is not when the handler
    // swallowed an SQL error.
    const auto name = outer.quote_name(savepoint_name(*savepoint));
    savepoint.reset();
    outer.exec("rollback to savepoint " + name + "; release savepoint " + name);
  } catch (const std::exception& error) {
    savepoint.reset();
    throw_mapped(error, {operation, Role::none, batch.session()->is_open()});
  }
}

}  // namespace detail

pqxx::transaction_base& Context::transaction() {
  return state_.transaction();
}
std::int32_t Context::attempt() const noexcept {
  return state_.attempt;
}
BatchId Context::batch() const noexcept {
  return state_.message.batch_id;
}
bool Context::stop_requested() const noexcept {
  return state_.stopper.requested();
}

}  // namespace pgque
