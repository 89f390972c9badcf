#include "database/statement.hpp"

#include <cstddef>

#include "support/text.hpp"

namespace pgque::detail {

namespace {

// Names are the user's: long ones are cut, so that a message stays readable.
void append_name(std::string& out, const char* what, std::string_view name) {
  if (name.empty()) return;
  constexpr std::size_t longest = 100;
  const auto shown = sanitized(name, longest);
  out += out.back() == '(' ? "" : ", ";
  out += what;
  out += " \"";
  out += shown;
  out += shown.size() < name.size() ? "...\"" : "\"";
}

}  // namespace

std::string Call::describe() const {
  std::string out = verb;
  if (queue.empty() && consumer.empty() && !batch) return out;
  out += " (";
  append_name(out, "queue", queue);
  append_name(out, "consumer", consumer);
  if (batch) {
    out += out.back() == '(' ? "batch " : ", batch ";
    out += to_string(*batch);
  }
  return out += ')';
}

}  // namespace pgque::detail
