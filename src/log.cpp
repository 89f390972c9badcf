#include <pgque/log.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>

#include "support/json_string.hpp"
#include "support/text.hpp"

namespace pgque {

namespace {

// The one of the stream, which all of its sinks share.
std::shared_ptr<std::mutex> mutex_of(const std::ostream& out) {
  static std::mutex mutex;
  static std::map<const std::ostream*, std::weak_ptr<std::mutex>> mutexes;
  const std::lock_guard lock{mutex};
  for (auto one = mutexes.begin(); one != mutexes.end();) one = one->second.expired() ? mutexes.erase(one) : ++one;
  auto& known = mutexes[&out];
  auto found = known.lock();
  if (!found) known = found = std::make_shared<std::mutex>();
  return found;
}

std::string utc_now() {
  using std::chrono::microseconds;
  constexpr std::int64_t per_second = 1'000'000;
  const auto now =
      std::chrono::duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  const auto seconds = static_cast<std::time_t>(now / per_second);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  std::string out(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts));
  out += '.' + std::to_string(per_second + now % per_second).substr(1) + 'Z';
  return out;
}

class JsonLine {
 public:
  void text(const char* name, std::string_view value) {
    begin(name);
    detail::put_json_string(line_, detail::sanitized(value, std::string::npos));
  }
  void text_if_any(const char* name, std::string_view value) {
    if (!value.empty()) text(name, value);
  }
  void number(const char* name, std::int64_t value) {
    begin(name);
    line_ += std::to_string(value);
  }
  std::string finish() { return line_ + "}\n"; }

 private:
  void begin(const char* name) {
    line_ += line_.empty() ? "{\"" : ",\"";
    line_ += name;
    line_ += "\":";
  }
  std::string line_;
};

}  // namespace

std::string_view to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
      return "error";
  }
  return "unknown";
}

std::string_view to_string(LogEvent event) noexcept {
  switch (event) {
    case LogEvent::started:
      return "started";
    case LogEvent::stopped:
      return "stopped";
    case LogEvent::connected:
      return "connected";
    case LogEvent::connection_lost:
      return "connection_lost";
    case LogEvent::listen_unavailable:
      return "listen_unavailable";
    case LogEvent::batch_received:
      return "batch_received";
    case LogEvent::batch_acked:
      return "batch_acked";
    case LogEvent::batch_abandoned:
      return "batch_abandoned";
    case LogEvent::batch_lost:
      return "batch_lost";
    case LogEvent::batch_taken_over:
      return "batch_taken_over";
    case LogEvent::stale_ack:
      return "stale_ack";
    case LogEvent::handler_failed:
      return "handler_failed";
    case LogEvent::unknown_type:
      return "unknown_type";
    case LogEvent::nack_failed:
      return "nack_failed";
    case LogEvent::failed:
      return "failed";
    case LogEvent::leader:
      return "leader";
    case LogEvent::standby:
      return "standby";
    case LogEvent::batch_sent:
      return "batch_sent";
    case LogEvent::batch_refused:
      return "batch_refused";
    case LogEvent::batch_in_doubt:
      return "batch_in_doubt";
    case LogEvent::events_dropped:
      return "events_dropped";
    case LogEvent::batch_postponed:
      return "batch_postponed";
    case LogEvent::unbounded_batches:
      return "unbounded_batches";
    case LogEvent::crash_suspected:
      return "crash_suspected";
    case LogEvent::handler_stuck:
      return "handler_stuck";
    case LogEvent::slow_batch:
      return "slow_batch";
    case LogEvent::dead_lettered:
      return "dead_lettered";
    case LogEvent::give_up_refused:
      return "give_up_refused";
    case LogEvent::no_ticks:
      return "no_ticks";
    case LogEvent::key_in_group:
      return "key_in_group";
  }
  return "unknown";
}

void log_to_stderr(const LogRecord& record) {
  if (record.level < LogLevel::warning) return;
  // One write per line, so that lines of several threads do not mix.
  std::string line = "pgque ";
  line += to_string(record.level);
  line += ' ';
  line += to_string(record.event);
  const auto field = [&](const char* name, std::string_view value) {
    if (value.empty()) return;
    line += ' ';
    line += name;
    line += '=';
    line += value;
  };
  field("queue", record.queue);
  field("consumer", record.consumer);
  if (record.batch_id) field("batch", to_string(*record.batch_id));
  if (record.msg_id) field("message", to_string(*record.msg_id));
  if (record.attempt) field("attempt", std::to_string(*record.attempt));
  field("type", record.type);
  if (record.retry_in) field("retry_in", std::to_string(record.retry_in->count()) + 's');
  field("sqlstate", record.sqlstate);
  line += ": ";
  line += record.message;
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  line += '\n';
  static_cast<void>(std::fwrite(line.data(), 1, line.size(), stderr));
}

LogSink json_lines(std::ostream& out) {
  return [&out, mutex = mutex_of(out)](const LogRecord& record) {
    JsonLine line;
    line.text("time", utc_now());
    line.text("level", to_string(record.level));
    line.text("event", to_string(record.event));
    line.text("message", record.message);
    line.text_if_any("queue", record.queue);
    line.text_if_any("consumer", record.consumer);
    if (record.batch_id) line.number("batch_id", static_cast<std::int64_t>(*record.batch_id));
    if (record.msg_id) line.number("msg_id", static_cast<std::int64_t>(*record.msg_id));
    if (record.attempt) line.number("attempt", *record.attempt);
    line.text_if_any("sqlstate", record.sqlstate);
    line.text_if_any("type", record.type);
    if (record.retry_in) line.number("retry_in", record.retry_in->count());
    const auto written = line.finish();
    const std::lock_guard lock{*mutex};
    out.clear();  // a line that could not be written does not stop the later ones
    out.write(written.data(), static_cast<std::streamsize>(written.size())).flush();
  };
}

}  // namespace pgque
