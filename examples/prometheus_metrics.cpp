// A service that exports its consumer's and its ticker's counters to Prometheus, with prometheus-cpp. The counters are
// read when Prometheus asks; nothing runs in between. The argument is the address to serve. This example handles one
// message, asks its own exporter and ends.

#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <pgque/pgque.hpp>

#include "setup.hpp"

namespace {

prometheus::MetricFamily family(const std::string& name, const std::string& help, prometheus::MetricType type,
                                double value) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  family.metric.emplace_back();
  (type == prometheus::MetricType::Counter ? family.metric[0].counter.value : family.metric[0].gauge.value) = value;
  return family;
}

prometheus::MetricFamily counter(const std::string& name, const std::string& help, std::uint64_t value) {
  return family(name, help, prometheus::MetricType::Counter, static_cast<double>(value));
}

class PgqueCollector : public prometheus::Collectable {
 public:
  // Both must outlive it.
  PgqueCollector(const pgque::Consumer& consumer, const pgque::Ticker& ticker) : consumer_{consumer}, ticker_{ticker} {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    const auto consumed = consumer_.stats();  // stats() may be called from any thread
    const auto ticked = ticker_.stats();
    return {counter("pgque_consumer_batches_total", "Batches acknowledged.", consumed.batches),
            counter("pgque_consumer_messages_total", "Messages whose handler returned.", consumed.messages),
            counter("pgque_consumer_failures_total", "Messages whose handler threw.", consumed.failures),
            counter("pgque_consumer_unknown_total", "Messages without a handler.", consumed.unknown),
            counter("pgque_consumer_retries_total", "Messages put up for retry.", consumed.retries),
            counter("pgque_consumer_abandoned_total", "Batches left for redelivery.", consumed.abandoned),
            counter("pgque_consumer_stale_acks_total", "Acks of finished batches.", consumed.stale_acks),
            counter("pgque_consumer_takeovers_total", "Batches taken over from another worker.", consumed.takeovers),
            counter("pgque_consumer_lost_total", "Batches lost to another worker.", consumed.lost),
            counter("pgque_consumer_stuck_total", "Handlers beyond handler_timeout.", consumed.stuck),
            counter("pgque_consumer_reconnects_total", "Connections made after the first.", consumed.reconnects),
            counter("pgque_ticker_ticks_total", "Ticks created.", ticked.ticks),
            counter("pgque_ticker_retries_total", "Messages brought back.", ticked.retries),
            family("pgque_ticker_leader", "Whether this is the active ticker.", prometheus::MetricType::Gauge,
                   ticked.leader ? 1 : 0)};
  }

 private:
  const pgque::Consumer& consumer_;
  const pgque::Ticker& ticker_;
};

int run(const std::string& address) {
  const example::TemporaryQueue queue{"metrics"};
  pgque::Client client{example::dsn()};
  client.subscribe(queue.name(), "worker");

  pgque::TickerOptions ticker_options;
  ticker_options.ticker_max_lag = std::chrono::milliseconds{100};
  pgque::Ticker ticker{example::dsn(), ticker_options};
  pgque::ConsumerOptions options;
  options.queue = queue.name();
  options.name = "worker";
  pgque::Consumer consumer{example::dsn(), options};
  consumer.on("*", [&](const pgque::Message&) { consumer.stop(); });

  prometheus::Exposer exposer{address};
  const auto collector = std::make_shared<PgqueCollector>(consumer, ticker);
  exposer.RegisterCollectable(collector);

  std::thread ticking{[&] { ticker.start(); }};
  client.send(queue.name(), R"({"hello": "Prometheus"})");
  consumer.start();  // until the message was handled
  ticker.stop();
  ticking.join();

  std::cout << prometheus::TextSerializer{}.Serialize(collector->Collect());  // what Prometheus would be told
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "127.0.0.1:0");
  } catch (const std::exception& error) {
    std::cerr << "prometheus_metrics: " << error.what() << '\n';
    return 1;
  }
}
