#pragma once

/// @file
/// What is sent: payloads and events.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <pgque/export.hpp>

namespace pgque {

class Payload;

/// Customisation point: how a value of type `T` becomes a payload. `pgque/json.hpp` specialises it for everything
/// nlohmann_json can serialise; specialise it for your own types with `static Payload encode(const T&)`. Include the
/// specialisation before the first use of `T` as a payload.
template <class T, class Enable = void>
struct PayloadEncoder {};

/// Customisation point: how a payload becomes a value of type `T`, for `Consumer::on<T>()`. `pgque/json.hpp`
/// specialises it; a specialisation has `static T decode(const Message&)`.
template <class T, class Enable = void>
struct PayloadDecoder {};

namespace detail {

template <class T, class = void>
struct has_encoder : std::false_type {};
template <class T>
struct has_encoder<T, std::void_t<decltype(PayloadEncoder<T>::encode(std::declval<const T&>()))>> : std::true_type {};

// Text never goes through an encoder: a C++ string must not silently become a JSON string.
template <class T>
inline constexpr bool is_text =
    std::is_convertible_v<const T&, std::string_view> || std::is_same_v<T, std::nullptr_t> ||
    std::is_same_v<T, std::nullopt_t> || std::is_same_v<T, Payload>;

}  // namespace detail

/// The text of an event and how it is to be stored.
///
/// - from `std::string`, `std::string_view`, `const char*`: JSON; the server checks it and stores `jsonb`'s canonical
///   text
/// - from `pgque::text(...)`: the text as it is, byte for byte
/// - from `nullptr`: JSON `null`
/// - from `std::nullopt`: SQL NULL
/// - from a value with a `PayloadEncoder`, such as everything `pgque/json.hpp` covers: what the encoder makes of it
///
/// **Thread safety.** A value type; distinct objects may be used by distinct threads.
class PGQUE_EXPORT Payload {
 public:
  /// How the server is to treat the text.
  enum class Format {
    json,  ///< checked and normalised as `jsonb`
    text,  ///< stored as it is
  };

  /// JSON text. It is checked by the server: malformed JSON fails the send with SQLSTATE 22P02.
  Payload(std::string json);  // NOLINT(google-explicit-constructor)
  /// The same.
  Payload(std::string_view json);  // NOLINT(google-explicit-constructor)
  /// @throws std::invalid_argument if the pointer is null; write `nullptr` for JSON null.
  Payload(const char* json);  // NOLINT(google-explicit-constructor)
  /// JSON `null`.
  Payload(std::nullptr_t);  // NOLINT(google-explicit-constructor)
  /// SQL NULL: the event has no payload at all.
  Payload(std::nullopt_t);  // NOLINT(google-explicit-constructor)
  /// What the `PayloadEncoder` makes of the value.
  template <class T, std::enable_if_t<!detail::is_text<T> && detail::has_encoder<T>::value, int> = 0>
  Payload(const T& value) : Payload{PayloadEncoder<T>::encode(value)} {}  // NOLINT(google-explicit-constructor)

  /// Text that is stored verbatim; it need not be JSON. Same as `pgque::text()`.
  static Payload verbatim(std::string text);

  /// The text; empty for SQL NULL.
  const std::optional<std::string>& text() const noexcept { return text_; }
  /// How the server is to treat it.
  Format format() const noexcept { return format_; }

 private:
  std::optional<std::string> text_;
  Format format_ = Format::json;
};

/// A payload that is stored exactly as given, JSON or not: opaque text, a document whose key order or number format
/// matters, base64.
PGQUE_EXPORT Payload text(std::string value);

/// A payload with its type, for `send(queue, event)`.
struct Event {
  Payload payload;  ///< what is stored
  /// The event type consumers dispatch on. Empty means "default".
  std::string type = "default";
};

}  // namespace pgque
