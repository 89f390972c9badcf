#pragma once

// A session of a ticker. Each statement is a transaction of its own, within limits of time, and a stop cancels it.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "database/session.hpp"
#include "database/statement_guard.hpp"

namespace pgque::detail {

struct TimeLimits {
  std::chrono::milliseconds lock;  // for each lock that the statement waits for
  std::chrono::milliseconds statement;
};

class TickerSession {
 public:
  // Behind a pooler no session can hold the lead, so there each transaction first takes the lock of this number for
  // itself. It waits for the transaction of another ticker to end, but not for a session that leads.
  TickerSession(std::shared_ptr<Session> session, StatementGuard& guard, std::optional<std::int64_t> lock);

  bool is_open() const noexcept { return session_->is_open(); }
  bool worn_out() const noexcept { return session_->worn_out(); }
  // Both are empty if it is another ticker's turn.
  std::optional<pqxx::result> run(const Statement& statement, Params params, const Call& call,
                                  const TimeLimits& limits);
  // The number that the statement returns; 0 for NULL.
  std::optional<std::int64_t> ask(const Statement& statement, Params params, const Call& call,
                                  const TimeLimits& limits);

 private:
  std::shared_ptr<Session> session_;
  StatementGuard& guard_;
  const std::optional<std::int64_t> lock_;
};

}  // namespace pgque::detail
