#pragma once

// A run of a consumer with a time limit, of which everything logged is kept.

#include <chrono>
#include <mutex>
#include <vector>

#include <pgque/consumer.hpp>
#include <pgque/testing.hpp>

namespace pgque::detail {

class RecordedRun {
 public:
  // Puts itself before the sink of the options, for which it must outlive the consumer.
  RecordedRun(ConsumerOptions& options, std::chrono::milliseconds limit);
  RecordedRun(const RecordedRun&) = delete;
  RecordedRun& operator=(const RecordedRun&) = delete;

  // False if it was stopped because the time was over.
  bool start(Consumer& consumer) const;
  testing::Run result(const ConsumerStats& stats) const;

 private:
  void keep(const LogRecord& record);

  const std::chrono::milliseconds limit_;
  mutable std::mutex mutex_;
  std::vector<testing::LogLine> lines_;
};

[[noreturn]] void throw_not_drained(testing::Run run, std::chrono::milliseconds limit);

}  // namespace pgque::detail
