#include "database/text_array.hpp"

#include <charconv>
#include <stdexcept>

namespace pgque::detail {

namespace {

void put_int32(std::string& out, std::size_t value) {
  out += static_cast<char>(value >> 24 & 0xFF);
  out += static_cast<char>(value >> 16 & 0xFF);
  out += static_cast<char>(value >> 8 & 0xFF);
  out += static_cast<char>(value & 0xFF);
}

}  // namespace

TextArray::TextArray(std::size_t elements, std::size_t bytes) {
  constexpr std::size_t text_oid = 25;
  bytes_.reserve(20 + 4 * elements + bytes);
  put_int32(bytes_, elements == 0 ? 0 : 1);  // dimensions
  put_int32(bytes_, 1);                      // may contain NULL
  put_int32(bytes_, text_oid);
  if (elements == 0) return;
  put_int32(bytes_, elements);
  put_int32(bytes_, 1);  // lower bound
}

void TextArray::add(std::optional<std::string_view> element) {
  put_int32(bytes_, element ? element->size() : static_cast<std::size_t>(-1));
  if (element) bytes_ += *element;
}

std::vector<std::int64_t> parse_int64_array(std::string_view text) {
  if (text.size() < 2 || text.front() != '{' || text.back() != '}') {
    throw std::runtime_error{"not an array of integers: " + std::string{text.substr(0, 40)}};
  }
  std::vector<std::int64_t> out;
  const char* p = text.data() + 1;
  const char* const end = text.data() + text.size() - 1;
  if (p == end) return out;
  for (;; ++p) {
    std::int64_t value = 0;
    const auto [next, error] = std::from_chars(p, end, value);
    if (error != std::errc{} || (next != end && *next != ',')) {
      throw std::runtime_error{"not an array of integers: " + std::string{text.substr(0, 40)}};
    }
    out.push_back(value);
    p = next;
    if (p == end) break;
  }
  return out;
}

}  // namespace pgque::detail
