// pgque metrics: the metrics in Prometheus' text format.

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string>
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
  void describe(const std::string& name, const std::string& help) {
    families_.push_back({name, "# HELP " + name + ' ' + help + "\n# TYPE " + name + " gauge\n", {}});
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
    std::snprintf(number.data(), number.size(), "%.15g", value);
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

}  // namespace

int metrics(const Common& common) {
  Exposition out;
  out.describe("pgque_info", "The version of PgQue, as a label.");
  out.describe("pgque_queue_ticker_lag_seconds", "Age of the latest tick of the queue.");
  out.describe("pgque_queue_ticker_max_lag_seconds", "How long events may wait for a tick (ticker_max_lag).");
  out.describe("pgque_queue_last_tick", "Id of the latest tick of the queue.");
  out.describe("pgque_queue_new_events", "Events since the latest tick; the true number may be lower.");
  out.describe("pgque_queue_events_per_second", "Events per second over the last ticks; the true number may be lower.");
  out.describe("pgque_queue_paused", "Whether the ticker of the queue is paused.");
  out.describe("pgque_queue_rotated_seconds", "Time since the event tables of the queue were rotated.");
  out.describe("pgque_queue_rotation_period_seconds", "How often the event tables of the queue are to be rotated.");
  out.describe("pgque_consumer_lag_seconds", "Age of the last tick that the consumer has finished.");
  out.describe("pgque_consumer_last_seen_seconds",
               "Time since the consumer last opened or finished a batch or sent a heartbeat.");
  out.describe("pgque_consumer_pending_events",
               "Ticked events that the consumer has not finished; the true number may be lower.");
  out.describe("pgque_consumer_open_batch_seconds", "How long the consumer has had its batch open; 0 without one.");
  out.describe("pgque_dead_letters", "Dead letters of the consumer in the queue.");

  Admin admin{common.dsn, unprepared()};
  out.add("pgque_info", {{"version", admin.server_version()}}, 1);
  const auto now = std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  for (const auto& info : admin.queues()) {
    const Labels labels{{"queue", info.queue}};
    if (info.ticker_lag) out.add("pgque_queue_ticker_lag_seconds", labels, in_seconds(*info.ticker_lag));
    out.add("pgque_queue_ticker_max_lag_seconds", labels, in_seconds(info.ticker_max_lag));
    if (info.last_tick) out.add("pgque_queue_last_tick", labels, static_cast<double>(*info.last_tick));
    if (info.new_events) out.add("pgque_queue_new_events", labels, static_cast<double>(*info.new_events));
    if (info.events_per_second) out.add("pgque_queue_events_per_second", labels, *info.events_per_second);
    out.add("pgque_queue_paused", labels, info.paused ? 1 : 0);
    out.add("pgque_queue_rotated_seconds", labels, std::max(0.0, in_seconds(now - info.rotated_at)));
    out.add("pgque_queue_rotation_period_seconds", labels, in_seconds(info.rotation_period));
  }
  for (const auto& info : admin.consumers()) {
    const Labels labels{
        {"queue", info.queue}, {"consumer", info.consumer}, {"role", std::string{to_string(info.role)}}};
    if (info.lag) out.add("pgque_consumer_lag_seconds", labels, in_seconds(*info.lag));
    out.add("pgque_consumer_last_seen_seconds", labels, in_seconds(info.last_seen));
    if (info.pending_events) {
      out.add("pgque_consumer_pending_events", labels, static_cast<double>(*info.pending_events));
    }
    out.add("pgque_consumer_open_batch_seconds", labels,
            in_seconds(info.open_batch_age.value_or(std::chrono::microseconds{0})));
  }
  // If the metric appeared only with the first dead letter, no rise would be visible, so each consumer has one.
  std::map<std::pair<std::string, std::string>, std::int64_t> dead_letters;
  for (const auto& info : admin.consumers()) {
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
