#include "support/text.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace pgque::detail {

namespace {

// Length of the valid UTF-8 character at `p`, 0 if there is none. NUL counts as invalid: PostgreSQL cannot store it.
std::size_t character_length(const unsigned char* p, std::size_t left) noexcept {
  const auto continues = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return i < left && p[i] >= low && p[i] <= high;
  };
  const unsigned lead = p[0];
  if (lead >= 0x01 && lead <= 0x7F) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return continues(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80;   // no overlong forms
    const unsigned high = lead == 0xED ? 0x9F : 0xBF;  // no surrogates
    return continues(1, low, high) && continues(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xF4 ? 0x8F : 0xBF;  // nothing above U+10FFFF
    return continues(1, low, high) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

// True if all eight bytes are ASCII other than NUL.
bool plain_ascii(const unsigned char* p) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, p, sizeof word);
  constexpr std::uint64_t high_bits = 0x8080808080808080;
  constexpr std::uint64_t ones = 0x0101010101010101;
  return ((word | (word - ones)) & high_bits) == 0;
}

}  // namespace

std::optional<std::size_t> first_invalid_byte(std::string_view text) noexcept {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    if (text.size() - i >= 8 && plain_ascii(p + i)) {
      i += 8;
      continue;
    }
    const auto length = character_length(p + i, text.size() - i);
    if (length == 0) return i;
    i += length;
  }
  return std::nullopt;
}

void check_text(std::string_view argument, std::string_view text) {
  const auto offset = first_invalid_byte(text);
  if (!offset) return;
  throw std::invalid_argument{std::string{argument} +
                              (text[*offset] == '\0'
                                   ? ": contains a NUL byte, which PostgreSQL cannot store, at offset "
                                   : ": is not valid UTF-8 at offset ") +
                              std::to_string(*offset)};
}

bool looks_like_dsn(std::string_view text) noexcept {
  if (text.find("://") != std::string_view::npos) return true;
  constexpr std::string_view keyword{"password"};
  const auto same_letter = [](char c, char lower) { return (static_cast<unsigned char>(c) | 0x20) == lower; };
  for (std::size_t at = 0; at + keyword.size() <= text.size(); ++at) {
    const auto word = text.substr(at, keyword.size());
    if (!std::equal(word.begin(), word.end(), keyword.begin(), same_letter)) continue;
    // libpq allows white space before the equals sign.
    const auto next = text.find_first_not_of(" \t\n\r\f\v", at + keyword.size());
    if (next != std::string_view::npos && text[next] == '=') return true;
  }
  return false;
}

void check_consumer(std::string_view argument, std::string_view name) {
  if (name.empty()) throw std::invalid_argument{std::string{argument} + ": must not be empty"};
  if (looks_like_dsn(name)) {
    throw std::invalid_argument{std::string{argument} + ": is a DSN, which is not shown here, and not a name"};
  }
  check_text(argument, name);
}

void check_queue(std::string_view name) {
  check_consumer("queue", name);
  constexpr std::size_t longest = 57;
  if (name.size() > longest) {
    throw std::invalid_argument{"queue: the name has " + std::to_string(name.size()) + " bytes, PgQue allows at most " +
                                std::to_string(longest)};
  }
}

std::string sanitized(std::string_view text, std::size_t longest) {
  static constexpr std::string_view replacement{"\xEF\xBF\xBD"};
  std::string out;
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    const auto length = character_length(p + i, text.size() - i);
    const auto piece = length == 0 ? replacement : text.substr(i, length);
    if (out.size() + piece.size() > longest) break;
    out += piece;
    i += length == 0 ? 1 : length;
  }
  return out;
}

bool is_ascii(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string ascii_only(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool continues = byte >= 0x80 && byte < 0xC0;  // the first byte of its character is replaced
    if (!continues) out += byte < 0x80 ? c : '?';
  }
  return out;
}

}  // namespace pgque::detail
