#include <pgque/log.hpp>

#include <cstdio>
#include <string>

namespace pgque {

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

}  // namespace pgque
