#pragma once

// Reads dead letters, all at once or in pages.

#include <memory>
#include <string_view>
#include <vector>

#include <pgque/admin.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"

namespace pgque::detail {

// The rows of sql::dead_letters.
std::vector<DeadLetter> read_dead_letters(const pqxx::result& result);

// A cursor that outlives its transaction, so that the caller may go on using the connection.
class DeadLetterCursor {
 public:
  DeadLetterCursor(std::shared_ptr<Session> session, std::string_view queue);
  DeadLetterCursor(const DeadLetterCursor&) = delete;
  DeadLetterCursor& operator=(const DeadLetterCursor&) = delete;
  ~DeadLetterCursor();

  // The next page; empty at the end.
  std::vector<DeadLetter> fetch();

 private:
  const std::shared_ptr<Session> session_;
  const Call call_;
};

}  // namespace pgque::detail
