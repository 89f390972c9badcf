#include "ticker/ticks.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <vector>

#include "database/pqxx_compat.hpp"
#include "database/sql.hpp"

namespace pgque::detail {

namespace {

using std::chrono::milliseconds;

// A tick waits for no lock, unless a queue is being dropped or a table of PgQue's altered.
constexpr TimeLimits limits_of_all{milliseconds{1'000}, milliseconds{30'000}};
// Less, because the other queues wait meanwhile.
constexpr TimeLimits limits_of_one{milliseconds{250}, milliseconds{10'000}};

}  // namespace

Ticks::Ticks(const ReconnectOptions& pauses, const Stopper& stopper, Counters& counters, Logger& logger)
    : stopper_{stopper}, counters_{counters}, logger_{logger}, together_{milliseconds{0}, pauses}, failing_{pauses} {}

bool Ticks::round(TickerSession& session) {
  const auto now = Clock::now();
  if (!failing_.empty() || !together_.due(now)) return one_by_one(session);
  try {
    const auto ticked = session.ask(sql::ticker_all, {}, {"ticker"}, limits_of_all);
    if (!ticked) return false;
    together_.done(now);
    counters_.change([&](TickerStats& stats) { stats.ticks += static_cast<std::uint64_t>(*ticked); });
    return true;
  } catch (const QueueNotFound&) {
    // The statement names no queue, so one was dropped while it ran.
  } catch (const Error& error) {
    if (concerns_ticking(error, session)) throw;
    together_.failed(Clock::now());
    report(error, {}, "; the queues are ticked one by one");
  }
  return one_by_one(session);
}

bool Ticks::one_by_one(TickerSession& session) {
  const auto listed = session.run(sql::queues_to_tick, {}, {"list the queues"}, limits_of_all);
  if (!listed) return false;
  std::vector<std::string> queues;
  for_each_row(*listed, [&](auto field) { queues.emplace_back(field->c_str()); });
  for (const auto& queue : failing_.to_tick(queues, Clock::now())) {
    if (stopper_.requested()) return true;
    try {
      const auto tick = session.ask(sql::ticker_of_queue, {queue}, {"ticker", queue}, limits_of_one);
      if (!tick) return false;
      failing_.succeeded(queue);
      if (*tick != 0) counters_.change([](TickerStats& stats) { ++stats.ticks; });
    } catch (const Error& error) {
      if (concerns_ticking(error, session)) throw;
      failing_.failed(queue, Clock::now());
      report(error, queue, "; the other queues are ticked");
    }
  }
  return true;
}

// Missing rights and functions, a server that is read-only, out of resources or going down, and a lost connection
// concern all queues.
bool Ticks::concerns_ticking(const Error& error, const TickerSession& session) const {
  if (stopper_.requested() || !session.is_open() || error.sqlstate().empty()) return true;
  static constexpr std::array<std::string_view, 5> states{"42501", "3F000", "42883", "42704", "25006"};
  const std::string_view state{error.sqlstate()};
  if (std::find(states.begin(), states.end(), state) != states.end()) return true;
  static constexpr std::array<std::string_view, 4> classes{"08", "53", "57", "58"};
  const bool cancelled = state == "57014";  // by a time limit
  return !cancelled && std::find(classes.begin(), classes.end(), state.substr(0, 2)) != classes.end();
}

void Ticks::report(const Error& error, const std::string& queue, const char* what_follows) {
  counters_.change([&](TickerStats& stats) {
    ++stats.tick_errors;
    stats.last_error = error.what();
  });
  const auto text = error.what() + std::string{what_follows};
  LogRecord record{error.retryable() ? LogLevel::warning : LogLevel::error, LogEvent::failed, text};
  record.queue = queue;
  record.sqlstate = error.sqlstate();
  logger_.write(record);
}

}  // namespace pgque::detail
