#include "admin/dead_letter_cursor.hpp"

#include <optional>
#include <utility>

#include "database/row.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

namespace {

template <class Row>
DeadLetter read_dead_letter(Row row) {
  DeadLetter letter;
  letter.id = DeadLetterId{row.integer()};
  letter.queue = row.text_or_empty();
  letter.consumer = row.text_or_empty();
  letter.time = row.time();
  letter.reason = row.text();
  letter.event_id = EventId{row.integer()};
  letter.created_at = row.time();
  letter.retry_count = row.optional_int32();
  letter.type = row.text();
  letter.payload = row.text();
  letter.extra1 = row.text();
  letter.extra2 = row.text();
  letter.extra3 = row.text();
  letter.extra4 = row.text();
  return letter;
}

}  // namespace

std::vector<DeadLetter> read_dead_letters(const pqxx::result& result) {
  std::vector<DeadLetter> letters;
  for_each_row(result, [&](auto field) { letters.push_back(read_dead_letter(RowReader{field})); });
  return letters;
}

DeadLetterCursor::DeadLetterCursor(std::shared_ptr<Session> session, std::string_view queue)
    : session_{std::move(session)}, call_{"for_each_dead_letter", queue} {
  TransactionExecutor transaction{session_};
  const auto select = render(transaction.work(), sql::dead_letters, {queue, std::nullopt});
  transaction.run_plain(sql::dead_letter_cursor.declare(true, select), call_);
  transaction.commit(call_);
}

DeadLetterCursor::~DeadLetterCursor() {
  try {
    if (session_->is_open()) AutocommitExecutor{session_}.run_plain(sql::dead_letter_cursor.close(), call_);
  } catch (...) {
    // If the connection is lost, its cursors are gone as well, and the next statement reports the loss.
  }
}

std::vector<DeadLetter> DeadLetterCursor::fetch() {
  constexpr std::int64_t page = 100;
  return read_dead_letters(AutocommitExecutor{session_}.run_plain(sql::dead_letter_cursor.fetch(page), call_));
}

}  // namespace pgque::detail
