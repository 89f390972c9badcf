#pragma once

// The command's JSON output.

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>
#include <pgque/message.hpp>

#include "output.hpp"
#include "support/json_syntax.hpp"

namespace pgque::tool {

// Keys stay in the order in which they are written.
using Json = nlohmann::ordered_json;

// A database with the encoding SQL_ASCII may hold text that is not UTF-8.
inline std::string dumped(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

inline void print_json(const Json& json) {
  print_line(dumped(json, 2));
}

inline bool is_json(std::string_view text) {
  return detail::JsonSyntax::accepts(text);
}

inline Json seconds_or_null(std::optional<std::chrono::microseconds> duration) {
  return duration ? Json(in_seconds(*duration)) : Json(nullptr);
}

template <class T>
Json number_or_null(const std::optional<T>& value) {
  return value ? Json(static_cast<std::int64_t>(*value)) : Json(nullptr);
}

inline Json text_or_null(const std::optional<std::string>& text) {
  return text ? Json(*text) : Json(nullptr);
}

// The headers in the column extra4; empty if it has none that can be read.
inline Headers headers_in(const std::optional<std::string>& extra4) {
  Message message;
  message.extra4 = extra4;
  return message.headers();
}

// The member `payload` of a message's line. JSON is passed on as it is, so that no number loses a digit; another text
// becomes a string, with a second member that says so.
inline std::string payload_member(const std::optional<std::string>& payload) {
  if (payload && is_json(*payload)) return "\"payload\":" + compact_json(*payload);
  return "\"payload\":" + dumped(text_or_null(payload)) + (payload ? ",\"payload_is_text\":true" : "");
}

inline Json name_or_null(const std::string& name) {
  return name.empty() ? Json(nullptr) : Json(name);
}

}  // namespace pgque::tool
