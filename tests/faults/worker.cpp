// A consumer in a separate process, for tests that kill, stop and duplicate processes.
//
//   pgque_fault_worker DSN QUEUE CONSUMER per_batch|split|WORKER [hang_at=PAYLOAD] [dead=MS] [poll=MS]
//
// WORKER makes it that worker of a cooperative consumer. It prints a line for each delivery, "begin PAYLOAD" and "end
// PAYLOAD", and for each event of the library. A handler that meets hang_at=PAYLOAD waits until a line can be read.
// SIGTERM ends it.

#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <mutex>
#include <string>

#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

namespace {

std::mutex output_mutex;

void print(const std::string& line) {
  const std::lock_guard lock{output_mutex};
  std::cout << line << std::endl;
}

pgque::ConsumerOptions options_of(char** argv, std::map<std::string, std::string> settings) {
  pgque::ConsumerOptions options;
  options.queue = argv[2];
  options.name = argv[3];
  const std::string mode = argv[4];
  if (mode == "split" || mode == "per_batch") {
    options.transaction = mode == "split" ? pgque::TransactionMode::split : pgque::TransactionMode::per_batch;
  } else {
    options.subconsumer = mode;
  }
  if (settings.count("dead")) options.dead_interval = std::chrono::milliseconds{std::stoi(settings["dead"])};
  if (settings.count("poll")) options.poll_interval = std::chrono::milliseconds{std::stoi(settings["poll"])};
  options.reconnect = {std::chrono::milliseconds{50}, std::chrono::milliseconds{200}};
  options.log = [](const pgque::LogRecord& record) {
    print(std::string{pgque::to_string(record.event)} + ' ' +
          (record.batch_id ? pgque::to_string(*record.batch_id) : "-") + ' ' + std::string{record.message});
  };
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: %s DSN QUEUE CONSUMER per_batch|split|WORKER [NAME=VALUE...]\n", argv[0]);
    return 2;
  }
  try {
    std::map<std::string, std::string> settings;
    for (int i = 5; i < argc; ++i) {
      const std::string setting = argv[i];
      const auto equals = setting.find('=');
      settings[setting.substr(0, equals)] = setting.substr(equals + 1);
    }
    const std::string queue = argv[2];
    const bool per_batch = std::string{argv[4]} == "per_batch";
    pgque::Consumer consumer{argv[1], options_of(argv, settings)};
    consumer.on("*", [&](const pgque::Message& message, pgque::Context& context) {
      const auto payload = message.payload.value();
      print("begin " + payload);
      if (payload == settings["hang_at"]) {
        std::string line;
        std::getline(std::cin, line);
      }
      if (per_batch) {
        auto& transaction = context.transaction();
        transaction.exec("insert into public.faults_done values (" + transaction.quote(queue) + ", " +
                         transaction.quote(payload) + ")");
      }
      print("end " + payload);
    });
    pgque::stop_on_signals(consumer);
    consumer.start();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
