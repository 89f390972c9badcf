#pragma once

/// @file
/// Opt-in handling of SIGINT and SIGTERM. The library never touches signals unless one of these is called.

#include <pgque/export.hpp>

namespace pgque {

class Consumer;
class Ticker;

/// While `consumer` runs, SIGINT and SIGTERM call its `stop()`. The handlers are installed when `start()` begins and
/// the previous ones restored when it returns. A signal that is ignored, as under nohup, stays ignored. Several
/// consumers and tickers may run like this at once: a signal stops all of them. If more than 256 would run at a time,
/// `start()` throws `std::runtime_error`. Thread safety: call it from the thread that will call `start()`, before it
/// does.
PGQUE_EXPORT void stop_on_signals(Consumer& consumer);
/// The same for a ticker.
PGQUE_EXPORT void stop_on_signals(Ticker& ticker);

}  // namespace pgque
