#pragma once

/// @file
/// What is received: messages and the distinct id types.

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <map>
#include <optional>
#include <string>
#include <string_view>

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

/// The headers of an event or a message: a value for each name, both UTF-8 without NUL.
using Headers = std::map<std::string, std::string>;

/// One message of a batch: a row of `pgque.message`.
///
/// An SQL NULL is an empty optional; nothing is replaced by an empty string or a zero. A plain value type: distinct
/// objects may be used by distinct threads.
struct PGQUE_EXPORT Message {
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
  std::optional<std::string> extra1;  ///< the event's extra columns; here its key, see `Event::key`
  std::optional<std::string> extra2;  ///< the same; in PgQue 0.3 the idempotency key
  std::optional<std::string> extra3;  ///< the same; of no special meaning
  std::optional<std::string> extra4;  ///< the same; here its headers, see `Event::headers`

  /// The header of this name; empty if there is none. Reads `extra4` at each call, so take `headers()` for several.
  std::optional<std::string> header(std::string_view name) const;
  /// The headers: the JSON object in `extra4`, if all its values are strings. Of several members of one name the last
  /// one counts, as for `jsonb`. If `extra4` is NULL or anything else, which is no error, there are none; what `jsonb`
  /// could not hold, such as the escape `\u0000`, is something else. Reads `extra4` at each call.
  Headers headers() const;
};

}  // namespace pgque
