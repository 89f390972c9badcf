#pragma once

// Converts result rows to values.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pgque/admin.hpp>
#include <pgque/message.hpp>

#include "database/pqxx_compat.hpp"

namespace pgque::detail {

// Numbers are read up to their terminator: asking libpqxx for their length takes longer than reading them. The
// following throw std::runtime_error for anything else.
std::int64_t parse_integer(const char* text);
std::int32_t to_int32(std::int64_t value);
// From a timestamptz's binary form in hexadecimal: microseconds since the year 2000. PostgreSQL's infinity becomes the
// latest possible time.
Timestamp parse_timestamp(const char* hex);

// Reads the fields of a row one after another.
template <class Iterator>
class RowReader {
 public:
  explicit RowReader(Iterator field) : field_{std::move(field)} {}

  // The next field. NULL, which reads as empty text, is an error, except where the result is optional.
  std::int64_t integer() { return parse_integer(next()->c_str()); }
  std::optional<std::int64_t> optional_integer() {
    const auto& field = next();
    return field->is_null() ? std::nullopt : std::optional{parse_integer(field->c_str())};
  }
  void text_into(std::optional<std::string>& text) {
    if (const auto& field = next(); !field->is_null()) text.emplace(field->c_str(), field->size());
  }
  std::optional<std::string> text() {
    std::optional<std::string> text;
    text_into(text);
    return text;
  }
  Timestamp binary_time() { return parse_timestamp(next()->c_str()); }
  // The same in other types. Times and durations are selected in microseconds.
  std::int32_t int32() { return to_int32(integer()); }
  std::optional<std::int32_t> optional_int32() {
    const auto value = optional_integer();
    return value ? std::optional{to_int32(*value)} : std::nullopt;
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

  Iterator field_;
  bool begun_ = false;
};

// The role that PgQue's name of it stands for.
ConsumerRole parse_consumer_role(std::string_view name);

// A row selected by PGQUE_MESSAGE_COLUMNS, from its first field on.
template <class Iterator>
void read_message(Iterator first, Message& message) {
  RowReader row{std::move(first)};
  message.msg_id = EventId{row.integer()};
  message.batch_id = BatchId{row.integer()};
  row.text_into(message.type);
  row.text_into(message.payload);
  message.retry_count = row.optional_int32();
  message.created_at = row.binary_time();
  row.text_into(message.extra1);
  row.text_into(message.extra2);
  row.text_into(message.extra3);
  row.text_into(message.extra4);
}

// All rows of such a result.
std::vector<Message> read_messages(const pqxx::result& result);

// The single value of a single row; empty for SQL NULL.
std::optional<std::int64_t> read_int64(const pqxx::result& result);

}  // namespace pgque::detail
