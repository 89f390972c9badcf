#pragma once

// Maps libpqxx's exceptions to those of this library.

#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/error.hpp>

#include "database/statement.hpp"

namespace pgque::detail {

// What the caller of a failed statement knows and the exception does not say.
struct FailureContext {
  const Call& call;
  Role role = Role::none;
  bool connection_open = true;
  // The statement may have been committed although its answer was lost.
  bool may_have_committed = false;
  // Asks for the names of all queues, where a statement can be run now; otherwise empty.
  std::function<std::vector<std::string>()> queue_names{};
};

// Throws the pgque error (or std::logic_error, std::invalid_argument) that `error` stands for.
[[noreturn]] void throw_mapped(const std::exception& error, const FailureContext& context);

// Classifies a server's error by SQLSTATE and text, because PgQue raises P0001 for nearly everything. Gives advice if
// there is none yet.
[[noreturn]] void throw_server_error(Error::Facts facts, Role role);

// The primary message within the text libpqxx reports: no severity, no context lines.
std::string primary_message(std::string_view text);

// Whether the server does not know a prepared statement, or knows another of its name: behind a pooler, or after
// DISCARD. New names help.
bool is_about_prepared_statement(std::string_view sqlstate) noexcept;

// The SQLSTATE of an exception of libpqxx or of this library; empty if it has none.
std::string sqlstate_of(const std::exception& error);

// Whether the server's encoding has no equivalent of a character that was sent.
bool is_untranslatable(const Error& error);

// Whether nothing was wrong with the statement itself, so that the same one may succeed on the same session.
bool is_transient(const Error& error);

// Whether a retry cannot fix the error: wrong names, missing grants, no PgQue, the wrong password in a fixed DSN.
bool is_permanent(const Error& error);

}  // namespace pgque::detail
