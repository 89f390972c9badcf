// pgque metrics: the metrics in Prometheus' text format.

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command.hpp"
#include "output.hpp"

namespace pgque::tool {

namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

// The samples of one metric stand together, below its description.
class Exposition {
 public:
  // By Prometheus' convention, the name of a counter ends with "_total", and no other name does.
  void describe(const std::string& name, const std::string& help) {
    constexpr std::string_view suffix = "_total";
    const bool counts = name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix;
    families_.push_back(
        {name, "# HELP " + name + ' ' + help + "\n# TYPE " + name + (counts ? " counter\n" : " gauge\n"), {}});
  }
  void add(const std::string& name, const Labels& labels, double value) {
    auto& family = *std::find_if(families_.begin(), families_.end(), [&](const auto& f) { return f.name == name; });
    family.samples += name;
    char separator = '{';
    for (const auto& [label, text] : labels) {
      family.samples += separator + label + "=\"" + escaped(text) + '"';
      separator = ',';
    }
    std::array<char, 40> number{};
    std::snprintf(number.data(), number.size(), "%.16g", value);
    family.samples += (labels.empty() ? " " : "} ") + std::string{number.data()} + '\n';
  }
  std::string text() const {
    std::string out;
    for (const auto& family : families_) {
      if (!family.samples.empty()) out += family.head + family.samples;
    }
    return out;
  }

 private:
  struct Family {
    std::string name;
    std::string head;
    std::string samples;
  };
  static std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == '\n') {
        out += "\\n";
      } else {
        if (c == '\\' || c == '"') out += '\\';
        out += c;
      }
    }
    return out;
  }
  std::vector<Family> families_;
};

double since_epoch(Timestamp time) {
  return in_seconds(time.time_since_epoch());
}

}  // namespace

int metrics(const Common& common) {
  Exposition out;
  out.describe("pgque_info", "The version of PgQue, as a label.");
  out.describe("pgque_queue_last_tick_timestamp_seconds", "When the latest tick of the queue was made.");
  out.describe("pgque_queue_ticks_total", "Ticks of the queue; the true number may be lower.");
  out.describe("pgque_queue_events_total", "Events up to the latest tick of the queue; the true number may be lower.");
  out.describe("pgque_queue_new_events", "Events since the latest tick of the queue; the true number may be lower.");
  out.describe("pgque_queue_waiting_retries", "Messages of the queue that wait for their retry, due or not.");
  out.describe("pgque_queue_paused", "Whether the ticker of the queue is paused.");
  out.describe("pgque_queue_inserts_disabled", "Whether the queue refuses events.");
  out.describe("pgque_queue_external_ticker", "Whether the ticks of the queue come from another system.");
  out.describe("pgque_queue_ticker_max_lag_seconds", "How long events may wait for a tick (ticker_max_lag).");
  out.describe("pgque_queue_ticker_idle_period_seconds",
               "How often the queue gets a tick without new events (ticker_idle_period).");
  out.describe("pgque_queue_rotated_timestamp_seconds", "When the event tables of the queue were last rotated.");
  out.describe("pgque_queue_rotation_period_seconds", "How often the event tables of the queue are to be rotated.");
  out.describe("pgque_consumer_last_tick_timestamp_seconds",
               "When the last tick that the consumer has finished was made.");
  out.describe("pgque_consumer_last_seen_timestamp_seconds",
               "When the consumer last opened or finished a batch or sent a heartbeat.");
  out.describe("pgque_consumer_pending_events",
               "Ticked events that the consumer has not finished; the true number may be lower.");
  out.describe("pgque_consumer_open_batch_timestamp_seconds",
               "When the consumer opened its batch, or sent its last heartbeat; absent without a batch.");
  out.describe("pgque_dead_letters", "Dead letters of the consumer in the queue.");

  Admin admin{common.dsn, unprepared()};
  out.add("pgque_info", {{"version", admin.server_version()}}, 1);
  for (const auto& info : admin.queues()) {
    const Labels labels{{"queue", info.queue}};
    if (info.last_tick_at) out.add("pgque_queue_last_tick_timestamp_seconds", labels, since_epoch(*info.last_tick_at));
    if (info.last_tick) out.add("pgque_queue_ticks_total", labels, static_cast<double>(*info.last_tick));
    if (info.last_tick_event) out.add("pgque_queue_events_total", labels, static_cast<double>(*info.last_tick_event));
    if (info.new_events) out.add("pgque_queue_new_events", labels, static_cast<double>(*info.new_events));
    out.add("pgque_queue_waiting_retries", labels, static_cast<double>(info.waiting_retries));
    out.add("pgque_queue_paused", labels, info.paused ? 1 : 0);
    out.add("pgque_queue_inserts_disabled", labels, info.inserts_disabled ? 1 : 0);
    out.add("pgque_queue_external_ticker", labels, info.external_ticker ? 1 : 0);
    out.add("pgque_queue_ticker_max_lag_seconds", labels, in_seconds(info.ticker_max_lag));
    out.add("pgque_queue_ticker_idle_period_seconds", labels, in_seconds(info.ticker_idle_period));
    out.add("pgque_queue_rotated_timestamp_seconds", labels, since_epoch(info.rotated_at));
    out.add("pgque_queue_rotation_period_seconds", labels, in_seconds(info.rotation_period));
  }
  const auto consumers = admin.consumers();
  for (const auto& info : consumers) {
    const Labels labels{
        {"queue", info.queue}, {"consumer", info.consumer}, {"role", std::string{to_string(info.role)}}};
    if (info.last_tick_at) {
      out.add("pgque_consumer_last_tick_timestamp_seconds", labels, since_epoch(*info.last_tick_at));
    }
    out.add("pgque_consumer_last_seen_timestamp_seconds", labels, since_epoch(info.last_seen_at));
    if (info.pending_events) {
      out.add("pgque_consumer_pending_events", labels, static_cast<double>(*info.pending_events));
    }
    if (info.current_batch) {
      out.add("pgque_consumer_open_batch_timestamp_seconds", labels, since_epoch(info.last_seen_at));
    }
  }
  // If the metric appeared only with the first dead letter, no rise would be visible, so each consumer has one.
  std::map<std::pair<std::string, std::string>, std::int64_t> dead_letters;
  for (const auto& info : consumers) {
    if (info.role != ConsumerRole::subconsumer) dead_letters[{info.queue, info.consumer}] = 0;
  }
  for (const auto& count : admin.count_dead_letters()) dead_letters[{count.queue, count.consumer}] = count.count;
  for (const auto& [name, count] : dead_letters) {
    out.add("pgque_dead_letters", {{"queue", name.first}, {"consumer", name.second}}, static_cast<double>(count));
  }
  print(out.text());
  return success;
}

}  // namespace pgque::tool
