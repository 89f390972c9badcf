#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <pgque/consumer.hpp>

#include "consumer/batch.hpp"
#include "consumer/claim.hpp"
#include "consumer/crash_guard.hpp"
#include "consumer/deferred_writes.hpp"
#include "consumer/dispatcher.hpp"
#include "consumer/failures.hpp"
#include "consumer/handlers.hpp"
#include "consumer/heartbeat.hpp"
#include "consumer/machine.hpp"
#include "consumer/tick_watch.hpp"
#include "consumer/watchdog.hpp"
#include "database/session.hpp"
#include "database/statement_guard.hpp"
#include "support/logger.hpp"
#include "support/pause.hpp"
#include "support/rate_limit.hpp"
#include "support/run_state.hpp"

namespace pgque::detail {

// The I/O around ConsumerMachine: carries out its steps and tells it how they ended.
class ConsumerLoop {
 public:
  ConsumerLoop(Dsn dsn, ConsumerOptions options);

  // The handlers, to be changed; throws std::logic_error while the consumer runs. `caller` is for the error's text.
  Handlers& handlers(const char* caller);
  void start(const RunWithin& within);
  void stop() noexcept { run_state_.stopper().stop(); }
  void stop_now() noexcept { run_state_.stopper().stop_now(); }
  void stop_on_signals() { run_state_.stop_on_signals(); }
  void pause() noexcept { pause_.pause(); }
  void resume() noexcept { pause_.resume(); }
  void shut_down() { run_state_.shut_down(); }
  const HomeProcess& home() const noexcept { return run_state_.home(); }
  ConsumerStats stats() const;

 private:
  class Run;

  // Changes the counters under their lock.
  template <class Change>
  void count(const Change& change) {
    const std::lock_guard lock{stats_mutex_};
    change(stats_);
  }

  const Dsn dsn_;
  const ConsumerOptions options_;
  SessionOptions session_options_;
  SessionOptions listen_session_options_;
  Handlers handlers_;
  Logger logger_;
  RunState run_state_;
  Pause pause_;
  mutable std::mutex stats_mutex_;
  ConsumerStats stats_;
};

// A message that has become a dead letter, if its batch is acknowledged.
struct DeadLettered {
  EventId msg_id;
  std::int32_t attempt;
  std::string type;
};

// Everything that exists only while start() runs.
class ConsumerLoop::Run {
 public:
  explicit Run(ConsumerLoop& owner);
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run();
  void operator()();

 private:
  using OnStop = StatementGuard::OnStop;

  void report_suspects();
  Outcome carry_out(const Step& step);
  Outcome connect();
  Outcome receive();
  Outcome look_ahead();
  Outcome handle();
  Outcome next_page();
  Outcome finish();
  std::optional<Outcome> write_deferred();
  void forget_deferred();
  Outcome confirm();
  Outcome settle(const Finish& finish);
  Outcome leave_lost_batch();
  Outcome refused(const Error& error);
  void decide_what_is_given_up();
  void take_nacked();
  void report_dead(bool in_doubt);
  void look_for_ticks();
  Outcome wait();
  Outcome hold();
  Outcome postpone(const Postponement& postponement);
  bool held() const;
  bool postponed() const;
  Outcome after_error(const Error& error);
  void listen();
  void take_notifications();
  void disconnect();
  bool leave_worn_out_session();
  bool cooperative() const noexcept { return !options_.subconsumer.empty(); }
  void convert();
  void report_taken_over(BatchId batch);
  bool cancelled_too_late(const Error& error);
  void abandon(const std::string& why);
  void drop_batch();
  StopLevel stop_level() const noexcept;
  void pause(std::chrono::milliseconds time);
  Batch::InTime in_time() const;
  // What a stop does to statements while connecting: a batch that is to be finished may drain.
  OnStop on_stop() const noexcept { return finishing_ ? OnStop::drain : OnStop::cancel; }
  void set_state(ConsumerState state);
  LogRecord batch_record(LogLevel level, LogEvent event, std::string_view text) const;
  std::unique_ptr<Watchdog> make_watchdog();
  // These may be called on other threads.
  void report_stuck(const RunningHandler& handler);
  void report_slow(BatchId batch);
  void report_lost(BatchId batch);

  ConsumerLoop& owner_;
  const ConsumerOptions& options_;
  Stopper& stopper_;
  Pause& pause_;
  Logger& log_;
  StatementGuard guard_;
  const std::unique_ptr<CrashGuardFile> crash_guard_;  // may be null
  Claim claim_;
  const std::unique_ptr<Watchdog> watchdog_;                  // if there is something to watch
  std::optional<HandlerSavepoint::Constraints> constraints_;  // as they were when they were asked for
  Failures failures_;
  Dispatcher dispatcher_;
  DeferredWrites deferred_writes_;
  TickWatch tick_watch_;
  std::optional<Heartbeat> heartbeat_;
  std::optional<Heartbeat::Scope> alive_;   // while there is a batch
  std::optional<Watchdog::Scope> watched_;  // while there is a batch

  std::shared_ptr<Session> session_;
  std::shared_ptr<Session> listen_session_;  // the consumer's session, a separate one, or none
  std::optional<Listener> listener_;         // destroyed before its session
  bool notified_ = false;
  RateLimit notified_polls_{std::chrono::milliseconds{33}, 10};  // those that found nothing: any client may NOTIFY
  bool ever_connected_ = false;

  std::optional<Batch> batch_;
  Stopper::Clock::time_point asked_at_{};  // when the batch was asked for
  std::vector<Message> page_;
  std::vector<Retry> retries_;  // failed messages of the batch that are not nacked yet
  std::uint64_t nacked_ = 0;    // on earlier pages
  std::vector<DeadLettered> dead_;
  std::vector<Deferred> deferred_;  // what handlers left to be written with the ack
  bool has_batch_ = false;          // it was received, and is neither finished nor abandoned
  bool large_batches_ = false;      // the last one had several pages
  bool converted_ = false;          // as ConsumerOptions::convert asks for
  bool again_ = true;               // the next batch may have been open before
  bool finishing_ = false;          // in split mode all messages are handled, so finishing can be repeated
  bool in_doubt_ = false;           // a commit that finishes the batch may have taken place
  // By a look-ahead, for this worker alone, and not received yet; also after an error.
  std::optional<BatchId> opened_;
  std::optional<Stopper::Clock::time_point> ripe_at_;  // the next tick, which is there but younger than min_lag
  std::optional<Stopper::Clock::time_point> postponed_until_;
  std::uint64_t resumes_before_ = 0;  // when it was postponed
  std::optional<bool> may_give_up_;   // the role may make dead letters; asked for once for each connection
  bool told_of_grant_ = false;
  std::optional<std::string> give_up_error_;  // why what is given up in the batch that comes again is nacked
  std::exception_ptr error_;
};

}  // namespace pgque::detail
