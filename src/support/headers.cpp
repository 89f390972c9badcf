#include "support/headers.hpp"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <utility>

#include "support/json_string.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

void put_character(std::string& out, std::uint32_t code) {
  const auto put = [&](std::uint32_t lead, unsigned shift) {
    out += static_cast<char>(lead | code >> shift);
    while (shift != 0) out += static_cast<char>(0x80 | (code >> (shift -= 6) & 0x3F));
  };
  if (code < 0x80) {
    put(0, 0);
  } else if (code < 0x800) {
    put(0xC0, 6);
  } else if (code < 0x10000) {
    put(0xE0, 12);
  } else {
    put(0xF0, 18);
  }
}

class Reader {
 public:
  explicit Reader(std::string_view json) : rest_{json} {}

  std::optional<Headers> object() {
    Headers out;
    if (!take('{')) return std::nullopt;
    if (!take('}')) {
      do {
        if (!member(out)) return std::nullopt;
      } while (take(','));
      if (!take('}')) return std::nullopt;
    }
    skip_space();
    return rest_.empty() ? std::optional{std::move(out)} : std::nullopt;
  }

 private:
  void skip_space() {
    const auto next = rest_.find_first_not_of(" \t\n\r");
    rest_.remove_prefix(next == std::string_view::npos ? rest_.size() : next);
  }
  bool take(char wanted) {
    skip_space();
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  bool member(Headers& out) {
    std::string name;
    std::string value;
    if (!string(name) || !take(':') || !string(value)) return false;
    out.insert_or_assign(std::move(name), std::move(value));
    return true;
  }

  bool string(std::string& out) {
    if (!take('"')) return false;
    while (!rest_.empty()) {
      const char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c != '\\') {
        out += c;
      } else if (!escape(out)) {
        return false;
      }
    }
    return false;
  }

  bool escape(std::string& out) {
    if (rest_.empty()) return false;
    const char c = rest_.front();
    rest_.remove_prefix(1);
    if (c == 'u') return escaped_character(out);
    constexpr std::string_view letters{"\"\\/bfnrt"};
    constexpr std::string_view meanings{"\"\\/\b\f\n\r\t"};
    const auto at = letters.find(c);
    if (at == std::string_view::npos) return false;
    out += meanings[at];
    return true;
  }

  // What follows \u. PostgreSQL has no NUL, and UTF-8 no half of a pair.
  bool escaped_character(std::string& out) {
    auto code = hexadecimal();
    if (!code || *code == 0 || (*code >= 0xDC00 && *code <= 0xDFFF)) return false;
    if (*code >= 0xD800 && *code <= 0xDBFF) {
      if (rest_.substr(0, 2) != "\\u") return false;
      rest_.remove_prefix(2);
      const auto low = hexadecimal();
      if (!low || *low < 0xDC00 || *low > 0xDFFF) return false;
      code = 0x10000 + ((*code - 0xD800) << 10) + (*low - 0xDC00);
    }
    put_character(out, *code);
    return true;
  }

  std::optional<std::uint32_t> hexadecimal() {
    constexpr std::size_t digits = 4;
    if (rest_.size() < digits) return std::nullopt;
    std::uint32_t value = 0;
    const char* const end = rest_.data() + digits;
    const auto [next, error] = std::from_chars(rest_.data(), end, value, 16);
    if (error != std::errc{} || next != end) return std::nullopt;
    rest_.remove_prefix(digits);
    return value;
  }

  std::string_view rest_;
};

}  // namespace

std::optional<Headers> read_headers(std::string_view json) {
  if (first_invalid_byte(json)) return std::nullopt;
  return Reader{json}.object();
}

std::string write_headers(const Headers& headers) {
  std::string out{'{'};
  for (const auto& [name, value] : headers) {
    if (out.size() > 1) out += ',';
    put_json_string(out, name);
    out += ':';
    put_json_string(out, value);
  }
  out += '}';
  return out;
}

}  // namespace pgque::detail
