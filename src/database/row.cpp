#include "database/row.hpp"

#include <chrono>
#include <limits>
#include <stdexcept>

namespace pgque::detail {

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

std::int32_t to_int32(std::int64_t value) {
  if (value < std::numeric_limits<std::int32_t>::min() || value > std::numeric_limits<std::int32_t>::max()) {
    throw std::runtime_error{"the server sent an integer that is too large"};
  }
  return static_cast<std::int32_t>(value);
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

ConsumerRole parse_consumer_role(std::string_view name) {
  if (name == "coop_main") return ConsumerRole::group;
  if (name == "coop_member") return ConsumerRole::subconsumer;
  return ConsumerRole::normal;
}

std::vector<Message> read_messages(const pqxx::result& result) {
  std::vector<Message> messages;
  messages.reserve(static_cast<std::size_t>(result.size()));
  for_each_row(result, [&](auto field) { read_message(field, messages.emplace_back()); });
  return messages;
}

std::optional<std::int64_t> read_int64(const pqxx::result& result) {
  std::optional<std::int64_t> value;
  for_each_row(result, [&](auto field) { value = RowReader{field}.optional_integer(); });
  return value;
}

}  // namespace pgque::detail
