#include "testing/recorded_run.hpp"

#include <condition_variable>
#include <string>
#include <thread>
#include <utility>

#include "support/in_words.hpp"

namespace pgque::detail {

namespace {

// Stops the consumer when the time is over.
class TimeLimit {
 public:
  TimeLimit(Consumer& consumer, std::chrono::milliseconds limit)
      : until_{std::chrono::steady_clock::now() + limit}, thread_{[this, &consumer] { watch(consumer); }} {}
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;
  ~TimeLimit() { end(); }

  // Whether the time was over before.
  bool end() {
    {
      const std::lock_guard lock{mutex_};
      ended_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
    return over_;
  }

 private:
  void watch(Consumer& consumer) {
    std::unique_lock lock{mutex_};
    over_ = !changed_.wait_until(lock, until_, [this] { return ended_; });
    if (over_) consumer.stop_now();
  }

  const std::chrono::steady_clock::time_point until_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace

RecordedRun::RecordedRun(ConsumerOptions& options, std::chrono::milliseconds limit) : limit_{limit} {
  // Nothing else tells about a handler that does not return.
  if (!options.handler_timeout) options.handler_timeout = limit;
  options.log = [this, log = std::move(options.log)](const LogRecord& record) {
    keep(record);
    if (log) {
      log(record);
    } else if (record.event == LogEvent::handler_stuck) {
      log_to_stderr(record);
    }
  };
}

void RecordedRun::keep(const LogRecord& record) {
  const std::lock_guard lock{mutex_};
  lines_.push_back({record.level, record.event, std::string{record.message}, record.msg_id, record.attempt});
}

bool RecordedRun::start(Consumer& consumer) const {
  TimeLimit limit{consumer, limit_};
  consumer.start();
  return !limit.end();
}

testing::Run RecordedRun::result(const ConsumerStats& stats) const {
  const auto number = [](std::uint64_t count) { return static_cast<std::int64_t>(count); };
  testing::Run run;
  run.handled = number(stats.messages);
  run.failed = number(stats.failures);
  run.unknown = number(stats.unknown);
  run.retried = number(stats.retries);
  run.batches = number(stats.batches);
  run.postponed = number(stats.postponed);
  run.abandoned = number(stats.abandoned);
  const std::lock_guard lock{mutex_};
  run.log = lines_;
  return run;
}

void throw_not_drained(testing::Run run, std::chrono::milliseconds limit) {
  auto text = "pgque::testing: after " + in_words(limit) +
              " the consumer still had something to receive: " + std::to_string(run.handled) +
              " messages were handled, " + std::to_string(run.failed) + " failed, " + std::to_string(run.postponed) +
              " batches were postponed and " + std::to_string(run.abandoned) + " abandoned";
  for (auto line = run.log.rbegin(); line != run.log.rend(); ++line) {
    if (line->level < LogLevel::warning) continue;
    text += "; its last warning: " + line->message;
    break;
  }
  throw testing::NotDrained{text, std::move(run)};
}

}  // namespace pgque::detail
