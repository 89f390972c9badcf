#include "row.hpp"

#include <charconv>
#include <chrono>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace pgque::detail {

namespace {

template <class Field>
std::int64_t integer(const Field& field) {
  std::int64_t value = 0;
  const char* const begin = field.c_str();
  const char* const field_end = begin + field.size();  // of NULL it is empty
  const auto [end, error] = std::from_chars(begin, field_end, value);
  if (error != std::errc{} || end != field_end) {
    throw std::runtime_error{"the server sent no integer where one was expected"};
  }
  return value;
}

template <class Field>
std::optional<std::string> text(const Field& field) {
  if (field.is_null()) return std::nullopt;
  return std::optional<std::string>{std::in_place, field.c_str(), field.size()};
}

}  // namespace

Timestamp parse_timestamp(std::string_view hex) {
  std::uint64_t bits = 0;
  const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), bits, 16);
  if (error != std::errc{} || end != hex.data() + hex.size()) {
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
    message.msg_id = EventId{integer(*field)};
    message.batch_id = BatchId{integer(*++field)};
    message.type = text(*++field);
    message.payload = text(*++field);
    if (!(++field)->is_null()) message.retry_count = static_cast<std::int32_t>(integer(*field));
    ++field;
    message.created_at = parse_timestamp({field->c_str(), field->size()});
    message.extra1 = text(*++field);
    message.extra2 = text(*++field);
    message.extra3 = text(*++field);
    message.extra4 = text(*++field);
  });
  return messages;
}

std::optional<std::int64_t> read_int64(const pqxx::result& result) {
  std::optional<std::int64_t> value;
  for_each_row(result, [&](auto field) {
    if (!field->is_null()) value = integer(*field);
  });
  return value;
}

}  // namespace pgque::detail
