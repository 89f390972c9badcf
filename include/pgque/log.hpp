#pragma once

/// @file
/// Logging and events: one hook, called with fields.

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string_view>

#include <pgque/export.hpp>
#include <pgque/message.hpp>

namespace pgque {

/// How much a log line matters.
enum class LogLevel {
  debug,    ///< each batch
  info,     ///< connections, starts and stops
  warning,  ///< something failed and will be retried or redelivered
  error,    ///< something that needs attention
};

/// What happened, for code that counts or reacts; `LogRecord::message` says the same to a person.
enum class LogEvent {
  started,             ///< a consumer, ticker or buffered producer began its work
  stopped,             ///< it ended
  connected,           ///< a connection was made and is ready
  connection_lost,     ///< a connection broke, or making one failed; another attempt follows after a pause
  listen_unavailable,  ///< there are no notifications; the consumer only polls
  batch_received,      ///< a batch with messages was opened
  batch_acked,         ///< the batch was finished
  batch_abandoned,     ///< the batch was left unacked and will be delivered again
  batch_lost,          ///< the worker no longer has the batch: another one took it over, or it was unregistered; no ack
  batch_taken_over,    ///< the worker took over the batch of another one, which was silent for `dead_interval`
  stale_ack,       ///< the ack, or a nack before it, found the batch finished: its messages may have been handled twice
  handler_failed,  ///< a handler threw; the message is nacked, unless its batch is lost or left
  unknown_type,    ///< no handler for the message's type and no "*" handler
  nack_failed,     ///< nacking failed, so the batch is not acked
  failed,          ///< any other error; the loop pauses and tries again, or stops
  leader,          ///< this ticker became the active one, and its first ticks succeeded
  standby,         ///< another ticker is active; this one waits
  batch_sent,      ///< a buffered producer stored a batch
  batch_refused,   ///< the server refused a buffered producer's batch; none of its events is stored
  batch_in_doubt,  ///< the connection was lost while a buffered producer's batch was being committed
  events_dropped,  ///< a buffered producer gave up events that it could not send in time; they are not stored
  batch_postponed,    ///< a handler threw `NotNow`: the batch was left unacked, and the consumer pauses
  unbounded_batches,  ///< a consumer holds whole batches in memory by default, because it cannot read them in pages
  crash_suspected,    ///< the process ended while this message was handled, says the consumer's `CrashGuard`
  handler_stuck,      ///< a handler has been running for longer than `handler_timeout`
  slow_batch,         ///< in `per_batch` mode, a batch has kept its transaction open for `slow_batch_after`
  dead_lettered,      ///< a message that failed has become a dead letter: no further delivery follows
  give_up_refused,    ///< a handler threw `GiveUp`, but the role may not call `pgque.event_dead`; the message is nacked
  no_ticks,           ///< the queue has had no tick for `ConsumerOptions::no_ticks_after`, so nothing is delivered
  key_in_group,       ///< `ConsumerOptions::key` with `subconsumer`: no order is kept between the workers of the group
};

/// The name of the event, such as "stale_ack".
PGQUE_EXPORT std::string_view to_string(LogEvent event) noexcept;
/// "debug", "info", "warning" or "error".
PGQUE_EXPORT std::string_view to_string(LogLevel level) noexcept;

/// One log line. Payloads are never part of it; a handler's exception text is. Valid only during the call.
struct LogRecord {
  LogLevel level = LogLevel::info;        ///< how much it matters
  LogEvent event = LogEvent::failed;      ///< what happened
  std::string_view message{};             ///< the same in words
  std::string_view queue{};               ///< empty for a ticker, unless one queue is the trouble
  std::string_view consumer{};            ///< empty for a ticker
  std::optional<BatchId> batch_id{};      ///< if it is about a batch
  std::optional<EventId> msg_id{};        ///< if it is about a message
  std::optional<std::int32_t> attempt{};  ///< which delivery of the message this was, starting at 1
  std::string_view sqlstate{};            ///< if the server reported one; otherwise empty
  std::string_view type{};                ///< of the message, if it is about one; empty for NULL
  /// If the message is put up for retry: the shortest time until then. Empty for one that is given up. If this was its
  /// last attempt, `dead_lettered`
  /// follows when the batch is acknowledged.
  std::optional<std::chrono::seconds> retry_in{};
};

/// Receives every record. The thread that runs the loop and its helper threads call it, one call at a time for each
/// consumer, ticker or producer. Exceptions that it throws are ignored. An empty function means `log_to_stderr`.
using LogSink = std::function<void(const LogRecord&)>;

/// The default sink: warnings and errors, one line each, to standard error.
/// **Thread safety.** May be called from any thread.
PGQUE_EXPORT void log_to_stderr(const LogRecord& record);

/// A sink that writes each record, of whatever level, as one line: a JSON object, ready for a log shipper. Its members
/// are `time` (UTC, as in "2026-11-28T07:24:01.123456Z"), `level`, `event` and `message`, and then those of the other
/// fields of `LogRecord` that are set, by their names; ids and counts are numbers, `retry_in` is in seconds. Bytes that
/// are not UTF-8, and NUL, become U+FFFD.
///
/// ```cpp
/// options.log = pgque::json_lines(std::cerr);
/// ```
/// @param out must live as long as the sink and its copies. It is flushed after each line.
///
/// **Thread safety.** The sink may be called from any thread. Its copies and all other sinks for the same stream write
/// one after another, each line by one call of the stream. What else writes to the stream is not kept apart.
///
/// A line that cannot be written, for example because the disk is full, is lost. The next one is tried nevertheless:
/// before each line, the sink clears the error state of the stream.
PGQUE_EXPORT LogSink json_lines(std::ostream& out);

}  // namespace pgque
