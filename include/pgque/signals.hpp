#pragma once

/// @file
/// Opt-in handling of SIGINT and SIGTERM. The library never touches signals unless one of these is called.

#include <pgque/export.hpp>

namespace pgque {

class Consumer;
class Ticker;

/// While `consumer` runs, SIGINT and SIGTERM call its `stop()`. Signals within a second of the first count as one,
/// because a terminal and a service manager may each send one; a later signal calls `stop_now()`. The handlers are
/// installed when `start()` begins and the previous ones restored when it returns. A signal that is ignored, as under
/// nohup, stays ignored. Several consumers and tickers may run like this at once: a signal stops all of them. If more
/// than 256 would run at a time, `start()` throws `std::runtime_error`. In a child process after `fork()` the signals
/// do what they did before `start()`. Thread safety: call it from the thread that will call `start()`, before it does.
/// @throws std::logic_error in a child process after `fork()`, if the consumer is the parent's
PGQUE_EXPORT void stop_on_signals(Consumer& consumer);
/// The same for a ticker.
PGQUE_EXPORT void stop_on_signals(Ticker& ticker);

}  // namespace pgque
