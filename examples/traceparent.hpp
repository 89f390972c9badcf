#pragma once

// The header `traceparent` of W3C Trace Context, by which a span finds its parent in another process.

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

namespace example {

struct TraceParent {
  std::string trace_id;     // 32 hexadecimal digits, not all of them 0
  std::string span_id;      // 16, likewise
  std::string flags{"01"};  // 2; the lowest bit says that the trace is recorded
};

// "00-TRACE-SPAN-FLAGS". Later versions may append something behind another hyphen; "ff" is none. Empty if it is
// anything else: then the receiver begins a trace of its own.
inline std::optional<TraceParent> parse_traceparent(std::string_view text) {
  constexpr std::size_t length = 55;
  const auto is_hex = [](std::string_view part) {
    return std::all_of(part.begin(), part.end(),
                       [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  };
  const auto is_id = [&](std::string_view part) {
    return is_hex(part) && part.find_first_not_of('0') != std::string_view::npos;
  };
  if (text.size() < length || text[2] != '-' || text[35] != '-' || text[52] != '-') return std::nullopt;
  const auto version = text.substr(0, 2);
  const auto trace_id = text.substr(3, 32);
  const auto span_id = text.substr(36, 16);
  const auto flags = text.substr(53, 2);
  if (!is_hex(version) || version == "ff" || !is_id(trace_id) || !is_id(span_id) || !is_hex(flags)) return std::nullopt;
  if (text.size() > length && (version == "00" || text[length] != '-')) return std::nullopt;
  return TraceParent{std::string{trace_id}, std::string{span_id}, std::string{flags}};
}

inline std::string to_string(const TraceParent& parent) {
  return "00-" + parent.trace_id + '-' + parent.span_id + '-' + parent.flags;
}

}  // namespace example
