#pragma once

/// @file
/// Diagnosis: finds out why messages do not arrive.

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/dsn.hpp>
#include <pgque/export.hpp>

namespace pgque {

/// How bad a finding is.
enum class Severity {
  notice,   ///< works as configured, which may not be intended
  warning,  ///< something is late, or will be
  error,    ///< messages do not arrive
};

/// "notice", "warning" or "error".
PGQUE_EXPORT std::string_view to_string(Severity severity) noexcept;

/// One thing that was found, in words for a person and a code for a program.
struct Finding {
  Severity severity = Severity::notice;  ///< how bad it is
  /// Stays the same between versions; `diagnose` lists them.
  std::string code;
  std::string queue;        ///< empty if it is not about one queue
  std::string consumer;     ///< empty if it is not about one consumer
  std::string fact;         ///< what was found
  std::string consequence;  ///< what that means for messages
  /// How to fix it: an SQL statement if there is one.
  std::string remedy;
};

/// What counts as too long. Wrong values make `diagnose` throw `std::invalid_argument`.
struct DiagnoseOptions {
  /// How long a consumer may keep a batch open, or may be behind the latest tick. A worker of a group that holds a
  /// batch and is silent is a warning after a minute, and an error after this time. Default 10 min; 1 s to 30 days.
  std::chrono::seconds stuck_after{600};
  /// Dead letters younger than this are a warning, older ones a notice. Default 1 h; 1 s to 30 days.
  std::chrono::seconds recent{3600};
  /// Report a queue whose `ticker_max_lag` is above this, because its messages may wait that long. Default 1 s; 1 ms to
  /// 30 days.
  std::chrono::milliseconds slow_tick{1000};
  /// How long the session with the lock of the active ticker may be idle while queues wait for ticks. Longer than the
  /// `TickerOptions::tick_period` of your tickers. Default 60 s; 1 s to 30 days.
  std::chrono::seconds silent_ticker{60};
  /// How long connecting to one host may take, as in `ClientOptions`. Default 10 s; 0 waits as long as the operating
  /// system does; at most 30 days.
  std::chrono::seconds connect_timeout{10};
};

/// Examines a database with the permissions of the DSN's role, and reports what keeps messages from arriving. The worst
/// finding comes first, always; an empty list means that nothing was found. The database is not changed. A role
/// without `pgque_reader` sees less; the finding `limited_view` then says so. Where events seem to wait for a tick, it
/// watches for up to 3 s whether the tick comes. Any role sees these events, because PgQue lets all roles read queues'
/// sequences and events; where that was revoked, `ticker_idle_period` decides how long a missing tick is excused. While
/// a table of events is locked, the sequence alone tells.
///
/// A standby may lag behind the primary. There, nothing is compared with the present time: not the latest ticks, due
/// retries, open batches, silent workers, rotation and the clock. Diagnose the primary for these.
///
/// | code | severity | found |
/// |---|---|---|
/// | `not_installed` | error | there is no PgQue in the database |
/// | `too_old` | error | PgQue is older than 0.2 |
/// | `no_grants` | error | the role may neither send nor receive |
/// | `limited_view` | notice | the role is no `pgque_reader`, so some of this was not checked |
/// | `read_only_server` | error | a standby, or a read-only session |
/// | `unchecked_encoding` | warning | the database's encoding is SQL_ASCII, so a message may be unreadable |
/// | `unreadable_rows` | warning | a queue, consumer or role has a name that is not valid text |
/// | `listen_unavailable` | warning | notifications do not come through, as behind a pooler |
/// | `pooler` | notice | there is a pooler, and notifications came through |
/// | `no_ticker` | error | nothing makes ticks |
/// | `stranded_ticker_lock` | error | a session keeps the lock of the active ticker and is idle |
/// | `queue_not_ticked` | error | the scheduler leaves a queue out, or has stopped |
/// | `clock_went_back` | error, warning | a queue's latest tick, or its rotation, is in the future |
/// | `younger_cluster` | error | queues cannot be ticked, because the database was restored into a younger cluster |
/// | `unknown_scheduler` | notice | something other than PgQue's own scheduler or a `Ticker` makes ticks |
/// | `pooled_ticker` | notice | a `Ticker` behind a pooler makes ticks |
/// | `no_queues` | notice | there is no queue |
/// | `queue_paused` | warning | a queue's ticker is paused |
/// | `inserts_disabled` | warning | a queue takes no events |
/// | `external_ticker` | notice | a queue's ticks come from another system |
/// | `slow_ticks` | notice | a queue's `ticker_max_lag` makes messages wait |
/// | `no_consumers` | notice | no consumer is subscribed to a queue |
/// | `retries_blocked` | error | a queue that takes no events has due retries, so no queue's retries come back |
/// | `retries_waiting` | warning | retries are due and do not come back |
/// | `stuck_batch` | error | a consumer has kept a batch open for too long |
/// | `stale_subconsumer` | warning, error | a worker of a group holds a batch and sends no heartbeat |
/// | `consumer_behind` | warning | a consumer does not run, or is too slow |
/// | `slot_unsubscribed` | error | a partitioned consumer of PgQue 0.3 lacks slots, or is just being subscribed |
/// | `reserved_name` | notice, error | a consumer's name has a `#` and is no slot; an error where PgQue refuses it |
/// | `rotation_stalled` | warning | tables are not rotated, and no other finding says why |
/// | `odd_rotation_period` | warning | a queue's rotation period is above 10 years |
/// | `dead_letters_growing` | warning | messages were given up recently |
/// | `dead_letters` | notice | messages were given up |
///
/// Durations beyond 100,000 years, infinity included, are taken for 100,000 years.
///
/// Thread safety: any thread; each call makes its own connection.
/// @throws ConnectionError if it cannot connect
/// @throws Error if a query fails
/// @throws std::invalid_argument naming the option
/// SQL: reads PgQue's tables `queue`, `tick`, `subscription`, `consumer`, `retry_queue`, `dead_letter` and `config`,
/// the sequences and tables of queues' events, `pg_locks` and `pg_stat_activity`
PGQUE_EXPORT std::vector<Finding> diagnose(const Dsn& dsn, const DiagnoseOptions& options = {});

}  // namespace pgque
