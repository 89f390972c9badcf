#pragma once

/// @file
/// What is received: messages and the distinct id types.

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

#include <pgque/export.hpp>

namespace pgque {

/// Id of an event, unique within its queue. A message received later carries it as `Message::msg_id`.
enum class EventId : std::int64_t {};
/// Id of an open batch. PgQue does not check who finishes a batch, so this is a separate type, which cannot be confused
/// with other ids.
enum class BatchId : std::int64_t {};
/// Id of a tick of a queue.
enum class TickId : std::int64_t {};

/// The id as PgQue prints it, in decimal.
PGQUE_EXPORT std::string to_string(EventId id);
/// The same.
PGQUE_EXPORT std::string to_string(BatchId id);
/// The same.
PGQUE_EXPORT std::string to_string(TickId id);

/// Writes the id in decimal.
PGQUE_EXPORT std::ostream& operator<<(std::ostream& out, EventId id);
/// The same.
PGQUE_EXPORT std::ostream& operator<<(std::ostream& out, BatchId id);
/// The same.
PGQUE_EXPORT std::ostream& operator<<(std::ostream& out, TickId id);

/// A point in time with PostgreSQL's resolution of one microsecond.
using Timestamp = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;

/// One message of a batch: a row of `pgque.message`.
///
/// An SQL NULL is an empty optional; nothing is replaced by an empty string or a zero. A plain value type: distinct
/// objects may be used by distinct threads.
struct Message {
  /// The event's id. It stays the same when the message is retried; a replayed dead letter has a new one.
  EventId msg_id{};
  /// The batch the message was received in: what `ack` and `nack` take.
  BatchId batch_id{};
  /// The event's type. NULL when a producer stored NULL, as change-capture triggers and raw inserts may.
  std::optional<std::string> type;
  /// The payload's text. JSON when it was sent as JSON; see `pgque/json.hpp` for reading it as such.
  std::optional<std::string> payload;
  /// NULL on the first delivery, then 1, 2, 3 and so on.
  std::optional<std::int32_t> retry_count;
  /// When the sender's transaction began, to the microsecond. Retries keep it.
  Timestamp created_at{};
  std::optional<std::string> extra1;  ///< the event's extra columns
  std::optional<std::string> extra2;  ///< the same
  std::optional<std::string> extra3;  ///< the same
  std::optional<std::string> extra4;  ///< the same
};

}  // namespace pgque
