#pragma once

// Makes ticks: for all queues at once, and one by one for as long as that fails, so that a queue which cannot be ticked
// keeps no other from being ticked.

#include <string>

#include <pgque/error.hpp>
#include <pgque/reconnect.hpp>

#include "support/logger.hpp"
#include "support/stopper.hpp"
#include "ticker/counters.hpp"
#include "ticker/schedule.hpp"
#include "ticker/ticker_session.hpp"

namespace pgque::detail {

class Ticks {
 public:
  Ticks(const ReconnectOptions& pauses, const Stopper& stopper, Counters& counters, Logger& logger);

  // Ticks the queues that are due. False if it is another ticker's turn. Throws an error that concerns more than a
  // queue, or that comes after a stop.
  bool round(TickerSession& session);

 private:
  using Clock = Stopper::Clock;

  bool one_by_one(TickerSession& session);
  bool concerns_ticking(const Error& error, const TickerSession& session) const;
  void report(const Error& error, const std::string& queue, const char* what_follows);

  const Stopper& stopper_;
  Counters& counters_;
  Logger& logger_;
  Schedule together_;  // when all queues may be ticked at once
  FailingQueues failing_;
};

}  // namespace pgque::detail
