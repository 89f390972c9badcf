// Arrays: the ids that the server returns as text, and the texts that are sent to it in binary form.

#include "database/text_array.hpp"

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "binary_array.hpp"
#include "fuzz.hpp"

namespace {

using pgque::fuzz::require;

void check_ids(std::string_view text) {
  std::vector<std::int64_t> ids;
  try {
    ids = pgque::detail::parse_int64_array(text);
  } catch (const std::runtime_error&) {
    return;
  }
  std::string canonical = "{";
  for (const auto id : ids) canonical += (canonical.size() > 1 ? "," : "") + std::to_string(id);
  canonical += '}';
  require(pgque::detail::parse_int64_array(canonical) == ids, "what is read can be written and read again");

  require(text.front() == '{' && text.back() == '}', "an array is in braces");
  std::vector<std::int64_t> expected;
  const std::string inner{text.substr(1, text.size() - 2)};
  for (std::size_t begin = 0; !inner.empty() && begin <= inner.size();) {
    const auto end = std::min(inner.find(',', begin), inner.size());
    const auto element = inner.substr(begin, end - begin);
    char* last = nullptr;
    errno = 0;
    const auto value = std::strtoll(element.c_str(), &last, 10);
    require(!element.empty() && last == element.c_str() + element.size() && errno == 0, "each element is an integer");
    expected.push_back(value);
    begin = end + 1;
  }
  require(ids == expected, "the elements are read as the standard library reads them");
}

void check_texts(std::string_view text) {
  std::vector<std::optional<std::string>> elements;
  std::size_t bytes = 0;
  for (pgque::fuzz::Lines lines{text}; !lines.at_end();) {
    elements.push_back(lines.value());
    bytes += elements.back() ? elements.back()->size() : 0;
  }
  pgque::detail::TextArray array{elements.size(), bytes};
  for (const auto& element : elements) array.add(element);
  require(pgque::test::texts_of(array.bytes()) == elements, "an array that is sent holds what was put into it");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = pgque::fuzz::text_of(data, size);
  check_ids(text);
  check_texts(text);
  return 0;
}
