// What a transaction that stays open does to the other queues.

#include <algorithm>
#include <string>

#include <pgque/pgque.hpp>

#include "queue.hpp"
#include "raw.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

// Seconds for a receive and an ack: the mean over the last tenth of the batches.
double last_batches(const Setting& setting, int batches) {
  Queue queue{setting.dsn};
  queue.subscribe_consumers(1);
  const auto& consumer = queue.next_consumer();
  Client client{setting.dsn};
  const int last = std::max(batches / 10, 1);
  double seconds = 0;
  for (int i = 0; i < batches; ++i) {
    queue.publish(1);
    const auto begin = Clock::now();
    const auto messages = client.receive(queue.name(), consumer);
    require(messages.size() == 1 && client.ack(messages.front().batch_id), "no batch");
    if (i >= batches - last) seconds += std::chrono::duration<double>(Clock::now() - begin).count();
  }
  return seconds / last;
}

void held_transaction(const std::string& name, const Setting& setting, Report& report) {
  const int batches = setting.size(2000, 10);
  const double alone = last_batches(setting, batches);
  Queue other{setting.dsn};
  other.subscribe_consumers(1);
  other.publish(1);
  // As a consumer in per_batch mode does while its handlers run.
  RawConsumer holder{setting.dsn};
  holder("begin");
  require(holder.receive(other.name(), other.next_consumer()).size() == 1, "no batch to hold");
  const double beside = last_batches(setting, batches);
  holder("rollback");
  report.add({name, millis(beside), "-", fixed(beside / alone, 2) + " x without it", "-", "-", "-"});
}

}  // namespace

std::vector<Workload> held_transaction_workloads() {
  return {{"receive 1 + ack, beside a transaction held for 2000 batches", held_transaction}};
}

}  // namespace pgque::bench
