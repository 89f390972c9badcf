// A consumer in a separate process, for tests that kill, stop and duplicate processes.
//
//   pgque_fault_worker DSN QUEUE CONSUMER per_batch|split|WORKER [hang_at=PAYLOAD] [dead=MS] [poll=MS] [concurrency=N]
//                      [guard=FILE] [crash_at=PAYLOAD] [crash_by=segv|abort|exit|kill|thread] [beside=N]
//                      [key_crashes_at=PAYLOAD] [delay_crashes_at=PAYLOAD] [late=TABLE] [type=TYPE]
//                      [crash_of_unknown=1] [many=1] [callback_crashes_at=PAYLOAD]
//
// WORKER makes it that worker of a cooperative consumer. It prints a line for each delivery, "begin PAYLOAD" and "end
// PAYLOAD", and for each event of the library. A handler that meets hang_at=PAYLOAD waits until a line can be read. One
// that meets crash_at=PAYLOAD ends the process, or its thread, by a segmentation fault if nothing else is said; with
// beside=N once N other handlers are running, which never return. The function of the key does that at
// key_crashes_at=PAYLOAD, and retry_delay at delay_crashes_at=PAYLOAD, where the handler throws, or with late=TABLE
// inserts a 1 there. With type=TYPE there is a handler for that type only, and with crash_of_unknown=1 the log sink
// crashes at a message of another one. With many=1 the handler gets all messages of a page in one call; with
// callback_crashes_at=PAYLOAD it defers something to the ack that crashes for that message. SIGTERM ends the process.

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

namespace {

std::mutex output_mutex;

void print(const std::string& line) {
  const std::lock_guard lock{output_mutex};
  std::cout << line << std::endl;
}

// Sanitizers handle the signals and exit instead, so their handlers are taken away first.
[[noreturn]] void crash(const std::string& how) {
  ::prctl(PR_SET_DUMPABLE, 0);  // leaves no core file
  if (how == "exit") ::_exit(3);
  if (how == "kill") ::raise(SIGKILL);
  std::signal(SIGABRT, SIG_DFL);
  std::signal(SIGSEGV, SIG_DFL);
  if (how == "abort") std::abort();
  if (how == "thread") ::pthread_exit(nullptr);
  auto* const page = static_cast<volatile char*>(::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (;;) *page = 1;
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
  if (settings.count("concurrency")) options.concurrency = std::stoi(settings["concurrency"]);
  if (settings.count("guard")) options.crash_guard = pgque::CrashGuard{settings["guard"]};
  if (settings.count("key_crashes_at")) {
    options.key = [at = settings["key_crashes_at"]](const pgque::Message& message) {
      if (message.payload == at) crash("segv");
      return std::string{};
    };
  }
  if (settings.count("delay_crashes_at")) {
    options.retry_delay = [at = settings["delay_crashes_at"]](const pgque::Message& message, std::int32_t) {
      if (message.payload == at) crash("segv");
      return std::chrono::seconds{60};
    };
  }
  options.reconnect = {std::chrono::milliseconds{50}, std::chrono::milliseconds{200}};
  options.log = [sink_crashes = settings.count("crash_of_unknown") != 0](const pgque::LogRecord& record) {
    if (sink_crashes && record.event == pgque::LogEvent::unknown_type) crash("segv");
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
    const int beside = settings.count("beside") ? std::stoi(settings["beside"]) : 0;
    const auto hang_at = settings["hang_at"];
    const auto crash_at = settings["crash_at"];
    const auto crash_by = settings["crash_by"];
    const auto throw_at = settings["delay_crashes_at"];
    const auto late = settings["late"];
    const auto type = settings.count("type") ? settings["type"] : "*";
    const auto callback_crashes_at = settings["callback_crashes_at"];
    std::atomic<int> running{0};
    pgque::Consumer consumer{argv[1], options_of(argv, settings)};
    const auto handle = [&](const pgque::Message& message, pgque::Context& context) {
      const auto payload = message.payload.value();
      print("begin " + payload);
      ++running;
      if (payload == throw_at && !late.empty()) {
        context.transaction().exec("insert into " + late + " values (1)");
        return;
      }
      if (payload == throw_at) throw std::runtime_error{"no"};
      if (payload == crash_at) {
        while (running <= beside) std::this_thread::sleep_for(std::chrono::milliseconds{1});
        crash(crash_by);
      }
      if (beside != 0) {
        char byte = 0;
        while (::read(STDIN_FILENO, &byte, 1) > 0) continue;  // until the test itself has ended
        ::_exit(4);
      }
      if (payload == hang_at) {
        std::string line;
        std::getline(std::cin, line);
      }
      if (per_batch) {
        auto& transaction = context.transaction();
        transaction.exec("insert into public.faults_done values (" + transaction.quote(queue) + ", " +
                         transaction.quote(payload) + ")");
      }
      if (!callback_crashes_at.empty()) {
        context.on_ack([&, payload](pqxx::transaction_base&) {
          if (payload == callback_crashes_at) crash(crash_by);
        });
      }
      --running;
      print("end " + payload);
    };
    if (settings.count("many") != 0) {
      consumer.on_batch(type, [&](const std::vector<pgque::Message>& messages, pgque::BatchContext& context) {
        for (const auto& message : messages) handle(message, context);
      });
    } else {
      consumer.on(type, handle);
    }
    pgque::stop_on_signals(consumer);
    consumer.start();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
