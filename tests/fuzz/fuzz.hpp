#pragma once

// What the fuzz targets have in common. Each target is one source with the function that libFuzzer calls for each
// input:
//
//   extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace pgque::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  // There may be no data at all.
  return size == 0 ? std::string_view{} : std::string_view{reinterpret_cast<const char*>(data), size};
}

// Ends the process, as libFuzzer expects of a target that has found a mistake.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// The lines of an input, one after another, so that an input with several parts can be read and written by hand.
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_{text} {}

  bool at_end() const { return !rest_; }
  // The next line, empty after the last one.
  std::string_view next() {
    if (!rest_) return {};
    const auto end = rest_->find('\n');
    const auto line = rest_->substr(0, end);
    rest_ = end == std::string_view::npos ? std::nullopt : std::optional{rest_->substr(end + 1)};
    return line;
  }
  // The next line; \N is SQL NULL, as in PostgreSQL's COPY.
  std::optional<std::string> value() {
    const auto line = next();
    return line == "\\N" ? std::nullopt : std::optional{std::string{line}};
  }
  std::string_view rest() const { return rest_.value_or(std::string_view{}); }

 private:
  std::optional<std::string_view> rest_;
};

}  // namespace pgque::fuzz
