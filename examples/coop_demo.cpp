// Several workers share one consumer: the same batches handled by one worker and by N, with the speed-up at the end.
// Cooperative consumers are experimental in PgQue 0.2.
//
//   coop_demo [WORKERS]              threads of this process; default 4
//   coop_demo WORKERS --processes    a process for each worker
//
// Each worker waits for 20 ms per message, as if for another service.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

#include "setup.hpp"

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int batches = 8;
constexpr int messages_per_batch = 10;

// Where the workers write down what they did, so that processes can report too.
void create_report() {
  pqxx::connection connection{example::dsn()};
  pqxx::nontransaction{connection}.exec(
      "create table if not exists example_coop_report (worker text, msg_id bigint); truncate example_coop_report");
}

pgque::ConsumerOptions options_of(const std::string& queue, const std::string& worker) {
  pgque::ConsumerOptions options;
  options.queue = queue;
  options.name = "group";
  options.subconsumer = worker;
  options.dead_interval = 10s;  // a worker that dies loses its batch to a sibling after this
  return options;
}

void handle(pqxx::connection& report, const std::string& worker, const pgque::Message& message) {
  std::this_thread::sleep_for(20ms);
  pqxx::nontransaction{report}.exec("insert into example_coop_report values (" + report.quote(worker) + ", " +
                                    to_string(message.msg_id) + ")");
}

// One worker until it is stopped, by SIGTERM as well.
void work(pgque::Consumer& consumer, const std::string& worker) {
  pqxx::connection report{example::dsn()};
  consumer.on("*", [&](const pgque::Message& message) { handle(report, worker, message); });
  consumer.start();
}

void fill(const std::string& queue, int workers) {
  pgque::Client client{example::dsn()};
  for (int i = 0; i < workers; ++i) client.subscribe_subconsumer(queue, "group", "worker-" + std::to_string(i + 1));
  for (int batch = 0; batch < batches; ++batch) {
    client.send_batch(queue, "job", std::vector<pgque::Payload>(messages_per_batch, pgque::Payload{"{}"}));
    client.force_next_tick(queue);
    client.ticker(queue);
  }
}

// Waits until every message was handled at least once, or a worker has failed. Returns messages per worker.
std::map<std::string, int> wait_for_all(const std::function<bool()>& has_failed) {
  pqxx::connection connection{example::dsn()};
  while (!has_failed()) {
    pqxx::nontransaction reading{connection};
    const auto rows = reading.exec("select pg_catalog.count(distinct msg_id) from example_coop_report");
    if (rows[0][0].as<int>() >= batches * messages_per_batch) break;
    std::this_thread::sleep_for(5ms);
  }
  std::map<std::string, int> per_worker;
  pqxx::nontransaction reading{connection};
  const auto rows = reading.exec("select worker, pg_catalog.count(*) from example_coop_report group by worker");
  for (const auto& row : rows) per_worker[row[0].c_str()] = row[1].as<int>();
  return per_worker;
}

// Returns the seconds that the workers took for all batches.
double run_workers(int workers, bool processes) {
  const example::TemporaryQueue queue{"coop"};
  create_report();
  fill(queue.name(), workers);

  const auto begin = Clock::now();
  std::vector<std::unique_ptr<pgque::Consumer>> consumers;
  std::vector<std::thread> threads;
  std::vector<pid_t> children;
  std::atomic<bool> failed{false};
  for (int i = 0; i < workers; ++i) {
    const auto name = "worker-" + std::to_string(i + 1);
    if (processes) {
      const auto child = ::fork();
      if (child == 0) {
        int status = 1;
        try {
          pgque::Consumer consumer{example::dsn(), options_of(queue.name(), name)};
          pgque::stop_on_signals(consumer);
          work(consumer, name);
          status = 0;
        } catch (const std::exception& error) {
          std::cerr << name << ": " << error.what() << '\n';
        }
        ::_exit(status);
      }
      if (child > 0) {
        children.push_back(child);
      } else {
        failed = true;
      }
    } else {
      auto& consumer =
          *consumers.emplace_back(std::make_unique<pgque::Consumer>(example::dsn(), options_of(queue.name(), name)));
      threads.emplace_back([&consumer, &failed, name] {
        try {
          work(consumer, name);
        } catch (const std::exception& error) {
          std::cerr << name << ": " << error.what() << '\n';
          failed = true;
        }
      });
    }
  }
  // A process should not end before it is told to.
  const auto has_failed = [&] {
    siginfo_t ended{};
    return failed || (processes && ::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid != 0);
  };
  const auto per_worker = wait_for_all(has_failed);
  const auto seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  for (auto& consumer : consumers) consumer->stop();
  for (auto& thread : threads) thread.join();
  for (const auto child : children) ::kill(child, SIGTERM);
  for (const auto child : children) {
    int status = 0;
    const auto waited = ::waitpid(child, &status, 0);
    // A worker that had not installed its signal handler yet, because the others had already done everything, was ended
    // by the signal.
    const bool stopped = status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    if (waited != child || !stopped) failed = true;
  }

  std::printf("  %-10s  messages\n", "worker");
  for (const auto& [worker, messages] : per_worker) std::printf("  %-10s  %8d\n", worker.c_str(), messages);
  std::printf("  %d batches of %d messages of 20 ms: %.2f s\n\n", batches, messages_per_batch, seconds);

  // Members have to go before the queue can be dropped.
  pgque::Client client{example::dsn()};
  for (int i = 0; i < workers; ++i) {
    client.unsubscribe_subconsumer(queue.name(), "group", "worker-" + std::to_string(i + 1),
                                   pgque::BatchHandling::retry);
  }
  if (failed) throw std::runtime_error{"a worker has failed"};
  return seconds;
}

int run(int workers, bool processes) {
  std::printf("one worker\n");
  const auto alone = run_workers(1, processes);
  std::printf("%d workers, each a %s\n", workers, processes ? "process" : "thread");
  const auto together = run_workers(workers, processes);
  std::printf("%d workers are %.1f times as fast as one\n", workers, alone / together);
  pqxx::connection connection{example::dsn()};
  pqxx::nontransaction{connection}.exec("drop table example_coop_report");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? std::clamp(std::stoi(argv[1]), 1, 64) : 4, argc > 2 && std::string{argv[2]} == "--processes");
  } catch (const std::exception& error) {
    std::cerr << "coop_demo: " << error.what() << '\n';
    return 1;
  }
}
