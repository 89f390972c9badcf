// A message's payload, read as JSON and sent on.

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <pgque/json.hpp>

#include "fuzz.hpp"
#include "support/text.hpp"

namespace {

using nlohmann::json;
using pgque::fuzz::require;

template <class T>
std::optional<T> read_as(const pgque::Message& message) {
  try {
    return pgque::payload_as<T>(message);
  } catch (const pgque::PayloadError& error) {
    require(error.server_message().empty() && !error.retryable(), "a payload that cannot be read will never be read");
    return std::nullopt;
  }
}

// Whether a string in it, a key or a value, has the character that PostgreSQL cannot store.
bool has_nul(const json& value) {
  const auto contains = [](const std::string& text) { return text.find('\0') != std::string::npos; };
  if (value.is_string()) return contains(value.get_ref<const std::string&>());
  if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      if (contains(key) || has_nul(member)) return true;
    }
  } else if (value.is_array()) {
    for (const auto& element : value) {
      if (has_nul(element)) return true;
    }
  }
  return false;
}

void check_sent_on(const json& value) {
  std::optional<std::string> sent;
  try {
    sent = pgque::Payload{value}.text();
  } catch (const std::invalid_argument&) {
    require(has_nul(value), "JSON that was read can be sent on, unless it has a NUL character");
    return;
  }
  require(!has_nul(value), "a NUL character is found before the server finds it");
  require(!pgque::detail::first_invalid_byte(*sent), "what is sent is UTF-8");
  require(json::parse(*sent) == value, "what is sent on is what was read");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pgque::Message message;
  // PostgreSQL's text has no NUL bytes.
  const auto text = pgque::fuzz::text_of(data, size);
  message.payload = std::string{text.substr(0, text.find('\0'))};

  const auto value = read_as<json>(message);
  const auto ordered = read_as<nlohmann::ordered_json>(message);
  require(value.has_value() == ordered.has_value(), "what is JSON does not depend on the order of its members");
  const auto number = read_as<std::int64_t>(message);
  const auto small = read_as<int>(message);
  const auto real = read_as<double>(message);
  const auto flag = read_as<bool>(message);
  const auto string = read_as<std::string>(message);
  const auto list = read_as<std::vector<std::int64_t>>(message);
  const auto table = read_as<std::map<std::string, std::string>>(message);
  if (!value) {
    require(!number && !small && !real && !flag && !string && !list && !table, "what is not JSON is nothing else");
    return 0;
  }
  require(json(*ordered) == *value, "the order of members changes no value");
  require(string.has_value() == value->is_string(), "a string is a string");
  check_sent_on(*value);
  return 0;
}
