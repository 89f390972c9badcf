// A message's payload, read as JSON and sent on.

#include <cstdint>
#include <limits>
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

// Numbers stay the same, or are refused.
void check_numbers(const json& value, std::optional<std::int64_t> number, std::optional<int> small) {
  if (value.is_number_unsigned()) {
    const auto given = value.get<std::uint64_t>();
    const bool fits = given <= std::uint64_t{std::numeric_limits<std::int64_t>::max()};
    require(number.has_value() == fits && (!fits || static_cast<std::uint64_t>(*number) == given),
            "a number without a sign is read as it is, or not at all");
  } else if (value.is_number_integer()) {
    require(number == value.get<std::int64_t>(), "a whole number is read as it is");
  } else if (number) {
    require(value.is_number_float() && static_cast<double>(*number) == value.get<double>(),
            "a number with a fraction is read as it is, or not at all");
  }
  const bool is_small =
      number && *number >= std::numeric_limits<int>::min() && *number <= std::numeric_limits<int>::max();
  require(small.has_value() == is_small && (!is_small || *small == *number), "a number is as large as it was");
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
  check_numbers(*value, number, small);
  require(flag.has_value() == value->is_boolean(), "true and false are no numbers, and numbers are neither");
  require(string.has_value() == value->is_string(), "a string is a string");
  check_sent_on(*value);
  return 0;
}
