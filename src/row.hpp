#pragma once

// Result rows to values.

#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <pgque/message.hpp>

#include "pqxx_compat.hpp"

namespace pgque::detail {

// Reads the fields of a row one after another.
template <class Iterator>
class RowReader {
 public:
  explicit RowReader(Iterator field) : field_{std::move(field)} {}

  // The next field. NULL is an error, except where the result is optional.
  std::int64_t integer() {
    const auto value = optional_integer();
    if (!value) throw_no_integer();
    return *value;
  }
  std::optional<std::int64_t> optional_integer() {
    const auto& field = next();
    if (field->is_null()) return std::nullopt;
    std::int64_t value = 0;
    const char* const begin = field->c_str();
    const auto [end, error] = std::from_chars(begin, begin + field->size(), value);
    if (error != std::errc{} || end != begin + field->size()) throw_no_integer();
    return value;
  }
  std::optional<std::string> text() {
    const auto& field = next();
    if (field->is_null()) return std::nullopt;
    return std::string{field->c_str(), field->size()};
  }
  // The same in other types. Times and durations are selected in microseconds.
  std::int32_t int32() { return static_cast<std::int32_t>(integer()); }
  std::optional<std::int32_t> optional_int32() {
    const auto value = optional_integer();
    return value ? std::optional{static_cast<std::int32_t>(*value)} : std::nullopt;
  }
  bool boolean() { return integer() != 0; }
  std::string text_or_empty() { return text().value_or(std::string{}); }
  std::chrono::microseconds duration() { return std::chrono::microseconds{integer()}; }
  Timestamp time() { return Timestamp{duration()}; }
  template <class T>
  std::optional<T> optional() {
    const auto value = optional_integer();
    return value ? std::optional<T>{T{*value}} : std::nullopt;
  }

 private:
  const Iterator& next() {
    if (std::exchange(begun_, true)) ++field_;
    return field_;
  }
  [[noreturn]] static void throw_no_integer() {
    throw std::runtime_error{"the server sent no integer where one was expected"};
  }

  Iterator field_;
  bool begun_ = false;
};

// The rows selected by PGQUE_MESSAGE_COLUMNS.
std::vector<Message> read_messages(const pqxx::result& result);

// The single value of a single row; empty for SQL NULL.
std::optional<std::int64_t> read_int64(const pqxx::result& result);

}  // namespace pgque::detail
