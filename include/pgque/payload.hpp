#pragma once

/// @file
/// What is sent: payloads and events.

#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <pgque/export.hpp>
#include <pgque/message.hpp>

namespace pgque {

class Payload;

/// Customisation point: how a value of type `T` becomes a payload. `pgque/json.hpp` specialises it for everything
/// nlohmann_json can serialise; specialise it for your own types with `static Payload encode(const T&)`. Include the
/// specialisation before the first use of `T` as a payload. For what converts to `std::string_view`, and for a
/// `Message`, none is asked.
template <class T, class Enable = void>
struct PayloadEncoder {};

/// Customisation point: how a payload becomes a value of type `T`, for `Consumer::on<T>()`. `pgque/json.hpp`
/// specialises it; a specialisation has `static T decode(const Message&)`.
template <class T, class Enable = void>
struct PayloadDecoder {};

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

template <class T, class = void>
struct has_encoder : std::false_type {};
template <class T>
struct has_encoder<T, std::void_t<decltype(PayloadEncoder<T>::encode(std::declval<const T&>()))>> : std::true_type {};

template <class T, class = void>
inline constexpr bool has_decoder = false;
template <class T>
inline constexpr bool has_decoder<T, std::void_t<decltype(PayloadDecoder<T>::decode(std::declval<const Message&>()))>> =
    true;

template <class T>
using bare = std::remove_cv_t<std::remove_reference_t<T>>;

template <class T>
inline constexpr bool is_character =
#if defined(__cpp_char8_t)
    std::is_same_v<T, char8_t> ||
#endif
    std::is_same_v<T, char> || std::is_same_v<T, signed char> || std::is_same_v<T, unsigned char> ||
    std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t> ||
    std::is_same_v<T, std::byte>;

template <class T>
inline constexpr bool is_utf8 = false;
#if defined(__cpp_char8_t)
template <>
inline constexpr bool is_utf8<const char8_t*> = true;
template <>
inline constexpr bool is_utf8<char8_t*> = true;
template <class Traits, class Allocator>
inline constexpr bool is_utf8<std::basic_string<char8_t, Traits, Allocator>> = true;
template <class Traits>
inline constexpr bool is_utf8<std::basic_string_view<char8_t, Traits>> = true;
#endif

// Takes the place of nlohmann::json in the question whether there is a function for a type.
struct AnyJson {
  template <class Json>
  operator Json&() const;  // NOLINT(google-explicit-constructor)
};

// Whether argument-dependent lookup finds a to_json() for a T, which is then its author's. What to_json() makes of it
// is what is meant, whatever else the type looks like.
template <class T, class = void>
inline constexpr bool has_own_to_json = false;
template <class T>
inline constexpr bool
    has_own_to_json<T, std::void_t<decltype(to_json(std::declval<AnyJson&>(), std::declval<const T&>()))>> = true;

// A type that converts to everything, as nlohmann::json does, is no text.
template <class T>
inline constexpr bool converts_to_string =
    std::is_convertible_v<const T&, std::string> && !std::is_convertible_v<const T&, std::vector<int>>;

// Text never goes through an encoder that it does not have for itself: it must not silently become a JSON string, or an
// array of numbers.
template <class T>
inline constexpr bool is_view_of_text =
    std::is_convertible_v<const T&, std::string_view> || std::is_same_v<T, std::nullptr_t> ||
    std::is_same_v<T, std::nullopt_t> || std::is_same_v<T, Payload> || std::is_same_v<T, Message>;
template <class T>
inline constexpr bool is_text = is_view_of_text<T> || is_utf8<std::decay_t<T>> ||
                                (!has_own_to_json<T> &&
                                 (std::is_convertible_v<const T&, const char*> || converts_to_string<T>));
template <class T>
inline constexpr bool is_text<std::optional<T>> = is_text<T>;

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <class T, class = void>
inline constexpr bool is_tuple = false;
template <class T>
inline constexpr bool is_tuple<T, std::void_t<decltype(std::tuple_size<T>::value)>> = true;

// What a range consists of; T itself if it is none.
template <class T, class = void>
struct RangeElement {
  using type = T;
};
template <class T>
struct RangeElement<T, std::void_t<decltype(*std::begin(std::declval<const T&>()))>> {
  using type = bare<decltype(*std::begin(std::declval<const T&>()))>;
};

template <class T, class... Around>
constexpr bool has_characters();

template <class T, class... Around, std::size_t... I>
constexpr bool any_has_characters(std::index_sequence<I...>) {
  return (has_characters<bare<std::tuple_element_t<I, T>>, Around...>() || ...);
}

// Whether there are single characters or bytes in a T, however deep, that are not elements of a text of `char`: nobody
// knows whether they are text or numbers. `Around` are the types that it is an element of, which may be itself.
template <class T, class... Around>
constexpr bool has_characters() {
  using Element = typename RangeElement<T>::type;
  constexpr bool is_text_of_char = is_text<T> && !is_utf8<std::decay_t<T>> && !is_optional<T>;
  constexpr bool is_known = is_text_of_char || has_own_to_json<T> || (std::is_same_v<T, Around> || ...);
  if constexpr (is_known || is_character<T>) {
    return is_character<T>;
  } else if constexpr (is_optional<T>) {
    return has_characters<bare<typename T::value_type>, T, Around...>();
  } else if constexpr (std::is_pointer_v<T>) {
    return is_character<bare<std::remove_pointer_t<T>>>;
  } else if constexpr (!std::is_same_v<Element, T>) {
    return has_characters<Element, T, Around...>();
  } else if constexpr (is_tuple<T>) {
    return any_has_characters<T, T, Around...>(std::make_index_sequence<std::tuple_size_v<T>>{});
  } else {
    return false;
  }
}

// What makes a payload of a T.
enum class Source {
  itself,   // a constructor that names the type
  text,     // that of other text, such as a std::pmr::string, or a UTF-8 literal of C++20
  encoder,  // its PayloadEncoder
  characters,
  nothing
};

template <class T>
constexpr Source source_of() {
  if constexpr (!is_view_of_text<T> && has_encoder<T>::value) {
    return Source::encoder;
  } else if constexpr (is_text<T>) {
    constexpr bool named = std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view> ||
                           std::is_same_v<T, std::nullopt_t> || std::is_same_v<T, Payload> ||
                           std::is_same_v<T, Message> || is_optional<T>;
    return is_utf8<std::decay_t<T>> || (std::is_class_v<T> && !named) ? Source::text : Source::itself;
  } else {
    return has_characters<T>() ? Source::characters : Source::nothing;
  }
}

template <class T>
inline constexpr Source source = source_of<T>();

// Text of any type as a `std::string_view`, as a `const char*` if it ends with a NUL, or as a `std::string`.
template <class T>
auto plain(const T& text) {
  if constexpr (std::is_pointer_v<std::decay_t<T>>) {
    const auto* const pointer = text;
    return reinterpret_cast<const char*>(pointer);
  } else if constexpr (is_utf8<T>) {
    return std::string_view{reinterpret_cast<const char*>(text.data()), text.size()};
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    const std::string_view view = text;
    return view;
  } else if constexpr (std::is_convertible_v<const T&, const char*>) {
    const char* const pointer = text;
    return pointer;
  } else {
    std::string copy = text;
    return copy;
  }
}

}  // namespace detail

/// The text of an event and how it is to be stored.
///
/// - from `std::string`, `std::string_view`, `const char*`, whatever converts to one of them (and has no `to_json()` of
///   its own, unless it converts to `std::string_view`), and text of `char8_t`: JSON in UTF-8; the server checks it and
///   stores `jsonb`'s canonical text
/// - from `pgque::text(...)`: the text as it is, byte for byte
/// - from a `Message`: its payload as it was stored, byte for byte
/// - from `nullptr`: JSON `null`
/// - from `std::nullopt`: SQL NULL
/// - from a `std::optional` of any of these: the same, or SQL NULL if it is empty
/// - from a value with a `PayloadEncoder`, such as everything `pgque/json.hpp` covers: what the encoder makes of it
///
/// Other characters do not compile, unless they have a `PayloadEncoder` or a `to_json()` of your own: `wchar_t`,
/// `char16_t`, `char32_t`, and all single characters and bytes (`std::uint8_t` and `std::int8_t` are characters), alone
/// and in containers. Write a `std::string` if they are text, and `nlohmann::json(...)` if they are numbers.
///
/// **Thread safety.** A value type; distinct objects may be used by distinct threads.
class PGQUE_EXPORT Payload {
 public:
  /// How the server is to treat the text.
  enum class Format {
    json,  ///< checked and normalised as `jsonb`
    text,  ///< stored as it is
  };

  /// JSON text. It is checked by the server: malformed JSON fails the send with SQLSTATE 22P02, and the error names the
  /// argument, in a batch with its index.
  Payload(std::string json);  // NOLINT(google-explicit-constructor)
  /// The same.
  Payload(std::string_view json);  // NOLINT(google-explicit-constructor)
  /// @throws std::invalid_argument if the pointer is null; write `nullptr` for JSON null.
  Payload(const char* json);  // NOLINT(google-explicit-constructor)
  /// JSON `null`.
  Payload(std::nullptr_t);  // NOLINT(google-explicit-constructor)
  /// SQL NULL: the event has no payload at all.
  Payload(std::nullopt_t);  // NOLINT(google-explicit-constructor)
  /// A message that is sent on: its payload as it was stored, so that SQL NULL stays SQL NULL. Its type and its extra
  /// columns are no part of the payload.
  Payload(const Message& message);  // NOLINT(google-explicit-constructor)
  /// The same; takes the payload away from the message.
  Payload(Message&& message);  // NOLINT(google-explicit-constructor)
  /// JSON text of any other type: what converts to `std::string_view`, `const char*` or `std::string`, and text of
  /// `char8_t`.
  /// @throws std::invalid_argument if it is a null pointer
  template <class T, std::enable_if_t<detail::source<T> == detail::Source::text, int> = 0>
  Payload(const T& json) : Payload{detail::plain(json)} {}  // NOLINT(google-explicit-constructor)
  /// What a `T` becomes; SQL NULL if it is empty. For everything else that is text.
  template <class T, std::enable_if_t<detail::source<std::optional<T>> == detail::Source::itself, int> = 0>
  Payload(std::optional<T> value)  // NOLINT(google-explicit-constructor)
      : Payload{value ? Payload{std::move(*value)} : Payload{std::nullopt}} {}
  /// What the `PayloadEncoder` makes of the value.
  template <class T, std::enable_if_t<detail::source<T> == detail::Source::encoder, int> = 0>
  Payload(const T& value) : Payload{PayloadEncoder<T>::encode(value)} {}  // NOLINT(google-explicit-constructor)
  /// Nothing: they may be text or numbers. A compiler that refuses a program here shows what to write.
  template <class T, std::enable_if_t<detail::source<T> == detail::Source::characters, int> = 0>
  // NOLINTNEXTLINE(google-explicit-constructor)
  Payload(const T&) = delete;  // If they are text, write a std::string in UTF-8; if numbers, nlohmann::json(...).
  /// Nothing: a JSON value converts to text by itself, but only if it is a string. A compiler shows what to include.
  template <class T,
            std::enable_if_t<
                detail::source<T> == detail::Source::nothing && std::is_convertible_v<const T&, std::string>, int> = 0>
  // NOLINTNEXTLINE(google-explicit-constructor)
  Payload(const T&) = delete;  // Include <pgque/json.hpp>.

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

/// A payload with its type, and perhaps a key and headers, for `send(queue, event)`. Wrong values make the call that
/// sends it throw `std::invalid_argument`.
///
/// An event without key and headers costs the server less than one with them, most of all in a batch.
struct Event {
  Payload payload;  ///< what is stored
  /// The event type consumers dispatch on. Empty means "default".
  std::string type = "default";
  /// What it is about, such as a customer: the partition key of PgQue 0.3, and what `ConsumerOptions::key` can return.
  /// 1 to 1024 bytes. Default: none. Stored in `extra1`; none as NULL.
  std::optional<std::string> key{};
  /// What travels beside the payload, such as a `traceparent`. A name has 1 to 256 bytes. Default: none. Stored in
  /// `extra4` as one JSON object of strings; none as NULL.
  Headers headers{};
};

namespace detail {

// Whether nothing makes a payload or an event of a T.
template <class T>
constexpr bool is_no_payload() {
  if constexpr (source<bare<T>> != Source::nothing || std::is_base_of_v<Message, bare<T>>) {
    return false;
  } else {
    return !std::is_convertible_v<T, Payload> && !std::is_convertible_v<T, Event>;
  }
}

// For functions that take every such T, so that a compiler's first line says what to do, and not what it has tried.
template <class T>
constexpr void require_payload() {
  static_assert(
      !is_no_payload<T>(),
      "pgque: this is no payload. Include <pgque/json.hpp> for what nlohmann_json serialises: a JSON value, a "
      "number, a container such as std::map, and a type of yours with a to_json(). Or specialise "
      "pgque::PayloadEncoder.");
}

// For ranges of them, where a compiler's first line would be one of the standard library.
template <class T>
constexpr void require_no_characters() {
  static_assert(source<bare<T>> != Source::characters,
                "pgque: these are characters. If they are text, write a std::string in UTF-8; if numbers, "
                "nlohmann::json(...).");
}

}  // namespace detail

/// A received message as an event to send on: its payload as it was stored, its type, of which NULL becomes "default",
/// its key, of which an empty one becomes none, and its headers. Other extra columns, and an `extra4` that is no such
/// headers, are left out.
PGQUE_EXPORT Event to_event(const Message& message);

}  // namespace pgque
