#pragma once

// Reads a text[] in PostgreSQL's binary format, independently of the code that writes it.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pgque::test {

// The elements, NULL as nothing. Throws std::runtime_error unless the bytes are exactly one array of one dimension,
// or one without elements.
inline std::vector<std::optional<std::string>> texts_of(std::string_view bytes) {
  const auto take = [&](std::size_t count) {
    if (bytes.size() < count) throw std::runtime_error{"the array ends too early"};
    const auto taken = bytes.substr(0, count);
    bytes.remove_prefix(count);
    return taken;
  };
  const auto number = [&] {
    std::uint32_t value = 0;
    for (const char c : take(4)) value = value * 256 + static_cast<unsigned char>(c);
    return value;
  };
  const auto expect = [&](std::uint32_t value, const char* what) {
    if (number() != value) throw std::runtime_error{std::string{"the array has a wrong "} + what};
  };

  const auto dimensions = number();
  if (dimensions > 1) throw std::runtime_error{"the array has more than one dimension"};
  expect(1, "mark of NULLs");
  constexpr std::uint32_t text = 25;
  expect(text, "type");
  std::vector<std::optional<std::string>> elements;
  if (dimensions == 1) {
    const auto count = number();
    expect(1, "lower bound");
    constexpr std::uint32_t null = 0xFFFFFFFF;
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto size = number();
      elements.push_back(size == null ? std::nullopt : std::optional{std::string{take(size)}});
    }
  }
  if (!bytes.empty()) throw std::runtime_error{"something follows the array"};
  return elements;
}

}  // namespace pgque::test
