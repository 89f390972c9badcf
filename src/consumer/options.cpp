#include "consumer/options.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

#include "database/sql.hpp"
#include "support/backoff.hpp"
#include "support/checks.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

using std::chrono::milliseconds;

template <class Enum>
void check_enum(std::string_view argument, Enum value, Enum last) {
  if (static_cast<int>(value) < 0 || value > last) {
    throw std::invalid_argument{std::string{argument} + ": not one of its enumerators"};
  }
}

void check_no_dot(std::string_view argument, std::string_view name) {
  if (name.find('.') == std::string_view::npos) return;
  throw std::invalid_argument{std::string{argument} + ": a cooperative consumer's names must not contain a dot"};
}

// Pages are read from a cursor. In split mode it belongs to the session, which a pooler does not keep.
bool can_page(const ConsumerOptions& options) noexcept {
  return !options.pooled || transaction_mode(options) == TransactionMode::per_batch;
}

}  // namespace

void check(const ConsumerOptions& options) {
  check_queue(options.queue);
  check_consumer("name", options.name);
  check_duration("poll_interval", options.poll_interval, milliseconds{1}, longest_wait);
  if (options.max_messages) check_at_least("max_messages", *options.max_messages, 1);
  if (options.catch_up) check_at_least("catch_up.events", options.catch_up->events, 1);
  check_duration("min_lag", options.min_lag, milliseconds{0}, longest_wait);
  check_retry_after(options.retry_after);
  check_enum("unknown_handler_policy", options.unknown_handler_policy, UnknownHandlerPolicy::ack);
  if (options.dead_interval) {
    if (options.subconsumer.empty()) {
      throw std::invalid_argument{"dead_interval: only cooperative consumers have one; set subconsumer as well"};
    }
    check_duration("dead_interval", *options.dead_interval, milliseconds{1}, longest_wait);
  }
  if (!options.subconsumer.empty()) {
    check_consumer("subconsumer", options.subconsumer);
    check_no_dot("subconsumer", options.subconsumer);
    check_no_dot("name", options.name);
  }
  check_at_least("concurrency", options.concurrency, 1);
  if (options.concurrency > most_concurrency) throw std::invalid_argument{"concurrency: must be at most 1024"};
  if (options.transaction) {
    check_enum("transaction", *options.transaction, TransactionMode::split);
    if (*options.transaction == TransactionMode::per_batch && !options.subconsumer.empty()) {
      throw std::invalid_argument{
          "transaction: cooperative consumers are always split; per_batch would lock the whole group"};
    }
    if (*options.transaction == TransactionMode::per_batch && options.concurrency > 1) {
      throw std::invalid_argument{
          "transaction: consumers with concurrency above 1 are always split; handlers cannot share a transaction"};
    }
  }
  if (!can_page(options) && options.max_messages && !is_unbounded_by_default(options)) {
    throw std::invalid_argument{
        "max_messages: in split mode pages are read from a session's cursor, which a pooler does not keep"};
  }
  check_duration("drain_timeout", options.drain_timeout, milliseconds{0}, longest_wait);
  if (options.handler_timeout) {
    check_duration("handler_timeout", *options.handler_timeout, milliseconds{1}, longest_wait);
  }
  check_duration("no_ticks_after", options.no_ticks_after, milliseconds{0}, longest_wait);
  check_duration("slow_batch_after", options.slow_batch_after, milliseconds{0}, longest_wait);
  check(options.reconnect);
  // The server keeps these two in an int4 of milliseconds.
  check_duration("statement_timeout", options.statement_timeout, milliseconds{0}, milliseconds{2147483647});
  check_duration("idle_in_transaction_timeout", options.idle_in_transaction_timeout, milliseconds{0},
                 milliseconds{2147483647});
  if (options.crash_guard) {
    const auto& file = options.crash_guard->file;
    if (file.empty()) throw std::invalid_argument{"crash_guard.file: must not be empty"};
    if (file.find('\0') != std::string::npos) throw std::invalid_argument{"crash_guard.file: must not have a NUL byte"};
    check_at_least("crash_guard.crashes", options.crash_guard->crashes, 1);
  }
}

TransactionMode transaction_mode(const ConsumerOptions& options) noexcept {
  const bool shared = !options.subconsumer.empty() || options.concurrency > 1;
  return options.transaction.value_or(shared ? TransactionMode::split : TransactionMode::per_batch);
}

std::optional<std::int32_t> page_size(const ConsumerOptions& options) noexcept {
  return can_page(options) ? options.max_messages : std::nullopt;
}

bool is_unbounded_by_default(const ConsumerOptions& options) noexcept {
  return !can_page(options) && options.max_messages == default_max_messages;
}

std::string session_settings(const ConsumerOptions& options) {
  std::string settings;
  if (!options.pooled) settings += sql::last_as_long_as_needed;
  // In split mode for the callbacks of on_ack().
  settings += sql::set_milliseconds(options.pooled, "idle_in_transaction_session_timeout",
                                    options.idle_in_transaction_timeout.count());
  // Even if that is 0: a limit of the role or of the database is not for the consumer's own statements.
  settings += sql::set_milliseconds(options.pooled, "statement_timeout", options.statement_timeout.count());
  return settings;
}

std::chrono::milliseconds heartbeat_interval(const ConsumerOptions& options) noexcept {
  constexpr milliseconds longest{10'000};
  if (!options.dead_interval) return longest;
  return std::clamp(*options.dead_interval / 3, milliseconds{1}, longest);
}

}  // namespace pgque::detail
