// pgque tick: the scheduler as a foreground service.

#include <cstdio>
#include <string>

#include <pgque/signals.hpp>
#include <pgque/ticker.hpp>

#include "command.hpp"
#include "output.hpp"

namespace pgque::tool {

int tick(const Common& common, const TickOptions& options) {
  TickerOptions ticker_options;
  ticker_options.tick_period = options.period;
  ticker_options.retry_period = options.retry_period;
  ticker_options.maintenance_period = options.maintenance_period;
  ticker_options.rotation_period = options.rotation_period;
  ticker_options.standby_period = options.standby_period;
  ticker_options.ticker_max_lag = options.max_lag;
  // Lines for a service's log, which adds the time.
  ticker_options.log = [quiet = options.quiet](const LogRecord& record) {
    if (record.level < (quiet ? LogLevel::warning : LogLevel::info)) return;
    auto line = std::string{to_string(record.level)} + ": ";
    line.append(record.message);
    complain(line);
  };
  Ticker ticker{common.dsn, ticker_options};
  stop_on_signals(ticker);
  ticker.start();
  if (!options.quiet) {
    const auto stats = ticker.stats();
    complain("info: made " + std::to_string(stats.ticks) + " ticks, brought " + std::to_string(stats.retries) +
             " messages back, ran maintenance " + std::to_string(stats.maintenance) + " times");
  }
  return success;
}

}  // namespace pgque::tool
