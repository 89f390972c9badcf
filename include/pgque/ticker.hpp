#pragma once

/// @file
/// The embedded scheduler: PgQue works with it instead of pg_cron.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>
#if __cplusplus >= 202002L
#include <version>
#endif
#if defined(__cpp_lib_jthread)
#include <stop_token>
#endif

#include <pgque/dsn.hpp>
#include <pgque/error.hpp>
#include <pgque/export.hpp>
#include <pgque/log.hpp>
#include <pgque/reconnect.hpp>

namespace pgque {

namespace detail {
class TickerLoop;
struct Access;
}  // namespace detail

/// How a ticker works. Wrong values make the constructor throw `std::invalid_argument`.
struct TickerOptions {
  /// How often to look for queues that are due for a tick. With more than a few seconds, messages wait that long, and
  /// `diagnose` finds queues that are not ticked; above a minute, it takes the ticker for gone, unless
  /// `DiagnoseOptions::silent_ticker` is longer. Default 100 ms; 1 ms to 30 days.
  std::chrono::milliseconds tick_period{100};
  /// How often to bring due retries back. Default 1 s; 1 ms to 30 days.
  std::chrono::milliseconds retry_period{1'000};
  /// How often to run PgQue's general maintenance. Default 30 s; 1 ms to 30 days.
  std::chrono::milliseconds maintenance_period{30'000};
  /// How often to run the second step of table rotation. Default 10 s; 1 ms to 30 days.
  std::chrono::milliseconds rotation_period{10'000};
  /// How often a ticker that is not the active one tries to become active. Default 1 s; 1 ms to 30 days.
  std::chrono::milliseconds standby_period{1'000};
  /// Lower each queue's `ticker_max_lag` to this where it is higher; checked at the start and with every maintenance.
  /// Default: do not change the queues. With PgQue's own default of 3 s a message waits about 1.5 s for its tick while
  /// there is steady traffic, however small `tick_period` is. 1 ms to 30 days.
  std::optional<std::chrono::milliseconds> ticker_max_lag{};
  /// Pauses after errors. Default: 100 ms, growing to 30 s.
  ReconnectOptions reconnect{};
  /// Asked about each error of ticking itself that a retry cannot fix, such as a missing grant. Errors of a single
  /// queue and of maintenance never end a ticker. Default: stop.
  std::function<ErrorAction(const Error&)> on_error{};
  /// Log lines and events. Called by two threads, one at a time; must not destroy the ticker. Default: warnings and
  /// errors to standard error.
  LogSink log{};
  /// How long connecting to one host may take, as in `ClientOptions`. Default 10 s; 0 waits as long as the operating
  /// system does; at most 30 days.
  std::chrono::seconds connect_timeout{10};
  /// Set to true if the DSN points to a connection pooler in transaction mode, as in `ClientOptions`. Then nothing is
  /// prepared or set for the session, and each transaction takes the advisory lock again, because a session's lock
  /// would stay with the pooler. A direct connection needs fewer statements. Default false.
  bool pooled = false;
};

/// Counters since the ticker was made.
struct TickerStats {
  std::uint64_t ticks = 0;               ///< ticks created, over all queues
  std::uint64_t retries = 0;             ///< messages brought back for another delivery
  std::uint64_t maintenance = 0;         ///< rounds of maintenance that succeeded
  std::uint64_t reconnects = 0;          ///< connections for ticking made after the first
  std::uint64_t tick_errors = 0;         ///< failed attempts to tick, all queues at once or one of them
  std::uint64_t retry_errors = 0;        ///< failed attempts to bring retries back
  std::uint64_t maintenance_errors = 0;  ///< failed rounds of maintenance, and queues that one could not rotate
  std::uint64_t rotation_errors = 0;     ///< failed attempts at the second step of rotation
  std::uint64_t max_lag_errors = 0;      ///< failed attempts to lower `ticker_max_lag`
  std::uint64_t connection_errors = 0;   ///< connections that were lost or could not be made
  bool leader = false;                   ///< whether this is the active ticker now
  std::string last_error{};              ///< what() of the latest error of any kind; empty if there was none
};

/// Calls the functions that PgQue needs called regularly: `ticker()`, `maint_retry_events()` while retries are due,
/// `maint()` and `maint_rotate_tables_step2()`, each in a separate transaction. Needs `pgque_admin`.
///
/// Ticking comes first: `start()` ticks on its own connection, and a second thread does everything else on another, so
/// nothing that waits there delays a tick. Each of these duties has its own period, waits at most 0.5 s for a lock, is
/// cancelled after 10 s (`maint()` after 60 s, unless the rotation of a queue waits for its consumer), and pauses after
/// errors on its own, for its period at least. Their errors are logged with what they mean and counted in
/// `TickerStats`, and never end the ticker. If `ticker()` fails because of a queue, the queues are ticked one by one,
/// and only that queue waits. Before `maint()`, tables are rotated queue by queue.
///
/// Any number of processes may run one for the same database: only the one that holds an advisory lock is active, and
/// another takes over when it ends or loses its connection. The lock belongs to the database session, or with `pooled`
/// to each transaction. Without `pooled`, connect directly or through a pooler in session mode: `start()` refuses a
/// pooler in transaction mode, which would keep the lock when the ticker is gone. Several tickers with `pooled` take
/// turns, and all of them count as active; they stand by while one without `pooled` is active.
///
/// **Thread safety.** `stop()`, `stop_now()` and `stats()` may be called from any thread, the first two also from a
/// signal handler. All other functions must be called from one thread.
///
/// **After `fork()`** a child process must make a new ticker. With the parent's, `stop()` and `stop_now()` do nothing,
/// every other call throws `std::logic_error`, and the destructor leaves the parent's thread and connection alone.
class PGQUE_EXPORT Ticker {
 public:
  /// Checks the options; connects only in `start()`.
  /// @throws std::invalid_argument naming the option
  explicit Ticker(Dsn dsn, TickerOptions options = {});

  /// A moved-from ticker can be destroyed; every other call but `stop()` and `stop_now()` throws `std::logic_error`.
  Ticker(Ticker&&) noexcept;
  Ticker& operator=(Ticker&&) = delete;
  /// Stops the ticker if it runs and waits until `start()` has returned. Must not be called from the log sink.
  ~Ticker();

  /// Runs until `stop()`. Can be called again after it returned. Whether the role may tick is checked with each
  /// connection, also while another ticker is active.
  /// @throws ConnectionError if the first connection fails
  /// @throws Error if `on_error` decides to stop
  /// @throws std::logic_error if it runs already
  /// @throws std::system_error when out of threads or file descriptors
  /// SQL: `pgque.ticker()`, `pgque.ticker(text)`, `pgque.maint_retry_events()`, `pgque.maint()`,
  /// `pgque.maint_rotate_tables_step1(text)`, `pgque.maint_rotate_tables_step2()`, `pgque.set_queue_config()`,
  /// `pg_try_advisory_lock(int4, int4)` or `pg_advisory_xact_lock(int4, int4)`
  void start();

#if defined(__cpp_lib_jthread)
  /// The same, until `stop()` or until a stop is requested through the token; a request that came before makes it
  /// return immediately. The token has no effect on a later `start()`. In C++20, if the standard library has
  /// `std::stop_token`.
  void start(std::stop_token token) {
    start_within([&token](const std::function<void()>& stop, const std::function<void()>& run) {
      const std::stop_callback stop_on_request{std::move(token), [&stop] { stop(); }};
      run();
    });
  }
#endif

  /// Makes `start()` return: a statement that is running is cancelled, and its connection given up a second later. A
  /// connection that is being made is waited for, for at most `connect_timeout` for each host. A call before `start()`
  /// makes the next `start()` return immediately. Further calls change nothing. Async-signal-safe.
  void stop() noexcept;

  /// The same as `stop()`: a ticker has no handlers to wait for. Async-signal-safe.
  void stop_now() noexcept;

  /// A snapshot of the counters.
  TickerStats stats() const;

 private:
  friend struct detail::Access;
  // Calls `within` around the run.
  void start_within(
      const std::function<void(const std::function<void()>& stop, const std::function<void()>& run)>& within);

  std::shared_ptr<detail::TickerLoop> loop_;
};

}  // namespace pgque
