#pragma once

// The log of a consumer or a ticker on standard error.

#include <mutex>
#include <string>

#include <pgque/error.hpp>
#include <pgque/log.hpp>

#include "output.hpp"

namespace pgque::tool {

// An error that ends a loop is logged and then thrown; it is to be printed once.
class LogLines {
 public:
  void print(const std::string& prefix, const LogRecord& record) {
    std::string text{record.message};
    complain(prefix + text);
    if (record.event != LogEvent::failed && record.event != LogEvent::connection_lost) return;
    const std::lock_guard lock{mutex_};
    last_error_ = std::move(text);
  }
  bool has_printed(const Error& error) const {
    const std::lock_guard lock{mutex_};
    return last_error_ == error.what();
  }

 private:
  mutable std::mutex mutex_;
  std::string last_error_;
};

}  // namespace pgque::tool
