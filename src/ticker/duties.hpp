#pragma once

// What a ticker does besides ticking: maintenance, rotation and retries. It has a session and a thread for that, so
// nothing that a duty waits for delays a tick, and no error of a duty ends the ticker.

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <pgque/error.hpp>
#include <pgque/ticker.hpp>

#include "database/session_options.hpp"
#include "database/statement_guard.hpp"
#include "support/logger.hpp"
#include "support/stopper.hpp"
#include "ticker/counters.hpp"
#include "ticker/schedule.hpp"
#include "ticker/ticker_session.hpp"

namespace pgque::detail {

class Duties {
 public:
  Duties(Dsn dsn, const TickerOptions& options, const Stopper& stopper, Counters& counters, Logger& logger);
  Duties(const Duties&) = delete;
  Duties& operator=(const Duties&) = delete;
  // Ends the statement that is running.
  ~Duties();

  // Begins the work, or lets it end after the statement that is running. Never waits for it.
  void lead(bool leading);

 private:
  using Clock = Stopper::Clock;

  enum class Outcome {
    done,
    unfinished,  // the limit of time was reached
    postponed,   // another ticker has the turn
  };

  struct Duty {
    Outcome (Duties::*round)();
    // What an error means.
    const char* while_it_fails;
    std::uint64_t TickerStats::*errors;
    Schedule schedule;
  };

  void run();
  Clock::time_point next() const;
  // Each duty that is due has one round.
  void work();
  void connect();
  void perform(Duty& duty);
  void failed(Duty& duty, const Error& error);
  void log(const Error& error, const std::string& what_follows, const std::string& queue = {});
  bool interrupted();

  Outcome lower_max_lag();
  Outcome maintain();
  std::optional<std::vector<std::string>> queues_to_rotate();
  void rotate_one_by_one(const std::vector<std::string>& queues);
  Outcome rotate();
  Outcome bring_retries_back();
  std::string queues_that_refuse_retries();

  const Dsn dsn_;
  const TickerOptions& options_;
  const SessionOptions session_options_;
  const Stopper& stopper_;
  Counters& counters_;
  Logger& logger_;
  StatementGuard guard_;
  std::vector<Duty> duties_;
  Schedule connecting_;
  std::optional<TickerSession> session_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool leading_ = false;
  bool quit_ = false;
  std::thread thread_;
};

}  // namespace pgque::detail
