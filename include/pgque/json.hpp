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
/// `send("q", nlohmann::json("x"))` the JSON string `"x"`. The same holds for all text, in a `std::optional` too; other
/// characters do not compile (see `Payload`).

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
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

template <class T>
inline constexpr bool is_basic_json = std::is_same_v<T, nlohmann::json> || std::is_same_v<T, nlohmann::ordered_json>;

// Text and characters would silently become JSON strings and numbers, and pointers bools.
template <class T>
constexpr bool is_json_value() {
  if constexpr (is_text<T> || std::is_pointer_v<T> || has_characters<T>()) {
    return false;
  } else {
    return std::is_constructible_v<nlohmann::json, const T&>;
  }
}

template <class T>
inline constexpr bool is_number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

// Whether the JSON number is one that a T can hold. A number with a fraction or an exponent is a double by now.
template <class T>
bool fits(const nlohmann::json& number) {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::is_floating_point_v<T>) {
    if (number.is_number_float()) {
      const auto value = number.get<double>();
      if constexpr (Limits::digits < std::numeric_limits<double>::digits) {
        return std::abs(value) <= static_cast<double>(Limits::max()) && (value == 0 || static_cast<T>(value) != 0);
      }
      return true;
    }
    // An integer's digits do not change silently either.
    auto magnitude = number.get<std::uint64_t>();
    if (!number.is_number_unsigned() && number.get<std::int64_t>() < 0) magnitude = ~magnitude + 1;
    while (magnitude != 0 && magnitude % 2 == 0) magnitude /= 2;
    return Limits::digits >= 64 || magnitude >> static_cast<unsigned>(Limits::digits % 64) == 0;
  } else {
    constexpr auto most = static_cast<std::uint64_t>(Limits::max());
    constexpr std::int64_t least{+Limits::min()};
    if (number.is_number_unsigned()) return number.get<std::uint64_t>() <= most;
    std::int64_t value = 0;
    if (number.is_number_float()) {
      // From 2^53 on a double may have lost digits.
      constexpr double exact = 9007199254740992;
      const auto real = number.get<double>();
      if (std::abs(real) >= exact || std::trunc(real) != real) return false;
      value = static_cast<std::int64_t>(real);
    } else {
      value = number.get<std::int64_t>();
    }
    return value < 0 ? value >= least : static_cast<std::uint64_t>(value) <= most;
  }
}

template <class T>
std::string describe_number() {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::is_floating_point_v<T>) {
    return std::is_same_v<T, float> ? "float" : std::is_same_v<T, double> ? "double" : "long double";
  } else {
    return (Limits::is_signed ? "int" : "uint") + std::to_string(sizeof(T) * 8) + "_t, a whole number from " +
           std::to_string(+Limits::min()) + " to " + std::to_string(+Limits::max());
  }
}

// As has_own_to_json, for reading.
template <class T, class = void>
inline constexpr bool has_own_from_json = false;
template <class T>
inline constexpr bool
    has_own_from_json<T, std::void_t<decltype(from_json(std::declval<const AnyJson&>(), std::declval<T&>()))>> = true;

template <class T, class = void>
inline constexpr bool is_container = false;
template <class T>
inline constexpr bool is_container<T, std::void_t<typename T::value_type, decltype(std::begin(std::declval<T&>()))>> =
    !std::is_same_v<typename T::value_type, T>;

template <class T, class = void>
inline constexpr bool is_map = false;
template <class T>
inline constexpr bool is_map<T, std::void_t<typename T::mapped_type>> = true;

// Whether nlohmann_json makes a T of a JSON value.
template <class T, class = void>
inline constexpr bool is_read_from_json = is_basic_json<T>;
template <class T>
inline constexpr bool is_read_from_json<
    T, std::enable_if_t<std::is_same_v<decltype(std::declval<const nlohmann::json&>().get<T>()), T>>> = true;

template <class T>
std::string misfit(const nlohmann::json& json);

template <class T, std::size_t... I>
std::string misfit_in_tuple(const nlohmann::json& array, std::index_sequence<I...>) {
  std::string why;
  static_cast<void>(
      ((I < array.size() && (why = misfit<bare<std::tuple_element_t<I, T>>>(array[I]), !why.empty())) || ...));
  return why;
}

// nlohmann_json converts numbers without a check. Says what is wrong with the numbers of a T, alone or in containers;
// empty if nothing is. Whatever else is wrong, nlohmann_json finds.
template <class T>
std::string misfit(const nlohmann::json& json) {
  if constexpr (has_own_from_json<T>) {
    // That is its author's business.
  } else if constexpr (std::is_enum_v<T>) {
    if (json.is_number() && !fits<std::underlying_type_t<T>>(json)) {
      return "a number does not fit into an enum of " + describe_number<std::underlying_type_t<T>>();
    }
  } else if constexpr (is_number<T>) {
    if (json.is_boolean()) return "a bool stands where a number is expected";
    if (json.is_number() && !fits<T>(json)) return "a number does not fit into " + describe_number<T>();
  } else if constexpr (is_optional<T>) {
    if (!json.is_null()) return misfit<bare<typename T::value_type>>(json);
  } else if constexpr (is_container<T>) {
    if (json.is_array()) {
      for (const auto& element : json) {
        if (auto why = misfit<bare<typename T::value_type>>(element); !why.empty()) return why;
      }
    }
    if constexpr (is_map<T>) {
      if (json.is_object()) {
        for (const auto& element : json) {
          if (auto why = misfit<bare<typename T::mapped_type>>(element); !why.empty()) return why;
        }
      }
    }
  } else if constexpr (is_tuple<T>) {
    if (json.is_array()) return misfit_in_tuple<T>(json, std::make_index_sequence<std::tuple_size_v<T>>{});
  }
  return {};
}

}  // namespace detail

/// Serialises with nlohmann_json. An invalid UTF-8 string or a NUL inside one is `std::invalid_argument`: PostgreSQL
/// can store neither. NaN and infinity become `null`, as nlohmann_json defines.
template <class T>
struct PayloadEncoder<T, std::enable_if_t<detail::is_json_value<T>()>> {
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
///
/// Where `T` is a number or an enum, or a `std::optional`, container, pair or tuple of these, no number changes on the
/// way: each has to be in the range of its type. For a whole number, `1.0` and `1e3` will do, but not `1.5`, nor
/// `true`, nor what has a fraction or an exponent and is 2^53 or more, where the digits are not certain. What has a
/// fraction or an exponent may be rounded to a floating-point number, but an integer of 64 bits is refused if it would
/// lose digits.
///
/// What a `from_json()` of yours does is between it and nlohmann_json, which converts numbers without a check. Python
/// writes integers of any size: read by `json.at("id").get_to(id)` into a `std::int64_t`, 2^63 becomes -2^63, and into
/// an `int`, 2^32 becomes 0. Check the range there, or read `json.at("id")` with its own type
/// (`is_number_unsigned()`, `is_number_float()`).
/// @throws PayloadError if the payload is SQL NULL, not JSON, or not a `T`; the error's text never contains the payload
template <class T = nlohmann::json>
T payload_as(const Message& message) {
  static_assert(
      detail::is_read_from_json<T>,
      "pgque: nlohmann_json makes no T of a payload. Write from_json(const nlohmann::json&, T&), beside T and in "
      "its namespace, and give T a default constructor.");
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
  } else if constexpr (detail::is_read_from_json<T>) {
    if (const auto why = detail::misfit<T>(json); !why.empty()) {
      facts.advice = "it has not the expected shape: " + why;
      throw PayloadError{std::move(facts)};
    }
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
struct PayloadDecoder<T, std::enable_if_t<detail::is_read_from_json<T>>> {
  /// @throws PayloadError
  static T decode(const Message& message) { return payload_as<T>(message); }
};

}  // namespace pgque
