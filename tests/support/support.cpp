#include "support.hpp"

#include <cstdlib>

#include <gtest/gtest.h>

namespace pgque::test {

bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  const auto deadline = Clock::now() + patience;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

void skip_outside_ci(const std::string& why) {
  if (std::getenv("CI")) FAIL() << why;
  GTEST_SKIP() << why;
}

LogSink LogCapture::sink() {
  return [this](const LogRecord& record) {
    const std::lock_guard lock{mutex_};
    lines_.push_back({record.level, record.event, std::string{record.message}, std::string{record.queue},
                      std::string{record.consumer}, record.batch_id, record.msg_id, record.attempt,
                      std::string{record.sqlstate}, std::string{record.type}, record.retry_in});
  };
}

std::vector<LogCapture::Line> LogCapture::lines() const {
  const std::lock_guard lock{mutex_};
  return lines_;
}

std::vector<LogCapture::Line> LogCapture::lines(LogEvent event) const {
  std::vector<Line> found;
  for (auto& line : lines()) {
    if (line.event == event) found.push_back(std::move(line));
  }
  return found;
}

std::string what(const std::exception_ptr& error) {
  if (!error) {
    ADD_FAILURE() << "there was no exception";
    return {};
  }
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

}  // namespace pgque::test
