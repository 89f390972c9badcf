// Client::receive and ack.

#include <pgque/pgque.hpp>

#include "queue.hpp"
#include "raw.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

void receive_batches(const std::string& name, const Setting& setting, Report& report, std::int64_t size,
                     const std::string& at_least) {
  const auto batch = setting.size<std::int64_t>(size, std::min<std::int64_t>(size, 30));
  const int batches = setting.size(size == 1 ? 5 : 1, 2);
  const int pairs = setting.pairs(size >= 1'000'000 ? 3 : size >= 100'000 ? 11 : size >= 10'000 ? 20 : 60);
  // Small batches are received one after another by one consumer for each side. A large batch is stored once and
  // received by fresh consumers.
  const bool one_batch = setting.size(size, std::int64_t{0}) >= 100'000;
  Queue queue{setting.dsn};
  queue.subscribe_consumers(one_batch ? 2 * (pairs + 1) : 2);
  for (int i = 0; i < (one_batch ? 1 : batches * (pairs + 1)); ++i) queue.publish(batch);
  const auto ours = queue.next_consumer();
  const auto theirs = queue.next_consumer();
  Client client{setting.dsn};
  RawConsumer raw_consumer{setting.dsn};

  const auto consumer_of = [&](const std::string& side, int run) {
    return one_batch && run != 0 ? queue.next_consumer() : side;
  };
  int our_runs = 0;
  int their_runs = 0;
  const Side pgque = [&](Meter& meter) {
    const auto consumer = consumer_of(ours, our_runs++);
    meter.start();
    for (int i = 0; i < batches; ++i) {
      const auto messages = client.receive(queue.name(), consumer);
      require(messages.size() == static_cast<std::size_t>(batch), "received " + std::to_string(messages.size()));
      require(client.ack(messages.front().batch_id), "the ack found no batch");
    }
    meter.stop(batch * batches);
  };
  const Side raw = [&](Meter& meter) {
    const auto consumer = consumer_of(theirs, their_runs++);
    meter.start();
    for (int i = 0; i < batches; ++i) {
      const auto messages = raw_consumer.receive(queue.name(), consumer);
      require(messages.size() == static_cast<std::size_t>(batch), "raw received " + std::to_string(messages.size()));
      raw_consumer.ack(messages.front().batch_id);
    }
    meter.stop(batch * batches);
  };
  const auto result = compare(pairs, pgque, raw);
  report.add(name, result, at_least);
  report.point("receive", {static_cast<double>(batch), result.seconds * 1e6, result.raw_seconds * 1e6, result.cpu * 1e6,
                           result.raw_cpu * 1e6});
}

}  // namespace

std::vector<Workload> receive_workloads() {
  std::vector<Workload> out;
  for (const std::int64_t size : {1, 1000, 10'000, 100'000, 1'000'000}) {
    out.push_back(
        {"receive " + std::to_string(size) + " + ack", [size](const auto& name, const auto& setting, auto& report) {
           receive_batches(name, setting, report, size, size == 100'000 ? "0.90" : "-");
         }});
  }
  return out;
}

}  // namespace pgque::bench
