// Routes log lines and events to spdlog, with their fields.

#include <exception>
#include <iostream>
#include <sstream>
#include <string>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <pgque/pgque.hpp>

#include "setup.hpp"

namespace {

spdlog::level::level_enum level_of(pgque::LogLevel level) {
  switch (level) {
    case pgque::LogLevel::debug:
      return spdlog::level::debug;
    case pgque::LogLevel::info:
      return spdlog::level::info;
    case pgque::LogLevel::warning:
      return spdlog::level::warn;
    case pgque::LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// One for any number of consumers and tickers; spdlog's loggers are thread-safe.
pgque::LogSink log_to(std::shared_ptr<spdlog::logger> logger) {
  return [logger = std::move(logger)](const pgque::LogRecord& record) {
    const auto level = level_of(record.level);
    if (!logger->should_log(level)) return;
    std::ostringstream line;
    line << record.message << " event=" << pgque::to_string(record.event);
    if (!record.queue.empty()) line << " queue=" << record.queue;
    if (!record.consumer.empty()) line << " consumer=" << record.consumer;
    if (record.batch_id) line << " batch=" << *record.batch_id;
    if (record.msg_id) line << " message=" << *record.msg_id;
    if (record.attempt) line << " attempt=" << *record.attempt;
    if (!record.sqlstate.empty()) line << " sqlstate=" << record.sqlstate;
    logger->log(level, "{}", line.str());
  };
}

int run() {
  const auto logger = std::make_shared<spdlog::logger>("pgque", std::make_shared<spdlog::sinks::stdout_sink_mt>());
  logger->set_level(spdlog::level::debug);

  const example::TemporaryQueue queue{"logging"};
  pgque::Client client{example::dsn()};
  client.subscribe(queue.name(), "worker");
  client.send(queue.name(), "1", "order.misspelt");
  client.force_next_tick(queue.name());
  client.ticker(queue.name());

  pgque::ConsumerOptions options;
  options.queue = queue.name();
  options.name = "worker";
  options.log = log_to(logger);
  options.until_drained = true;
  pgque::Consumer consumer{example::dsn(), options};
  consumer.on("order.created", [](const pgque::Message&) {});
  consumer.start();
  return 0;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "spdlog_logging: " << error.what() << '\n';
    return 1;
  }
}
