#include "support/event_checks.hpp"

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

#include "support/text.hpp"

namespace pgque::detail {

namespace {

constexpr std::size_t longest_key = 1024;
constexpr std::size_t longest_name = 256;

void check_length(std::string_view argument, std::string_view text, std::size_t longest) {
  if (text.size() <= longest) return;
  throw std::invalid_argument{std::string{argument} + ": has " + std::to_string(text.size()) +
                              " bytes, must have at most " + std::to_string(longest)};
}

void check_header(std::string_view name, std::string_view value) {
  constexpr std::string_view argument{"headers, a name"};
  check_length(argument, name, longest_name);
  check_consumer(argument, name);
  if (first_invalid_byte(value)) check_text("headers[\"" + std::string{name} + "\"]", value);
}

}  // namespace

void check_event(const Event& event) {
  check_text("type", event.type);
  if (event.payload.text()) check_text("payload", *event.payload.text());
  if (event.key) {
    if (event.key->empty()) throw std::invalid_argument{"key: must not be empty; an event without a key has none"};
    check_length("key", *event.key, longest_key);
    check_text("key", *event.key);
  }
  for (const auto& [name, value] : event.headers) check_header(name, value);
}

void intercept(const OnSend& on_send, Event& event) {
  if (event.type.empty()) event.type = "default";
  on_send(event);
}

}  // namespace pgque::detail
