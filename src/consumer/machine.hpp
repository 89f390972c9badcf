#pragma once

// What a consumer does next, apart from doing it: no I/O, no clock, no threads. loop.cpp carries out the steps.

#include <chrono>
#include <cstdint>
#include <string_view>

#include <pgque/reconnect.hpp>

#include "support/backoff.hpp"
#include "support/stopper.hpp"

namespace pgque::detail {

// How the last action ended.
enum class Outcome {
  begun,              // start() was called
  connected,          // connected, listening
  messages,           // the first page, or a further one, has messages
  nothing,            // receive gave no rows: nothing there, or an empty tick window was consumed
  more_windows,       // there is another window, perhaps with messages
  drained,            // there is no other window
  page_handled,       // every message of the page has been handled or has failed
  page_interrupted,   // stop() left messages of the page unhandled
  end_of_batch,       // there are no further pages
  finished,           // nacks and ack are committed, or the ack found the batch finished already
  lost,               // another worker took the batch over
  abandoned,          // nacking was refused; the batch was not acked
  postponed,          // a handler threw NotNow; the batch was not acked
  woken,              // a notification came, poll_interval is over, or pause() was called
  resumed,            // the hold is over
  paused,             // the pause is over
  failed,             // an error; a later attempt may succeed
  connection_failed,  // no connection, or it was lost
  failed_for_good,    // an error that on_error decided to stop at
  finish_failed,      // an error while a handled batch was finished; the same may succeed later
  finish_lost,        // the same, because the connection was lost; the batch may still be this consumer's
};

enum class Action {
  connect,
  receive,     // open the next batch
  look_ahead,  // ask whether there is another window
  handle,      // call the handlers for a page
  next_page,   // in per_batch mode after nacking what failed on the last one
  finish,      // nack what failed, ack, commit
  wait,        // for a notification, for at most poll_interval
  pause,       // for Step::pause; notifications do not shorten it
  hold,        // until resume(), or until NotNow's delay is over
  confirm,     // on a new connection, whether the handled batch is still this consumer's
  stop,        // give up an unfinished batch and return
  fail,        // give up an unfinished batch and throw the last error
};

std::string_view to_string(Outcome outcome) noexcept;
std::string_view to_string(Action action) noexcept;

struct Step {
  Action action;
  std::chrono::milliseconds pause{0};  // for Action::pause
};

class ConsumerMachine {
 public:
  // `cooperative`: nobody but this worker may ever be given its batch.
  explicit ConsumerMachine(Backoff backoff, bool until_drained = false, bool cooperative = false)
      : backoff_{backoff}, until_drained_{until_drained}, cooperative_{cooperative} {}

  // `held`: after pause(), or during NotNow's delay.
  Step next(Outcome outcome, StopLevel stop, bool held = false);

 private:
  Step pause() { return {Action::pause, backoff_.next()}; }

  Backoff backoff_;
  bool until_drained_;
  bool cooperative_;
  bool ever_connected_ = false;
  bool connected_ = false;
  bool handling_ = false;   // handlers of the open batch have been called
  bool finishing_ = false;  // all of them, but the batch could not be finished yet
};

}  // namespace pgque::detail
