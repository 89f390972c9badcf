#pragma once

/// @file
/// Administration: queues and their settings, what queues and consumers are at, dead letters, maintenance.

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
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

/// The settings a queue has.
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

/// Changes to a queue's settings. What is empty stays as it is. Durations are 1 ms to 10 years.
struct QueueSettings {
  /// A tick is due once so many events have come. At least 1. It makes ticks earlier, it does not limit batches.
  std::optional<std::int32_t> ticker_max_count{};
  /// A tick is due once events have come and the last tick is so long ago. This is what a message waits for at most,
  /// and half of it in the median under steady traffic.
  std::optional<std::chrono::milliseconds> ticker_max_lag{};
  /// A queue without events gets a tick so often at least.
  std::optional<std::chrono::milliseconds> ticker_idle_period{};
  /// How often to change to the next event table. What was there is then removed, once every consumer has passed it.
  std::optional<std::chrono::milliseconds> rotation_period{};
  /// How often a message is retried before it becomes a dead letter. At least 0.
  std::optional<std::int32_t> max_retries{};
  /// No ticks, so nothing is delivered, while this is true. Events can be sent all the same.
  std::optional<bool> paused{};
  /// Ticks come from another system; no ticker here makes any.
  std::optional<bool> external_ticker{};
  /// What goes back to PgQue's default.
  std::vector<QueueSetting> reset{};
};

/// A queue. Numbers of events are differences of a sequence that `force_next_tick` and rolled back sends also move, so
/// they are estimates from above.
struct QueueInfo {
  std::string queue;                                ///< its name
  std::int32_t tables = 0;                          ///< event tables, used in turn
  std::int32_t current_table = 0;                   ///< the one that events go to, from 0
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
  std::optional<std::chrono::microseconds> ticker_lag;  ///< its age
  std::optional<std::int64_t> new_events;               ///< events since then; empty when not known: see `note`
  std::optional<double> events_per_second;              ///< over the last ticks; empty when not known: see `note`
  /// Why something is not known; empty when all is. PgQue 0.2.0 denies `get_queue_info()` to `pgque_reader`.
  std::string note;
};

/// What kind of subscription it is.
enum class ConsumerRole {
  normal,
  group,        ///< a cooperative consumer, which its subconsumers share
  subconsumer,  ///< one worker of it
};

/// "normal", "group" or "subconsumer".
PGQUE_EXPORT std::string_view to_string(ConsumerRole role) noexcept;

/// A subscription.
struct ConsumerInfo {
  std::string queue;  ///< the queue it reads
  /// The name as subscribed; of a subconsumer `<group>.<subconsumer>`.
  std::string consumer;
  ConsumerRole role = ConsumerRole::normal;  ///< what kind of subscription it is
  std::string group;                         ///< for a subconsumer, the cooperative consumer it belongs to
  /// Age of the last tick it has finished; grows while the queue has nothing for it, too. Empty for an idle
  /// subconsumer.
  std::optional<std::chrono::microseconds> lag;
  /// Time since it last opened or finished a batch or, for a subconsumer, gave a sign of life.
  std::chrono::microseconds last_seen{0};
  std::optional<TickId> last_tick;       ///< the last tick it has finished
  std::optional<BatchId> current_batch;  ///< the open batch
  std::optional<TickId> next_tick;       ///< where the open batch ends
  /// How long the batch has been open; for a subconsumer, how long it has given no sign of life while holding one.
  std::optional<std::chrono::microseconds> open_batch_age;
  /// Events up to the latest tick that it has not finished: an estimate from above, see `QueueInfo`.
  std::optional<std::int64_t> pending_events;
};

/// An open batch.
struct BatchInfo {
  std::string queue;                 ///< the queue it is from
  std::string consumer;              ///< who holds it, as in `ConsumerInfo`
  Timestamp begin{};                 ///< when the tick was made that it begins after
  Timestamp end{};                   ///< when the tick was made that it ends with
  TickId first_tick{};               ///< the tick that it begins after
  TickId last_tick{};                ///< the tick that it ends with
  std::chrono::microseconds lag{0};  ///< age of the tick that it ends with
  std::int64_t events = 0;           ///< an estimate from above, see `QueueInfo`
};

/// A message that was given up: its retries were exhausted.
struct DeadLetter {
  DeadLetterId id{};                        ///< unique within the database
  std::string queue;                        ///< where the message was
  std::string consumer;                     ///< whose retries were exhausted; for a subconsumer, the group
  Timestamp time{};                         ///< when it was given up
  std::optional<std::string> reason;        ///< of the last nack; empty for SQL NULL
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
  std::string consumer;    ///< whose retries were exhausted
  std::int64_t count = 0;  ///< at least 1
  Timestamp oldest{};      ///< when the first of them was given up
  Timestamp newest{};      ///< when the last of them was given up
};

/// What `replay_dead_letters` did.
struct ReplayResult {
  std::int64_t replayed = 0;               ///< sent again, and dead letters no longer
  std::int64_t failed = 0;                 ///< could not be sent, and stay
  std::optional<std::string> first_error;  ///< why the first of those could not
};

/// A line of `Admin::status`.
struct StatusLine {
  std::string component;  ///< such as "postgresql" or "ticker"
  std::string status;     ///< its version or state
  std::string detail;     ///< more about it, in PgQue's words
};

/// Everything PgQue has beside sending and consuming. Most of it needs `pgque_admin`, which includes the other roles;
/// what needs less says so. Without the grant a call throws `Error` with SQLSTATE 42501, which names the role.
///
/// Each call is committed when it returns. A lost connection, `close()` and being moved from are as with `Client`, and
/// so are the names and text that are accepted.
///
/// **Thread safety.** One thread at a time.
class PGQUE_EXPORT Admin {
 public:
  /// Connects as a `Client` does.
  /// @throws ConnectionError
  explicit Admin(std::string_view dsn, const ClientOptions& options = {});

  /// As with `Client`.
  Admin(Admin&&) noexcept;
  /// As with `Client`.
  Admin& operator=(Admin&&) noexcept;
  /// As with `Client`.
  ~Admin();

  /// @name Queues. Need `pgque_admin`.
  /// @{

  /// Creates a queue, or finds that it exists; then applies the settings in either case.
  /// @return true if it was new
  /// @throws std::invalid_argument for a setting out of its range, before anything is created
  /// SQL: `pgque.create_queue(text)`, `pgque.set_queue_config(text, text, text)`
  bool create_queue(std::string_view queue, const QueueSettings& settings = {});

  /// Removes a queue with its events, retries and dead letters. Waits for open transactions that use it.
  /// @param with_consumers also if consumers are subscribed to it, cooperative ones included; otherwise they make it
  ///   fail
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

  /// Subscribes a consumer from a tick of the past, or moves a subscribed one there: what came after that tick is
  /// delivered, again where it was delivered before. A batch it has open is given up. Ticks go back about as far as
  /// the queue's rotation; `Client::subscribe` starts at the latest.
  /// @return true if it was new
  /// @throws QueueNotFound
  /// @throws Error if the queue has no such tick
  /// SQL: `pgque.register_consumer_at(text, text, int8)`
  bool subscribe_at(std::string_view queue, std::string_view consumer, TickId tick);

  /// @}
  /// @name Information. Needs `pgque_reader`.
  /// @{

  /// All queues, by name. Where PgQue denies `get_queue_info()` to a reader (0.2.0 does), what can be read without it
  /// is returned, and `QueueInfo::note` says so.
  /// SQL: `pgque.get_queue_info()`
  std::vector<QueueInfo> queues();
  /// One queue.
  /// @throws QueueNotFound
  /// SQL: `pgque.get_queue_info()`
  QueueInfo queue(std::string_view queue);

  /// All subscriptions, by queue and name.
  /// SQL: `pgque.get_consumer_info()`, and the tables `subscription` and `consumer` for roles and groups
  std::vector<ConsumerInfo> consumers();
  /// Those of one queue.
  /// @throws QueueNotFound
  /// SQL: `pgque.get_consumer_info()`
  std::vector<ConsumerInfo> consumers(std::string_view queue);
  /// One subscription.
  /// @throws ConsumerNotFound also if the queue does not exist
  /// SQL: `pgque.get_consumer_info()`
  ConsumerInfo consumer(std::string_view queue, std::string_view consumer);

  /// An open batch; empty if it is not open.
  /// SQL: `pgque.get_batch_info(int8)`
  std::optional<BatchInfo> batch(BatchId batch);

  /// The version of PgQue, such as "0.2.0".
  /// SQL: `pgque.version()`
  std::string server_version();

  /// What PgQue says of itself, its scheduler and its ticker. Needs `pgque_admin`.
  /// SQL: `pgque.status()`
  std::vector<StatusLine> status();

  /// @}
  /// @name Dead letters.
  /// @{

  /// The newest dead letters of a queue, the newest first. Needs `pgque_reader`.
  /// @param limit at least 1
  /// @throws QueueNotFound
  /// @throws std::invalid_argument if `limit` is less
  /// SQL: `pgque.dlq_inspect(text, int4)`
  std::vector<DeadLetter> dead_letters(std::string_view queue, std::int32_t limit = 100);

  /// Calls `visit` for each dead letter of a queue, the newest first, until it returns false. Few of them are in
  /// memory at once: they are read from a cursor, as they were when this was called. Other calls of this object may be
  /// made meanwhile, except this one. Needs `pgque_reader`, and a direct connection or a pooler in session mode.
  /// @throws QueueNotFound
  /// SQL: `pgque.dlq_inspect(text, int4)`
  void for_each_dead_letter(std::string_view queue, const std::function<bool(const DeadLetter&)>& visit);

  /// Counts them per queue and consumer. Needs `pgque_reader`.
  /// SQL: reads the table `pgque.dead_letter`
  std::vector<DeadLetterCount> count_dead_letters();

  /// Sends the message anew, with a new id and no retry count, and removes the dead letter. Needs `pgque_writer`.
  ///
  /// **Every consumer of the queue receives it**, also those that have handled it already: PgQue knows no other way.
  /// Where only the one that failed may see it, handle the payload from `dead_letters()` instead.
  /// @return the new event, or empty if there is no such dead letter (any more). Of two replays through this library
  ///   at the same time one gets it.
  /// SQL: `pgque.dlq_replay(int8)`
  std::optional<EventId> replay_dead_letter(DeadLetterId id);

  /// The same for all dead letters of a queue; those that fail stay. Needs `pgque_writer`. **Every consumer of the
  /// queue receives them**, see `replay_dead_letter`.
  /// @throws QueueNotFound
  /// SQL: `pgque.dlq_replay_all(text)`
  ReplayResult replay_dead_letters(std::string_view queue);

  /// Deletes the dead letters of a queue that were given up longer ago. Needs `pgque_admin`.
  /// @param older_than at least 0, at most 100 years
  /// @return how many
  /// @throws QueueNotFound
  /// @throws std::invalid_argument if `older_than` is out of range
  /// SQL: `pgque.dlq_purge(text, interval)`
  std::int64_t purge_dead_letters(std::string_view queue, std::chrono::seconds older_than);

  /// @}
  /// @name Maintenance. Needs `pgque_admin`. `Ticker` does all of this regularly.
  /// @{

  /// Brings all due retries back, of all queues. They are delivered after the next tick that follows.
  /// @return how many
  /// SQL: `pgque.maint_retry_events()`, which moves ten at a time, until it returns 0
  std::int64_t bring_retries_back();

  /// General maintenance: the first step of table rotation where it is due.
  /// SQL: `pgque.maint()`
  void maintain();

  /// The second step of table rotation, without which the first is not taken again.
  /// SQL: `pgque.maint_rotate_tables_step2()`
  void finish_rotation();

  /// How often PgQue's own scheduler ticks (pg_cron and pg_timetable; a `Ticker` has its own period).
  /// @param period a divisor of 1000 ms
  /// @throws std::invalid_argument if it is none
  /// SQL: `pgque.set_tick_period_ms(int4)`
  void set_tick_period(std::chrono::milliseconds period);
  /// What it is. Needs `pgque_reader`.
  /// SQL: reads the table `pgque.config`
  std::chrono::milliseconds tick_period();

  /// @}

  /// As with `Client`.
  void close() noexcept;
  /// As with `Client`.
  bool is_open() const noexcept;

 private:
  detail::AdminQueries& queries() const;

  std::unique_ptr<detail::AdminQueries> queries_;
};

}  // namespace pgque
