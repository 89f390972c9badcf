// Bytes that may or may not be text in UTF-8.

#include "support/text.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "fuzz.hpp"

namespace {

using pgque::fuzz::require;

// The first byte that belongs to no character, found by decoding characters and comparing their numbers.
std::optional<std::size_t> first_wrong_byte(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t at) {
      return at < text.size() ? static_cast<std::uint32_t>(static_cast<unsigned char>(text[at])) : 0U;
    };
    const auto lead = byte(i);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xC0) || lead >= 0xF8) return i;
    std::uint32_t number = length == 1 ? lead : lead & (0x7FU >> length);
    for (std::size_t k = 1; k < length; ++k) {
      if (byte(i + k) >> 6 != 2) return i;
      number = number << 6 | (byte(i + k) & 0x3FU);
    }
    const std::uint32_t least = length == 1 ? 1 : length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
    const bool surrogate = number >= 0xD800 && number < 0xE000;
    if (number < least || number > 0x10FFFF || surrogate) return i;
    i += length;
  }
  return std::nullopt;
}

bool is_refused(std::string_view text) {
  try {
    pgque::detail::check_text("text", text);
    return false;
  } catch (const std::invalid_argument&) {
    return true;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace detail = pgque::detail;
  const auto text = pgque::fuzz::text_of(data, size);
  const auto wrong = detail::first_invalid_byte(text);
  require(wrong == first_wrong_byte(text), "the first byte that is no text is found, and nothing else");
  require(is_refused(text) == wrong.has_value(), "text is accepted, and nothing else");

  for (const std::size_t longest : {std::size_t{0}, std::size_t{1}, std::size_t{10}, 3 * size}) {
    const auto shown = detail::sanitized(text, longest);
    require(shown.size() <= longest, "what is shown is not longer than allowed");
    require(!detail::first_invalid_byte(shown), "what is shown is text");
    require(wrong || shown == text.substr(0, shown.size()), "text is shown as it is");
    require(wrong || longest < size || shown == text, "text that is short enough is shown as a whole");
  }
  const auto ascii = detail::ascii_only(text);
  require(detail::is_ascii(ascii), "nothing but ASCII is left");
  require(!detail::is_ascii(text) || ascii == text, "ASCII is left as it is");
  return 0;
}
