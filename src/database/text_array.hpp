#pragma once

// PostgreSQL arrays on the wire.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgque::detail {

// Builds a text[] in binary format in one pass, about ten times cheaper than an array literal.
class TextArray {
 public:
  // `bytes`: roughly how much text will come, to allocate once.
  TextArray(std::size_t elements, std::size_t bytes);
  void add(std::optional<std::string_view> element);
  std::string_view bytes() const noexcept { return bytes_; }

 private:
  std::string bytes_;
};

// Parses the text form of a bigint[] without NULLs, such as {1,2,3}.
std::vector<std::int64_t> parse_int64_array(std::string_view text);

}  // namespace pgque::detail
