// pgque tick: the scheduler as a foreground service.

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include <pgque/signals.hpp>
#include <pgque/ticker.hpp>

#include "command.hpp"
#include "output.hpp"
#include "service_manager.hpp"

namespace pgque::tool {

namespace {

// Such as "; failed: ticks 2, retries 1"; empty if nothing failed.
std::string errors_of(const TickerStats& stats) {
  const std::pair<const char*, std::uint64_t> counts[]{
      {"ticks", stats.tick_errors},
      {"retries", stats.retry_errors},
      {"maintenance", stats.maintenance_errors},
      {"rotation", stats.rotation_errors},
      {"lowering ticker_max_lag", stats.max_lag_errors},
      {"connections", stats.connection_errors},
  };
  std::string out;
  for (const auto& [what, count] : counts) {
    if (count != 0) out += (out.empty() ? "; failed: " : ", ") + std::string{what} + ' ' + std::to_string(count);
  }
  return out;
}

}  // namespace

int tick(const Common& common, const TickOptions& options) {
  TickerOptions ticker_options;
  ticker_options.tick_period = options.period;
  ticker_options.retry_period = options.retry_period;
  ticker_options.maintenance_period = options.maintenance_period;
  ticker_options.rotation_period = options.rotation_period;
  ticker_options.standby_period = options.standby_period;
  ticker_options.ticker_max_lag = options.max_lag;
  ticker_options.pooled = options.pooled;
  // Lines for a service's log, which adds the time.
  ticker_options.log = [quiet = options.quiet, ready = false](const LogRecord& record) mutable {
    const auto least = quiet ? LogLevel::warning : LogLevel::info;
    if (record.level >= least) complain(std::string{to_string(record.level)} + ": " + text_of(record));
    const bool works = record.event == LogEvent::leader || record.event == LogEvent::standby;
    if (works && !std::exchange(ready, true)) tell_service_manager("READY=1");
    if (record.event == LogEvent::stopped) tell_service_manager("STOPPING=1");
  };
  Ticker ticker{common.dsn, ticker_options};
  stop_on_signals(ticker);
  try {
    ticker.start();
  } catch (const Error& error) {
    return status_of(error);  // the log has printed it
  }
  if (!options.quiet) {
    const auto stats = ticker.stats();
    complain("info: made " + std::to_string(stats.ticks) + " ticks, brought " + std::to_string(stats.retries) +
             " messages back, ran maintenance " + std::to_string(stats.maintenance) + " times" + errors_of(stats));
  }
  return success;
}

}  // namespace pgque::tool
