#include "row.hpp"

#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace pgque::detail {

namespace {

template <class Field>
void read_text(std::optional<std::string>& text, const Field& field) {
  if (!field.is_null()) text.emplace(field.c_str(), field.size());
}

}  // namespace

std::int64_t parse_integer(const char* text) {
  const bool negative = *text == '-';
  const char* const first = text + (negative ? 1 : 0);
  const char* p = first;
  std::uint64_t value = 0;
  for (; *p >= '0' && *p <= '9' && p - first < 19; ++p) value = value * 10 + static_cast<std::uint64_t>(*p - '0');
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (p == first || *p != '\0' || value > most + (negative ? 1 : 0)) {
    throw std::runtime_error{"the server sent no integer where one was expected"};
  }
  return static_cast<std::int64_t>(negative ? 0 - value : value);
}

Timestamp parse_timestamp(const char* hex) {
  std::uint64_t bits = 0;
  int digits = 0;
  for (; digits < 16; ++digits) {
    const char c = hex[digits];
    if (c >= '0' && c <= '9') {
      bits = bits << 4 | static_cast<std::uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      bits = bits << 4 | static_cast<std::uint64_t>(c - 'a' + 10);
    } else {
      break;
    }
  }
  if (digits < 16 || hex[digits] != '\0') {
    throw std::runtime_error{"the server sent no time where one was expected"};
  }
  const auto since_2000 = static_cast<std::int64_t>(bits);
  constexpr std::int64_t year_2000 = 946'684'800'000'000;
  constexpr auto latest = std::numeric_limits<std::int64_t>::max();
  return Timestamp{std::chrono::microseconds{since_2000 > latest - year_2000 ? latest : since_2000 + year_2000}};
}

std::vector<Message> read_messages(const pqxx::result& result) {
  std::vector<Message> messages;
  messages.reserve(static_cast<std::size_t>(result.size()));
  for_each_row(result, [&](auto field) {
    Message& message = messages.emplace_back();
    message.msg_id = EventId{parse_integer(field->c_str())};
    message.batch_id = BatchId{parse_integer((++field)->c_str())};
    read_text(message.type, *++field);
    read_text(message.payload, *++field);
    if (!(++field)->is_null()) message.retry_count = static_cast<std::int32_t>(parse_integer(field->c_str()));
    message.created_at = parse_timestamp((++field)->c_str());
    read_text(message.extra1, *++field);
    read_text(message.extra2, *++field);
    read_text(message.extra3, *++field);
    read_text(message.extra4, *++field);
  });
  return messages;
}

std::optional<std::int64_t> read_int64(const pqxx::result& result) {
  std::optional<std::int64_t> value;
  for_each_row(result, [&](auto field) {
    if (!field->is_null()) value = parse_integer(field->c_str());
  });
  return value;
}

}  // namespace pgque::detail
