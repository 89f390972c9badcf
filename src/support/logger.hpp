#pragma once

// Calls the user's log sink, one call at a time, and fills in the queue and the consumer.

#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include <pgque/error.hpp>
#include <pgque/log.hpp>

namespace pgque::detail {

class Logger {
 public:
  Logger(LogSink sink, std::string queue, std::string consumer)
      : sink_{sink ? std::move(sink) : LogSink{log_to_stderr}},
        queue_{std::move(queue)},
        consumer_{std::move(consumer)} {}

  void operator()(LogLevel level, LogEvent event, std::string_view message) { write({level, event, message}); }

  void write(LogRecord record) noexcept {
    if (record.queue.empty()) record.queue = queue_;
    record.consumer = consumer_;
    try {
      const std::lock_guard lock{mutex_};
      sink_(record);
    } catch (...) {
      // A log that fails must not stop the work it reports on.
    }
  }

  void error(LogLevel level, LogEvent event, const Error& error) {
    LogRecord record{level, event, error.what()};
    record.sqlstate = error.sqlstate();
    write(record);
  }

 private:
  std::mutex mutex_;
  LogSink sink_;
  const std::string queue_;
  const std::string consumer_;
};

}  // namespace pgque::detail
