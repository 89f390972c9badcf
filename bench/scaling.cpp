// Several workers and several handlers, where each message takes 20 ms of waiting.

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>

#include <pgque/pgque.hpp>

#include "queue.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

constexpr std::chrono::milliseconds work{20};

// Seconds from the first of the ticks, when all workers are waiting, until the last batch is acknowledged.
double cooperative(const Setting& setting, int workers, int batches, int messages) {
  Queue queue{setting.dsn};
  Client client{setting.dsn};
  std::atomic<int> acked{0};
  std::atomic<int> handled{0};
  std::atomic<Clock::rep> end{0};
  std::vector<std::unique_ptr<Consumer>> consumers;
  for (int i = 0; i < workers; ++i) {
    ConsumerOptions options;
    options.queue = queue.name();
    options.name = "group";
    options.subconsumer = "w" + std::to_string(i);
    options.log = [&](const LogRecord& record) {
      if (record.event != LogEvent::batch_acked) return;
      end = Clock::now().time_since_epoch().count();
      ++acked;
    };
    client.subscribe_subconsumer(queue.name(), "group", options.subconsumer);
    consumers.push_back(std::make_unique<Consumer>(setting.dsn, options));
    consumers.back()->on("t", [&](const Message&) {
      std::this_thread::sleep_for(work);
      ++handled;
    });
  }
  std::vector<std::thread> threads;
  threads.reserve(consumers.size());
  for (const auto& consumer : consumers) threads.emplace_back([&consumer] { consumer->start(); });
  for (const auto& consumer : consumers) {
    while (consumer->stats().state != ConsumerState::waiting) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  const auto begin = Clock::now();
  for (int i = 0; i < batches; ++i) queue.publish(messages);
  const auto deadline = Clock::now() + std::chrono::seconds{60};
  while (acked < batches && Clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds{1});
  for (const auto& consumer : consumers) consumer->stop();
  for (auto& thread : threads) thread.join();
  require(acked == batches && handled == batches * messages,
          "acked " + std::to_string(acked) + ", handled " + std::to_string(handled));
  return std::chrono::duration<double>(Clock::time_point{Clock::duration{end.load()}} - begin).count();
}

// The speed-up over one worker, from interleaved runs.
void cooperative_scaling(const std::string& name, const Setting& setting, Report& report) {
  const int batches = 8;
  const int messages = setting.size(10, 1);
  std::vector<int> counts{1, 2, 4, 8};
  std::vector<std::vector<double>> seconds(counts.size());
  std::vector<std::vector<double>> speedups(counts.size());
  for (int round = 0; round < setting.pairs(9); ++round) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      seconds[i].push_back(cooperative(setting, counts[i], batches, messages));
      speedups[i].push_back(seconds[0].back() / seconds[i].back());
    }
  }
  for (std::size_t i = 0; i < counts.size(); ++i) {
    report.add({name + ", " + std::to_string(counts[i]) + (counts[i] == 1 ? " worker" : " workers"),
                millis(median(seconds[i])), "-", fixed(median(speedups[i]), 2) + " x one worker", "-", "-",
                counts[i] == 4 ? "3.5 x" : "-"});
    report.point("cooperative", {static_cast<double>(counts[i]), median(speedups[i])});
  }
}

// Seconds for one batch, from its receipt to its acknowledgement.
double one_batch(const Setting& setting, Queue& queue, int concurrency, int messages) {
  ConsumerOptions options;
  options.queue = queue.name();
  options.name = queue.next_consumer();
  options.concurrency = concurrency;
  Clock::time_point begin;
  Clock::time_point end;
  Consumer* running = nullptr;
  options.log = [&](const LogRecord& record) {
    if (record.event == LogEvent::batch_received) begin = Clock::now();
    if (record.event != LogEvent::batch_acked) return;
    end = Clock::now();
    running->stop();
  };
  Consumer consumer{setting.dsn, options};
  running = &consumer;
  consumer.on("t", [](const Message&) { std::this_thread::sleep_for(work); });
  consumer.start();
  require(consumer.stats().messages == static_cast<std::uint64_t>(messages), "not every message was handled");
  return std::chrono::duration<double>(end - begin).count();
}

void concurrency_scaling(const std::string& name, const Setting& setting, Report& report) {
  const int messages = setting.size(80, 8);
  const int rounds = setting.pairs(9);
  Queue queue{setting.dsn};
  queue.subscribe_consumers(2 * rounds);
  queue.publish(messages);
  std::vector<double> seconds;
  std::vector<double> speedups;
  for (int round = 0; round < rounds; ++round) {
    const double alone = one_batch(setting, queue, 1, messages);
    seconds.push_back(one_batch(setting, queue, 8, messages));
    speedups.push_back(alone / seconds.back());
  }
  report.add({name, millis(median(seconds)), "-", fixed(median(speedups), 2) + " x one handler", "-", "-", "7 x"});
}

}  // namespace

std::vector<Workload> scaling_workloads() {
  return {{"8 batches of 10 messages of 20 ms", cooperative_scaling},
          {"a batch of 80 messages of 20 ms, concurrency 8", concurrency_scaling}};
}

}  // namespace pgque::bench
