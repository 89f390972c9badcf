#include "consumer/handler_savepoint.hpp"

#include <stdexcept>
#include <utility>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

pqxx::dbtransaction& HandlerSavepoint::transaction() {
  batch_.session()->home().require("Context::transaction()");
  require_sound();
  if (is_set()) return *inner_;
  if (!batch_.transaction()) {
    throw std::logic_error{
        "Context::transaction(): no transaction is open in split mode, which cooperative and "
        "concurrent consumers always use"};
  }
  soundly([&] { set(); });
  return *inner_;
}

void HandlerSavepoint::set() {
  const auto waiting = waiting_for_server();
  const auto savepoint = batch_.settings_for_handlers() + sql::set_handler;
  const bool in_one = kept_ && constraints_ && constraints_->immediate.empty();
  if (!in_one || !settle(savepoint)) {
    if (kept_) settle({});
    if (all_deferred_ && constraints_) make_immediate();
    if (constraints_) {
      run_or_throw(savepoint);
    } else {
      ask_for_constraints(savepoint + "; ");
    }
  }
  inner_.emplace(*batch_.transaction());
}

// `first` is SQL that is run before.
void HandlerSavepoint::ask_for_constraints(const std::string& first) {
  try {
    const auto result = batch_.transaction()->exec(first + sql::deferrable_constraints);
    constraints_ = Constraints{result[0][0].as<std::int64_t>() != 0, result[0][1].as<std::string>({}), 0U};
  } catch (const std::exception& error) {
    fail(error);
  }
}

void HandlerSavepoint::keep(const Message& message) {
  require_sound();
  if (!inner_ || kept_) return;
  if (inner_->ended()) {
    throw std::logic_error{"Context::transaction(): the handler ended it, or went on after a statement had failed"};
  }
  kept_ = &message;
}

void HandlerSavepoint::settle() {
  require_sound();
  if (!kept_) return;
  const auto waiting = waiting_for_server();
  soundly([&] { settle(batch_.settings_for_library()); });
}

// `then` is SQL that follows if the writes can be kept; false if they cannot.
bool HandlerSavepoint::settle(const std::string& then) {
  const auto* const message = std::exchange(kept_, nullptr);
  try {
    // Not by the batch's transaction itself, because libpqxx 6 would end it after an error.
    inner_->exec(statements_to_keep() + then);
    inner_.reset();
    all_deferred_ = constraints_->exist;
    return true;
  } catch (const std::exception& error) {
    if (!batch_.session()->is_open()) fail(error);
    refused_ = Refused{message, std::current_exception()};
  }
  undo();
  return false;
}

const char* HandlerSavepoint::statements_to_keep() {
  if (!constraints_->exist) return sql::keep_handler;
  if (++constraints_->checks % sql::handlers_between_cleanups != 0) return sql::check_and_keep_handler;
  return sql::check_twice_and_keep_handler;
}

std::optional<HandlerSavepoint::Refused> HandlerSavepoint::take_refused() {
  return std::exchange(refused_, std::nullopt);
}

void HandlerSavepoint::discard() {
  require_sound();
  if (!is_set()) return;
  const auto waiting = waiting_for_server();
  undo();
}

void HandlerSavepoint::undo() {
  inner_.reset();
  run_or_throw(sql::undo_handler);
}

// In a savepoint, because a constraint may have been dropped since its name was asked for.
void HandlerSavepoint::make_immediate() {
  all_deferred_ = false;
  if (constraints_->immediate.empty()) return;
  InnerTransaction attempt{*batch_.transaction()};
  try {
    attempt.exec(std::string{sql::set_attempt} + "; " + sql::make_immediate(constraints_->immediate) +
                 sql::keep_attempt);
    return;
  } catch (const std::exception& error) {
    if (!batch_.session()->is_open()) fail(error);
  }
  run_or_throw(sql::undo_attempt);
  ask_for_constraints({});
  if (!constraints_->immediate.empty()) run_or_throw(sql::make_immediate(constraints_->immediate));
}

void HandlerSavepoint::run_or_throw(const std::string& sql) {
  try {
    batch_.transaction()->exec(sql);
  } catch (const std::exception& error) {
    fail(error);
  }
}

void HandlerSavepoint::fail(const std::exception& error) const {
  const Call call{"the handler's savepoint", {}, {}, batch_.id()};
  throw_mapped(error, {call, Role::none, batch_.session()->is_open()});
}

void HandlerSavepoint::require_sound() const {
  if (broken_) std::rethrow_exception(broken_);
}

template <class Do>
void HandlerSavepoint::soundly(const Do& action) {
  try {
    action();
  } catch (const Error&) {
    broken_ = std::current_exception();
    throw;
  }
}

}  // namespace pgque::detail
