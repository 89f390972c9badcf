// An error of the server: a line with the SQLSTATE, a line with the name of the queue, and then the text of libpq.

#include <exception>
#include <string>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/pqxx_compat.hpp"
#include "fuzz.hpp"

namespace {

using pgque::fuzz::require;

template <class E>
bool is_a(const pgque::Error& error) {
  return dynamic_cast<const E*>(&error) != nullptr;
}

void check(const pgque::Error& error, const std::string& sqlstate, const std::string& message) {
  namespace detail = pgque::detail;
  require(error.sqlstate() == sqlstate, "an error has the server's SQLSTATE");
  require(error.server_message() == message, "an error has the server's message");
  const std::string what{error.what()};
  require(what.compare(0, 12, "fuzz (queue ") == 0 || what.compare(0, 4, "fuzz") == 0, "an error names the call");
  require(!error.outcome_unknown(), "what the server refuses is certainly not done");
  require(!is_a<pgque::ConnectionError>(error), "a server that answers is there");
  const bool of_pgque =
      is_a<pgque::QueueNotFound>(error) || is_a<pgque::ConsumerNotFound>(error) || is_a<pgque::BatchNotFound>(error);
  require(!of_pgque || sqlstate == "P0001", "only PgQue's own errors tell what it does not find");
  require(!(error.retryable() && detail::is_permanent(error)), "no error is worth a retry and beyond hope");
  require(!(detail::is_transient(error) && detail::is_permanent(error)), "no error is passing and beyond hope");
  require(detail::sqlstate_of(error) == sqlstate, "the SQLSTATE of an error can be asked for");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace detail = pgque::detail;
  pgque::fuzz::Lines lines{pgque::fuzz::text_of(data, size)};
  // libpq reports five characters or none, and libpqxx hands them out as a C string.
  auto sqlstate = std::string{lines.next().substr(0, 5)};
  sqlstate = sqlstate.substr(0, sqlstate.find('\0'));
  const auto queue = lines.next();
  auto text = std::string{lines.rest()};
  text = text.substr(0, text.find('\0'));

  const auto message = detail::primary_message(text);
  require(text.find(message) != std::string::npos, "a message is part of the text");
  require(message.empty() || message.back() != '\n', "a message does not end with a line feed");

  const detail::Call call{"fuzz", queue, queue, pgque::BatchId{7}};
  constexpr std::size_t longest_description = 300;
  require(call.describe().size() < longest_description, "names of any length are described in short");
  for (const auto role : {detail::Role::none, detail::Role::reader, detail::Role::admin}) {
    try {
      const pqxx::sql_error refused{text, "select", sqlstate.c_str()};
      try {
        throw refused;
      } catch (const std::exception& error) {
        detail::throw_mapped(error, {call, role, true, true});
      }
    } catch (const pgque::Error& error) {
      check(error, sqlstate, message);
    }
  }
  return 0;
}
