// A line that the pgque command reads with `send --batch`, and prints with `tail`.

#include <string>

#include <nlohmann/json.hpp>
#include <pgque/json.hpp>

#include "fuzz.hpp"
#include "json.hpp"
#include "output.hpp"
#include "support/text.hpp"

namespace {

using nlohmann::json;
using pgque::fuzz::require;
using pgque::tool::compact_json;
using pgque::tool::is_json;

// Whether nlohmann_json finds a mistake, and not only a number that does not fit into a double.
bool is_malformed(const std::string& text) {
  try {
    [[maybe_unused]] const auto value = json::parse(text);
    return false;
  } catch (const json::out_of_range&) {
    return false;
  } catch (const json::exception&) {
    return true;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text{pgque::fuzz::text_of(data, size)};

  // Any text becomes a JSON string, whatever its bytes are.
  const auto string = pgque::tool::dumped(pgque::tool::Json(text));
  require(is_json(string), "any text can be printed as a JSON string");
  require(string.find('\n') == std::string::npos, "a JSON string is on one line");
  const auto shown = pgque::tool::printable(text);
  for (const char c : shown) require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F, "no control byte is printed");

  // Whatever it is, it must not be read beyond its end.
  const auto compact = compact_json(text);
  require(compact.size() <= text.size(), "nothing is added");

  // nlohmann_json is the judge, but for a mark at the beginning and for what stands behind a NUL byte.
  const bool marked = text.compare(0, 3, "\xEF\xBB\xBF") == 0;
  const bool possible = !marked && !pgque::detail::first_invalid_byte(text);
  if (!is_json(text)) {
    require(!possible || !json::accept(text), "JSON is taken for JSON");
    return 0;
  }
  require(possible && !is_malformed(text), "nothing but JSON is taken for JSON");
  require(is_json(compact), "JSON stays JSON without its white space");
  require(compact.find('\n') == std::string::npos, "a value is on one line");
  require(compact_json(compact) == compact, "white space is taken away once");
  require(is_json("{\"payload\":" + compact + ",\"a\":[" + compact + "]}"), "a value can be part of another one");
  require(pgque::detail::has_escaped_nul(text) == pgque::detail::has_escaped_nul(compact), "strings stay as they are");
  const auto value = json::parse(text, nullptr, false);
  if (!value.is_discarded()) require(json::parse(compact, nullptr, false) == value, "the value stays the same");
  return 0;
}
