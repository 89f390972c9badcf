#include "consumer/handler_savepoint.hpp"

#include <stdexcept>
#include <utility>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

namespace {

// No transaction, or another one, which does not have the savepoint.
bool says_that_it_ended(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& cause) {
    const auto state = sqlstate_of(cause);
    return state == "25P01" || state == "3B001";
  }
}

bool says_that_a_statement_failed_before(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& cause) {
    return sqlstate_of(cause) == "25P02";
  }
}

constexpr const char* went_on =
    "the handler, or its on_ack() callback, went on after a statement of its transaction had failed; let such an error "
    "out, or run the statement in a pqxx::subtransaction";
constexpr const char* ended_by_call =
    "the transaction was ended by commit() or abort() in the handler, or its on_ack() callback, but only the consumer "
    "may end it";

}  // namespace

template <class Do>
void HandlerSavepoint::soundly(const Do& action) {
  require_sound();
  try {
    action();
  } catch (const Error&) {
    broken_ = std::current_exception();
    throw;
  }
}

void HandlerSavepoint::require_sound() const {
  if (broken_) std::rethrow_exception(broken_);
}

pqxx::dbtransaction& HandlerSavepoint::transaction() {
  batch_.session()->home().require("Context::transaction()");
  require_sound();
  if (is_set()) return *inner_;
  if (!batch_.transaction()) {
    throw std::logic_error{
        "Context::transaction(): no transaction is open in split mode, which cooperative and "
        "concurrent consumers always use; write by context.on_ack(), and send by context.send()"};
  }
  soundly([&] { set(); });
  return *inner_;
}

void HandlerSavepoint::set() {
  const auto waiting = waiting_for_server();
  if (!constraints_) {
    ask_for_constraints(batch_.settings_for_handlers() + sql::set_handler + "; ");
  } else if (!kept_ || !settle(begin_handler())) {
    // Not by the batch's transaction itself, because libpqxx 6 would end it after an error.
    InnerTransaction attempt{*batch_.transaction()};
    try {
      attempt.exec(begin_handler());
    } catch (const std::exception&) {
      const auto error = std::current_exception();
      if (!list_is_stale(error)) fail(error);
      ask_for_constraints({});
      run(begin_handler());
    }
  }
  inner_.emplace(*batch_.transaction());
}

// `first` is SQL that is run before.
void HandlerSavepoint::ask_for_constraints(const std::string& first) {
  try {
    const auto result = batch_.transaction()->exec(first + sql::deferrable_constraints);
    const int checks = constraints_ ? constraints_->checks : 0;
    constraints_ = Constraints{result[0][0].as<std::int64_t>() != 0, result[0][1].as<std::string>({}), checks};
  } catch (const std::exception&) {
    fail(std::current_exception());
  }
}

// Gives the constraints, the role and the settings back what they are at the beginning of a handler, before anything
// that the handler may undo.
std::string HandlerSavepoint::begin_handler() {
  return batch_.settings_for_handlers() + sql::make_immediate(constraints_->immediate) + sql::set_handler;
}

// After an error of begin_handler(): whether a constraint of the list is not there any more. Then only that failed.
bool HandlerSavepoint::list_is_stale(const std::exception_ptr& error) {
  if (constraints_->immediate.empty() || !batch_.session()->is_open()) return false;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& cause) {
    // No such constraint, no such schema, or no privilege for it any more.
    const auto state = sqlstate_of(cause);
    if (state != "42704" && state != "3F000" && state != "42501") return false;
  }
  // A handler's own trigger may fail in the same way, but then this savepoint has not been set.
  InnerTransaction attempt{*batch_.transaction()};
  try {
    attempt.exec(sql::undo_make_immediate);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::string HandlerSavepoint::text_of(const std::exception& error) const {
  std::string text = error.what();
  if (!is_set()) return text;
  const auto failure = inner_->ended() ? primary_message(inner_->failure()) : std::string{};
  const auto* const mapped = dynamic_cast<const Error*>(&error);
  const bool is_it = failure == (mapped ? mapped->server_message() : primary_message(text));
  if (!failure.empty() && !is_it) return text + "; before that, a statement of its transaction had failed: " + failure;
  if (sqlstate_of(error) == "25P02") text += "; a statement before this one had failed, and the handler went on";
  return text;
}

// For a handler that returned after a statement of its transaction had failed.
std::string HandlerSavepoint::why_it_failed() const {
  return swallowed_.empty() ? went_on : went_on + (": " + primary_message(swallowed_));
}

void HandlerSavepoint::keep(std::size_t number) {
  require_sound();
  if (!inner_ || kept_) return;
  swallowed_ = inner_->failure();
  if (inner_->ended()) throw std::logic_error{swallowed_.empty() ? ended_by_call : why_it_failed()};
  kept_ = number;
}

void HandlerSavepoint::settle() {
  soundly([&] {
    if (!kept_) return;
    const auto waiting = waiting_for_server();
    if (settle(batch_.settings_for_library())) batch_.own_settings_apply();
  });
}

// `then` is SQL that follows if the writes can be kept; false if they cannot.
bool HandlerSavepoint::settle(const std::string& then) {
  const auto number = *std::exchange(kept_, std::nullopt);
  const bool clean_up = constraints_->exist && constraints_->checks + 1 >= sql::handlers_per_cleanup;
  const auto* const keep = !constraints_->exist ? sql::keep_handler
                           : clean_up           ? sql::check_twice_and_keep_handler
                                                : sql::check_and_keep_handler;
  std::exception_ptr error;
  try {
    inner_->exec(keep + then);
  } catch (const std::exception&) {
    error = std::current_exception();
    if (!batch_.session()->is_open()) fail(error);
    if (list_is_stale(error)) {
      ask_for_constraints({});
      run(begin_handler());
      error = nullptr;
    }
  }
  if (!error) {
    if (constraints_->exist) constraints_->checks = clean_up ? 0 : constraints_->checks + 1;
    inner_.reset();
    return true;
  }
  undo(number, error);
  if (says_that_a_statement_failed_before(error)) error = std::make_exception_ptr(std::logic_error{why_it_failed()});
  refused_ = Refused{number, error};
  return false;
}

std::optional<HandlerSavepoint::Refused> HandlerSavepoint::take_refused() {
  return std::exchange(refused_, std::nullopt);
}

void HandlerSavepoint::discard(std::size_t number) {
  soundly([&] {
    if (!is_set()) return;
    const auto waiting = waiting_for_server();
    undo(number, nullptr);
  });
}

// `why`: the error for which it is undone, if there is one. If it cannot be undone, because the savepoint was released
// before, that is what the batch is left for. Another attempt may succeed, whatever the handler's error is.
void HandlerSavepoint::undo(std::size_t number, const std::exception_ptr& why) {
  inner_.reset();
  try {
    batch_.transaction()->exec(sql::undo_handler);
  } catch (const std::exception&) {
    const auto error = std::current_exception();
    if (!batch_.session()->is_open()) fail(error);
    Error::Facts facts;
    facts.retryable = true;
    if (says_that_it_ended(why ? why : error)) {
      ended_by_ = number;
      facts.operation = Call{"handle", {}, {}, batch_.id()}.describe();
      facts.advice = ended_transaction;
      throw Error{std::move(facts)};
    }
    if (!why) fail(error);
    facts.operation = "check of deferred constraints";
    try {
      std::rethrow_exception(why);
    } catch (const std::exception& cause) {
      facts.advice = primary_message(cause.what());
    }
    throw Error{std::move(facts)};
  }
}

void HandlerSavepoint::run(const std::string& sql) {
  try {
    batch_.transaction()->exec(sql);
  } catch (const std::exception&) {
    fail(std::current_exception());
  }
}

void HandlerSavepoint::fail(const std::exception_ptr& error) const {
  const Call call{"the handler's savepoint", {}, {}, batch_.id()};
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& cause) {
    throw_mapped(cause, {call, Role::none, batch_.session()->is_open()});
  }
}

}  // namespace pgque::detail
