// A line that the pgque command reads with `send --batch`, and prints with `tail`.

#include <string>

#include <nlohmann/json.hpp>
#include <pgque/json.hpp>

#include "fuzz.hpp"
#include "json.hpp"
#include "output.hpp"

namespace {

using pgque::fuzz::require;
using pgque::tool::compact_json;
using pgque::tool::is_json;

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
  if (!is_json(text)) return 0;
  require(is_json(compact), "JSON stays JSON without its white space");
  require(compact.find('\n') == std::string::npos, "a value is on one line");
  require(compact_json(compact) == compact, "white space is taken away once");
  require(pgque::detail::has_escaped_nul(text) == pgque::detail::has_escaped_nul(compact), "strings stay as they are");
  // Numbers that nlohmann_json cannot represent are JSON nevertheless.
  const auto value = nlohmann::json::parse(text, nullptr, false);
  if (!value.is_discarded()) {
    require(nlohmann::json::parse(compact, nullptr, false) == value, "the value stays the same");
  }
  return 0;
}
