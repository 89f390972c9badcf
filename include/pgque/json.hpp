#pragma once

/// @file
/// Opt-in: payloads as nlohmann_json values. Header-only; the library itself does not depend on nlohmann_json, so any
/// of its versions will do. Link `pgque::json`, or nlohmann_json yourself.
///
/// ```cpp
/// client.send("orders", nlohmann::json{{"order_id", 42}}, "order.created");   // a JSON value
/// client.send("orders", order, "order.created");                             // anything with a to_json()
/// auto order = pgque::payload_as<Order>(message);                            // anything with a from_json()
/// consumer.on<Order>("order.created", [](const Order& order) { ... });
/// ```
///
/// nlohmann_json writes valid JSON, so its text is stored as it is, without a second check by the server. A C++ string
/// is never turned into a JSON string: `send("q", "x")` sends the JSON text `x`, which the server refuses, and
/// `send("q", nlohmann::json("x"))` the JSON string `"x"`.

#include <cstddef>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include <pgque/error.hpp>
#include <pgque/message.hpp>
#include <pgque/payload.hpp>

namespace pgque {

namespace detail {

// True if the JSON text holds the escape \u0000, which PostgreSQL's jsonb cannot represent. A backslash that is itself
// escaped does not begin one.
inline bool has_escaped_nul(const std::string& json) {
  static constexpr char escape[] = "\\u0000";
  for (auto at = json.find(escape); at != std::string::npos; at = json.find(escape, at + 1)) {
    std::size_t backslashes = 1;
    while (backslashes <= at && json[at - backslashes] == '\\') ++backslashes;
    if (backslashes % 2 == 1) return true;
  }
  return false;
}

template <class T>
inline constexpr bool is_basic_json = std::is_same_v<T, nlohmann::json> || std::is_same_v<T, nlohmann::ordered_json>;

template <class T>
inline constexpr bool is_character =
#if defined(__cpp_char8_t)
    std::is_same_v<T, char8_t> ||
#endif
    std::is_same_v<T, char> || std::is_same_v<T, signed char> || std::is_same_v<T, unsigned char> ||
    std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;

// A lone character would silently become a number.
template <class T>
inline constexpr bool is_json_value =
    std::is_constructible_v<nlohmann::json, const T&> && !is_text<T> && !is_character<T> && !std::is_pointer_v<T>;

}  // namespace detail

/// Serialises with nlohmann_json. An invalid UTF-8 string or a NUL inside one is `std::invalid_argument`: PostgreSQL
/// can store neither. NaN and infinity become `null`, as nlohmann_json defines.
template <class T>
struct PayloadEncoder<T, std::enable_if_t<detail::is_json_value<T>>> {
  /// @throws std::invalid_argument if it cannot be JSON in PostgreSQL
  static Payload encode(const T& value) {
    std::string json;
    try {
      if constexpr (detail::is_basic_json<T>) {
        if (value.is_discarded()) throw std::invalid_argument{"payload: the result of a parse that failed"};
        json = value.dump();
      } else {
        json = nlohmann::json(value).dump();
      }
    } catch (const nlohmann::json::type_error& error) {
      throw std::invalid_argument{std::string{"payload: cannot be written as JSON: "} + error.what()};
    }
    if (detail::has_escaped_nul(json)) {
      throw std::invalid_argument{"payload: a string in it contains a NUL character, which PostgreSQL cannot store"};
    }
    return Payload::verbatim(std::move(json));
  }
};

/// Reads the message's payload as JSON into a `T`: `nlohmann::json` itself, or any type with a `from_json()`. The
/// payload is parsed at each call, and not before.
/// @throws PayloadError if the payload is SQL NULL, not JSON, or not a `T`; the error's text never contains the payload
template <class T = nlohmann::json>
T payload_as(const Message& message) {
  Error::Facts facts;
  facts.operation = "read the payload of message " + to_string(message.msg_id);
  if (!message.payload) {
    facts.advice = "it is SQL NULL";
    throw PayloadError{std::move(facts)};
  }
  // An ordered value keeps its order only if it is parsed as such.
  using Json = std::conditional_t<detail::is_basic_json<T>, T, nlohmann::json>;
  Json json;
  try {
    json = Json::parse(*message.payload);
  } catch (const nlohmann::json::parse_error& error) {
    facts.advice = "it is not JSON, at byte " + std::to_string(error.byte);  // what() would quote the payload
    throw PayloadError{std::move(facts)};
  } catch (const nlohmann::json::exception&) {
    facts.advice = "it is not JSON that nlohmann_json can represent";  // here as well
    throw PayloadError{std::move(facts)};
  }
  if constexpr (detail::is_basic_json<T>) {
    return json;
  } else {
    try {
      return json.template get<T>();
    } catch (const nlohmann::json::exception& error) {
      facts.advice = std::string{"it has not the expected shape: "} + error.what();
      throw PayloadError{std::move(facts)};
    }
  }
}

/// For `Consumer::on<T>()`: as `payload_as<T>()`.
template <class T>
struct PayloadDecoder<T,
                      std::enable_if_t<detail::is_basic_json<T> ||
                                       std::is_same_v<decltype(std::declval<const nlohmann::json&>().get<T>()), T>>> {
  /// @throws PayloadError
  static T decode(const Message& message) { return payload_as<T>(message); }
};

}  // namespace pgque
