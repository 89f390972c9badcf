// How long a consumer takes for a backlog of many small windows.

#include <algorithm>
#include <utility>

#include <pgque/pgque.hpp>

#include "queue.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

constexpr std::int64_t messages_of_window = 2;

// From when the consumer is connected until it finds nothing more.
void drain(const Setting& setting, Queue& queue, bool catches_up, std::int64_t messages, Meter& meter) {
  ConsumerOptions options;
  options.queue = queue.name();
  options.name = queue.next_consumer();
  options.until_drained = true;
  if (catches_up) options.catch_up = CatchUp{500};
  options.log = [&](const LogRecord& record) {
    if (record.event == LogEvent::connected) meter.start();
  };
  Consumer consumer{setting.dsn, std::move(options)};
  consumer.on("t", [](const Message&) {});
  consumer.start();
  meter.stop(messages);
  const auto handled = static_cast<std::int64_t>(consumer.stats().messages);
  require(handled == messages, "handled: " + std::to_string(handled));
}

void catch_up(const std::string& name, const Setting& setting, Report& report) {
  const auto windows = setting.size(2000, 5);
  const int pairs = setting.pairs(3);
  Queue queue{setting.dsn};
  queue.subscribe_consumers(2 * (pairs + 1));
  for (int i = 0; i < windows; ++i) queue.publish(messages_of_window);
  const auto messages = windows * messages_of_window;
  const auto result = compare(
      pairs, [&](Meter& meter) { drain(setting, queue, true, messages, meter); },
      [&](Meter& meter) { drain(setting, queue, false, messages, meter); });
  const auto all = static_cast<double>(messages);
  report.add({name, millis(result.seconds * all), millis(result.raw_seconds * all),
              fixed(result.ratio, 0) + " (" + fixed(result.ratio_low, 0) + "-" + fixed(result.ratio_high, 0) + ")",
              micros(result.cpu) + " / " + micros(result.raw_cpu), "-", "-"});
}

}  // namespace

std::vector<Workload> backlog_workloads() {
  return {{"2000 windows, catch_up, against one by one", catch_up}};
}

}  // namespace pgque::bench
