#pragma once

/// @file
/// Why do my messages not arrive?

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/export.hpp>

namespace pgque {

/// How bad a finding is.
enum class Severity {
  notice,   ///< works as it is set up, which may not be what is wanted
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
  /// What mends it: the SQL statement, where there is one.
  std::string remedy;
};

/// What counts as too long. Wrong values make `diagnose` throw `std::invalid_argument`.
struct DiagnoseOptions {
  /// How long a consumer may keep a batch open, a worker be silent while holding one, or a consumer be behind the
  /// latest tick. Default 10 min; 1 s to 30 days.
  std::chrono::seconds stuck_after{600};
  /// Dead letters younger than this are a warning, older ones a notice. Default 1 h; 1 s to 30 days.
  std::chrono::seconds recent{3600};
  /// Expect messages to wait when a queue's `ticker_max_lag` is above this. Default 1 s; 1 ms to 30 days.
  std::chrono::milliseconds slow_tick{1000};
  /// How long connecting to one host may take, as in `ClientOptions`. Default 10 s; 0 waits as long as the operating
  /// system does; at most 30 days.
  std::chrono::seconds connect_timeout{10};
};

/// Looks at a database as the DSN's role sees it, and says what keeps messages from arriving; the worst comes first,
/// and an empty list means that nothing was found. Changes nothing. A role that may do less sees less, and is told so
/// by `limited_view`.
///
/// | code | severity | found |
/// |---|---|---|
/// | `not_installed` | error | there is no PgQue in the database |
/// | `too_old` | error | PgQue is older than 0.2 |
/// | `no_grants` | error | the role may neither send nor receive |
/// | `limited_view` | notice | the role is no `pgque_reader`, so some of this was not looked at |
/// | `read_only_server` | error | a standby, or a read-only session |
/// | `listen_unavailable` | warning | notifications do not come through, as behind a pooler |
/// | `pooler` | notice | there is a pooler, and notifications came through |
/// | `no_ticker` | error | nobody ticks |
/// | `queue_not_ticked` | error | the scheduler leaves a queue out, or has stopped |
/// | `unknown_scheduler` | notice | ticks come, but neither from PgQue's own scheduler nor from a `Ticker` |
/// | `no_queues` | notice | there is no queue |
/// | `queue_paused` | warning | a queue's ticker is paused |
/// | `inserts_disabled` | warning | a queue takes no events |
/// | `external_ticker` | notice | a queue's ticks come from elsewhere |
/// | `slow_ticks` | notice | a queue's `ticker_max_lag` makes messages wait |
/// | `no_consumers` | notice | nobody is subscribed to a queue |
/// | `retries_waiting` | warning | retries are due and do not come back |
/// | `stuck_batch` | error | a consumer has kept a batch open for too long |
/// | `stale_subconsumer` | error | a worker of a group holds a batch and is silent |
/// | `consumer_behind` | warning | a consumer does not run, or is too slow |
/// | `rotation_stalled` | warning | tables are not rotated, for no other reason found |
/// | `dead_letters_growing` | warning | messages were given up recently |
/// | `dead_letters` | notice | messages were given up |
///
/// Thread safety: any thread; it has a connection of its own.
/// @throws ConnectionError if it cannot connect
/// @throws Error if looking failed
/// @throws std::invalid_argument naming the option
/// SQL: reads PgQue's tables `queue`, `tick`, `subscription`, `consumer`, `retry_queue`, `dead_letter` and `config`
PGQUE_EXPORT std::vector<Finding> diagnose(std::string_view dsn, const DiagnoseOptions& options = {});

}  // namespace pgque
