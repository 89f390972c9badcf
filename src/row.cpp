#include "row.hpp"

#include <charconv>
#include <stdexcept>
#include <string>

namespace pgque::detail {

namespace {

template <class Field>
std::int64_t integer(const Field& field) {
  std::int64_t value = 0;
  const char* const begin = field.c_str();
  const auto [end, error] = std::from_chars(begin, begin + field.size(), value);
  if (field.is_null() || error != std::errc{} || end != begin + field.size()) {
    throw std::runtime_error{"the server sent no integer where one was expected"};
  }
  return value;
}

template <class Field>
std::optional<std::string> text(const Field& field) {
  if (field.is_null()) return std::nullopt;
  return std::string{field.c_str(), field.size()};
}

}  // namespace

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
    message.created_at = Timestamp{std::chrono::microseconds{integer(*++field)}};
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
