#pragma once

/// @file
/// Administration: queues and their settings, the state of queues and consumers, dead letters, maintenance.

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/client.hpp>
#include <pgque/export.hpp>
#include <pgque/message.hpp>

namespace pgque {

namespace detail {
class AdminQueries;
}  // namespace detail

/// Id of a dead letter, unique within the database.
enum class DeadLetterId : std::int64_t {};

/// The id as PgQue prints it, in decimal.
PGQUE_EXPORT std::string to_string(DeadLetterId id);
/// Writes the id in decimal.
PGQUE_EXPORT std::ostream& operator<<(std::ostream& out, DeadLetterId id);

/// The settings of a queue.
enum class QueueSetting {
  ticker_max_count,    ///< default 500 events
  ticker_max_lag,      ///< default 3 s
  ticker_idle_period,  ///< default 1 min
  rotation_period,     ///< default 2 h
  max_retries,         ///< default 5
  paused,              ///< default false
  external_ticker,     ///< default false
};

/// PgQue's name of the setting, such as "ticker_max_lag"; `paused` is its "ticker_paused".
PGQUE_EXPORT std::string_view to_string(QueueSetting setting) noexcept;

/// Changes to a queue's settings. An empty member leaves its setting as it is. Durations are 1 ms to 10 years.
struct QueueSettings {
  /// A tick is due as soon as this many events have arrived since the last one. At least 1. This makes ticks come
  /// earlier; it does not limit the size of a batch.
  std::optional<std::int32_t> ticker_max_count{};
  /// A tick is due when there are new events and the last tick is at least this old. So this is the longest time that a
  /// message waits for its tick; under steady traffic the median is half of it.
  std::optional<std::chrono::milliseconds> ticker_max_lag{};
  /// A queue without new events gets a tick at least this often.
  std::optional<std::chrono::milliseconds> ticker_idle_period{};
  /// How often to switch to the next event table. Old events are removed then, if every consumer has passed them.
  std::optional<std::chrono::milliseconds> rotation_period{};
  /// How often a message is retried before it becomes a dead letter. At least 0.
  std::optional<std::int32_t> max_retries{};
  /// While this is true the queue gets no ticks, so nothing is delivered. Events can still be sent.
  std::optional<bool> paused{};
  /// Ticks come from another system; neither PgQue's own scheduler nor a `Ticker` makes any.
  std::optional<bool> external_ticker{};
  /// Settings to bring back to PgQue's default.
  std::vector<QueueSetting> reset{};
};

/// The state and settings of a queue. Times and durations here, in `ConsumerInfo`, `BatchInfo` and the dead letters are
/// exact up to 100,000 years, times counted from 1970; what is beyond, such as PostgreSQL's `infinity`, reads as that.
/// An age is negative if the server's clock went back. Numbers of events are differences of a sequence, which
/// `force_next_tick` and rolled back sends advance as well, so the true numbers may be lower.
struct QueueInfo {
  std::string queue;                                ///< its name
  std::int32_t tables = 0;                          ///< event tables, used in turn
  std::int32_t current_table = 0;                   ///< the one that new events go to, counted from 0
  std::chrono::microseconds rotation_period{0};     ///< see `QueueSettings`
  Timestamp rotated_at{};                           ///< when the current table came into use
  std::int32_t ticker_max_count = 0;                ///< see `QueueSettings`
  std::chrono::microseconds ticker_max_lag{0};      ///< see `QueueSettings`
  std::chrono::microseconds ticker_idle_period{0};  ///< see `QueueSettings`
  bool paused = false;                              ///< see `QueueSettings`
  bool external_ticker = false;                     ///< see `QueueSettings`
  bool inserts_disabled = false;                    ///< sends are refused
  /// Empty: PgQue's default, 5.
  std::optional<std::int32_t> max_retries;
  std::optional<TickId> last_tick;                      ///< the latest tick; empty for a queue without ticks
  std::optional<std::chrono::microseconds> ticker_lag;  ///< age of that tick
  std::optional<std::int64_t> new_events;               ///< events since that tick; empty if unknown: see `note`
  std::optional<double> events_per_second;              ///< over the last ticks; empty if unknown: see `note`
  /// Why a member is unknown; empty if all are known. PgQue 0.2.0 denies `get_queue_info()` to `pgque_reader`, and the
  /// function fails if a queue has an infinite time.
  std::string note;
  std::optional<Timestamp> last_tick_at;        ///< when `last_tick` was made
  std::optional<std::int64_t> last_tick_event;  ///< the number of the latest event at that tick
  std::int64_t waiting_retries = 0;             ///< messages in the retry queue, due or not
};

/// What kind of subscription it is.
enum class ConsumerRole {
  normal,
  group,        ///< a cooperative consumer, which its subconsumers share
  subconsumer,  ///< one worker of a cooperative consumer
};

/// "normal", "group" or "subconsumer".
PGQUE_EXPORT std::string_view to_string(ConsumerRole role) noexcept;

/// A subscription.
struct ConsumerInfo {
  std::string queue;  ///< the queue it reads
  /// The name as subscribed; for a subconsumer, `<group>.<subconsumer>`.
  std::string consumer;
  ConsumerRole role = ConsumerRole::normal;  ///< what kind of subscription it is
  std::string group;                         ///< for a subconsumer, the cooperative consumer it belongs to
  /// Age of the last tick that the consumer has finished. It also grows while there is nothing new to receive. Empty
  /// for an idle subconsumer.
  std::optional<std::chrono::microseconds> lag;
  /// Time since the consumer last opened or finished a batch or, for a subconsumer, sent a heartbeat.
  std::chrono::microseconds last_seen{0};
  std::optional<TickId> last_tick;       ///< the last tick that the consumer has finished
  std::optional<BatchId> current_batch;  ///< the open batch
  std::optional<TickId> next_tick;       ///< the tick that ends the open batch
  /// How long the batch has been open; for a subconsumer with a batch, the time since its last heartbeat.
  std::optional<std::chrono::microseconds> open_batch_age;
  /// Events up to the latest tick that the consumer has not finished. The true number may be lower, see `QueueInfo`.
  std::optional<std::int64_t> pending_events;
  Timestamp last_seen_at{};  ///< the time that `last_seen` counts from
  /// When `last_tick` was made. Empty for an idle subconsumer, and if PgQue keeps the tick no more.
  std::optional<Timestamp> last_tick_at;
};

/// An open batch.
struct BatchInfo {
  std::string queue;                 ///< the queue of the batch
  std::string consumer;              ///< the consumer that holds it, named as in `ConsumerInfo`
  Timestamp begin{};                 ///< when `first_tick` was made
  Timestamp end{};                   ///< when `last_tick` was made
  TickId first_tick{};               ///< the tick after which the batch begins
  TickId last_tick{};                ///< the tick with which the batch ends
  std::chrono::microseconds lag{0};  ///< age of `last_tick`
  std::int64_t events = 0;           ///< the true number may be lower, see `QueueInfo`
};

/// A message that was given up because its retries were exhausted.
struct DeadLetter {
  DeadLetterId id{};                        ///< unique within the database
  std::string queue;                        ///< the queue of the message
  std::string consumer;                     ///< the consumer that failed to handle it; for a subconsumer, the group
  Timestamp time{};                         ///< when it became a dead letter
  std::optional<std::string> reason;        ///< the reason given with the last nack; empty for SQL NULL
  EventId event_id{};                       ///< the id that it had as a message
  Timestamp created_at{};                   ///< when it was sent
  std::optional<std::int32_t> retry_count;  ///< how often it had been retried
  std::optional<std::string> type;          ///< as sent
  std::optional<std::string> payload;       ///< as sent
  std::optional<std::string> extra1;        ///< as sent
  std::optional<std::string> extra2;        ///< as sent
  std::optional<std::string> extra3;        ///< as sent
  std::optional<std::string> extra4;        ///< as sent
};

/// How many dead letters a consumer has in a queue.
struct DeadLetterCount {
  std::string queue;       ///< the queue
  std::string consumer;    ///< the consumer that failed to handle them
  std::int64_t count = 0;  ///< at least 1
  Timestamp oldest{};      ///< when the oldest became a dead letter
  Timestamp newest{};      ///< when the newest became a dead letter
};

/// What `replay_dead_letters` did.
struct ReplayResult {
  std::int64_t replayed = 0;               ///< messages sent again; they are dead letters no longer
  std::int64_t failed = 0;                 ///< dead letters that could not be sent; they stay
  std::optional<std::string> first_error;  ///< the error of the first failure
};

/// A line of `Admin::status`.
struct StatusLine {
  std::string component;  ///< such as "postgresql" or "ticker"
  std::string status;     ///< its version or state
  std::string detail;     ///< more about it, in PgQue's words
};

/// The administrative functions of PgQue. Most of them need the role `pgque_admin`, which includes the other roles; a
/// function that needs less says so. Without the grant a call throws `Error` with SQLSTATE 42501, whose text names the
/// role.
///
/// Each call is committed when it returns. Lost connections, `close()`, moving, `fork()`, and the names and text that
/// are accepted are the same as for `Client`.
///
/// **Thread safety.** One thread at a time. A call while another thread is in one throws `std::logic_error`, and the
/// other one goes on.
class PGQUE_EXPORT Admin {
 public:
  /// Connects as a `Client` does.
  /// @throws ConnectionError
  explicit Admin(const Dsn& dsn, const ClientOptions& options = {});

  /// The same as for `Client`.
  Admin(Admin&&) noexcept;
  /// The same as for `Client`.
  Admin& operator=(Admin&&) noexcept;
  /// The same as for `Client`.
  ~Admin();

  /// @name Queues. Need `pgque_admin`.
  /// @{

  /// Creates a queue unless it exists, and applies the settings in either case: all of that or, on any error, nothing.
  /// @return true if it was new
  /// @throws std::invalid_argument for a setting out of its range, before anything is created
  /// SQL: `pgque.create_queue(text)`, `pgque.set_queue_config(text, text, text)`
  bool create_queue(std::string_view queue, const QueueSettings& settings = {});

  /// Removes a queue with its events, retries and dead letters. Waits for open transactions that use it.
  /// @param with_consumers drop the queue even if consumers, normal or cooperative, are subscribed to it; otherwise the
  ///   call fails then
  /// @throws QueueNotFound
  /// SQL: `pgque.drop_queue(text, bool)`, `pgque.unregister_subconsumer(text, text, text, int4)`
  void drop_queue(std::string_view queue, bool with_consumers = false);

  /// Changes settings: all of them or, on any error, none.
  /// @throws QueueNotFound
  /// @throws std::invalid_argument naming the setting
  /// SQL: `pgque.set_queue_config(text, text, text)`
  void configure_queue(std::string_view queue, const QueueSettings& settings);

  /// @}
  /// @name Subscriptions. Need `pgque_reader`.
  /// @{

  /// Subscribes a consumer from an earlier tick, or moves a subscribed consumer there: all events after that tick are
  /// delivered, even if they were delivered before. If the consumer has an open batch, that batch is given up. Ticks go
  /// back about as far as the queue's rotation; `Client::subscribe` starts at the latest tick.
  /// @return true if it was new
  /// @throws QueueNotFound
  /// @throws Error if the queue has no such tick
  /// SQL: `pgque.register_consumer_at(text, text, int8)`
  bool subscribe_at(std::string_view queue, std::string_view consumer, TickId tick);
  /// The same from a time: the consumer is delivered each event that was created then or later, and events of the tick
  /// window in which the time is that may be older. A time before the oldest tick that is kept starts at that tick, so
  /// that what was before it is not delivered; a time after the latest tick starts at that.
  /// @throws QueueNotFound
  /// SQL: `pgque.register_consumer_at(text, text, int8)`, and the tables `tick` and those of the queue's events
  bool subscribe_at(std::string_view queue, std::string_view consumer, Timestamp time);

  /// @}
  /// @name Information. Needs `pgque_reader`.
  /// @{

  /// All queues, ordered by name. If PgQue denies `get_queue_info()` to a reader, as 0.2.0 does, or if it fails at a
  /// value that is out of range, the members that need it are empty, and `QueueInfo::note` says so.
  /// SQL: `pgque.get_queue_info()`, and the tables `tick` and `retry_queue`
  std::vector<QueueInfo> queues();
  /// One queue.
  /// @throws QueueNotFound
  /// SQL: `pgque.get_queue_info()`
  QueueInfo queue(std::string_view queue);

  /// All subscriptions, ordered by queue and name.
  /// SQL: `pgque.get_consumer_info()`, and the tables `subscription`, `consumer` and `tick` for the rest; if it fails
  /// at a value that is out of range, the tables `subscription` and `tick` instead
  std::vector<ConsumerInfo> consumers();
  /// The subscriptions of one queue.
  /// @throws QueueNotFound
  /// SQL: `pgque.get_consumer_info()`
  std::vector<ConsumerInfo> consumers(std::string_view queue);
  /// One subscription.
  /// @throws ConsumerNotFound also if the queue does not exist
  /// SQL: `pgque.get_consumer_info()`
  ConsumerInfo consumer(std::string_view queue, std::string_view consumer);

  /// How many events of each queue no tick has yet, so that no consumer can receive them; retries that have come back
  /// are among them. The numbers are exact up to 10,000; the true number may be lower above. A queue whose events the
  /// role may not read is left out; PgQue lets every role read them. SQL: reads the tables `queue` and `tick`, and
  /// those of the queues' events
  std::map<std::string, std::int64_t> unticked_events();

  /// The workers of cooperative consumers that are gone, as far as the database can tell, those silent for the longest
  /// first. Gone is a worker
  /// - that has given no sign of life for `older_than`. A running one gives it at each `poll_interval`, and while its
  ///   handlers run at least every 10 s; one that pauses, or whose handler is stuck, gives none.
  /// - for which no session of this database is named. A worker of this library names its sessions after itself, unless
  ///   it is given an `application_name`; behind a pooler in transaction mode, sessions tell nothing.
  ///
  /// So `older_than` has to be longer than the longest `poll_interval` and, where sessions tell nothing, than the
  /// longest pause.
  /// @param older_than 1 min to 100 years
  /// @throws std::invalid_argument if `older_than` is out of range
  /// SQL: reads the tables `queue`, `consumer` and `subscription`, and `pg_stat_activity`
  std::vector<ConsumerInfo> gone_subconsumers(std::chrono::seconds older_than);

  /// Removes such a worker, after a look whether all that is still true of it, with its group locked, so that it cannot
  /// receive meanwhile. (A heartbeat that comes in this very moment does not save it; its batch then goes to the
  /// group.) The messages of its open batch are put up for retry: the group gets them again after a minute, and those
  /// without retries left become dead letters. The last worker of a group stays, because PgQue makes a normal consumer
  /// of a group without workers.
  /// @return true if it was removed
  /// @throws std::invalid_argument if `older_than` is out of range
  /// SQL: `pgque.unsubscribe_subconsumer(text, text, text, int4)`
  bool unsubscribe_gone(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                        std::chrono::seconds older_than);

  /// An open batch; empty if there is no open batch with this id.
  /// SQL: `pgque.get_batch_info(int8)`
  std::optional<BatchInfo> batch(BatchId batch);

  /// The version of PgQue, such as "0.2.0".
  /// SQL: `pgque.version()`
  std::string server_version();

  /// PgQue's report on itself, its scheduler and its ticker. Needs `pgque_admin`.
  /// SQL: `pgque.status()`
  std::vector<StatusLine> status();

  /// @}
  /// @name Dead letters.
  /// @{

  /// The newest dead letters of a queue, the newest first. Needs `pgque_reader`.
  /// @param limit at least 1
  /// @throws QueueNotFound
  /// @throws std::invalid_argument if `limit` is less than 1
  /// SQL: `pgque.dlq_inspect(text, int4)`
  std::vector<DeadLetter> dead_letters(std::string_view queue, std::int32_t limit = 100);

  /// Calls `visit` for each dead letter of a queue, the newest first, until it returns false. Only a few are in memory
  /// at once: they are read from a cursor, which shows them as they were when this was called. `visit` may call any
  /// other function of this object, but not this one. Needs `pgque_reader`, and a direct connection or a pooler in
  /// session mode.
  /// @throws QueueNotFound
  /// SQL: `pgque.dlq_inspect(text, int4)`
  void for_each_dead_letter(std::string_view queue, const std::function<bool(const DeadLetter&)>& visit);

  /// Counts the dead letters of each queue and consumer. Needs `pgque_reader`.
  /// SQL: reads the table `pgque.dead_letter`
  std::vector<DeadLetterCount> count_dead_letters();

  /// Sends the message again, with a new id and no retry count, and removes the dead letter. Needs `pgque_writer`.
  ///
  /// **Every consumer of the queue receives it**, including those that have handled it already: PgQue has no other way.
  /// If only the consumer that failed may see it, take the payload from `dead_letters()` and handle it directly.
  /// @return the new event, or empty if there is no such dead letter (any more). If this library replays one dead
  ///   letter twice at the same time, only one of the calls sends it.
  /// SQL: `pgque.dlq_replay(int8)`
  std::optional<EventId> replay_dead_letter(DeadLetterId id);

  /// The same for all dead letters of a queue; those that cannot be sent stay. Needs `pgque_writer`. **Every consumer
  /// of the queue receives them**, see `replay_dead_letter`.
  /// @throws QueueNotFound
  /// SQL: `pgque.dlq_replay_all(text)`
  ReplayResult replay_dead_letters(std::string_view queue);

  /// Deletes the dead letters of a queue that are older than `older_than`. Needs `pgque_admin`.
  /// @param older_than at least 0, at most 100 years
  /// @return how many were deleted
  /// @throws QueueNotFound
  /// @throws std::invalid_argument if `older_than` is out of range
  /// SQL: `pgque.dlq_purge(text, interval)`
  std::int64_t purge_dead_letters(std::string_view queue, std::chrono::seconds older_than);

  /// @}
  /// @name Maintenance. Needs `pgque_admin`. `Ticker` does all of this regularly.
  /// @{

  /// Brings back all due retries of all queues. They are delivered after the next tick.
  /// @return how many came back
  /// SQL: `pgque.maint_retry_events()`, which moves ten at a time, until it returns 0
  std::int64_t bring_retries_back();

  /// General maintenance: takes the first step of table rotation for each queue where it is due.
  /// SQL: `pgque.maint()`
  void maintain();

  /// Takes the second step of table rotation. Until that is done, the first step is not taken again.
  /// SQL: `pgque.maint_rotate_tables_step2()`
  void finish_rotation();

  /// Sets how often PgQue's own scheduler ticks, in pg_cron or pg_timetable. A `Ticker` has its own period.
  /// @param period a divisor of 1000 ms
  /// @throws std::invalid_argument if `period` is no such divisor
  /// SQL: `pgque.set_tick_period_ms(int4)`
  void set_tick_period(std::chrono::milliseconds period);
  /// How often PgQue's own scheduler ticks. Needs `pgque_reader`.
  /// SQL: reads the table `pgque.config`
  std::chrono::milliseconds tick_period();

  /// @}

  /// The same as for `Client`.
  void close() noexcept;
  /// The same as for `Client`.
  bool is_open() const noexcept;

 private:
  detail::AdminQueries& queries() const;

  std::unique_ptr<detail::AdminQueries> queries_;
};

}  // namespace pgque
