#include "row.hpp"

namespace pgque::detail {

std::vector<Message> read_messages(const pqxx::result& result) {
  std::vector<Message> messages;
  messages.reserve(static_cast<std::size_t>(result.size()));
  for_each_row(result, [&](auto field) {
    RowReader row{field};
    Message& message = messages.emplace_back();
    message.msg_id = EventId{row.integer()};
    message.batch_id = BatchId{row.integer()};
    message.type = row.text();
    message.payload = row.text();
    message.retry_count = row.optional_int32();
    message.created_at = row.time();
    message.extra1 = row.text();
    message.extra2 = row.text();
    message.extra3 = row.text();
    message.extra4 = row.text();
  });
  return messages;
}

std::optional<std::int64_t> read_int64(const pqxx::result& result) {
  std::optional<std::int64_t> value;
  for_each_row(result, [&](auto field) { value = RowReader{field}.optional_integer(); });
  return value;
}

}  // namespace pgque::detail
