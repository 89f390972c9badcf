// pgque tail: a consumer's messages as lines of JSON.

#include <algorithm>
#include <climits>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>
#include <pgque/admin.hpp>
#include <pgque/client.hpp>
#include <pgque/consumer.hpp>
#include <pgque/signals.hpp>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"
#include "peek.hpp"

namespace pgque::tool {

namespace {

constexpr std::string_view read_only_sqlstate{"25006"};

std::string quoted(const std::optional<std::string>& text) {
  return dumped(text_or_null(text));
}

Shown shown(const Message& message) {
  return {to_string(message.msg_id),
          to_string(message.batch_id),
          message.type,
          message.payload,
          message.retry_count ? std::to_string(*message.retry_count) : "null",
          iso_time(message.created_at),
          {message.extra1, message.extra2, message.extra3, message.extra4}};
}

std::string line_of(const Shown& message) {
  std::string line = "{\"msg_id\":" + message.msg_id + ",\"batch_id\":" + message.batch_id +
                     ",\"type\":" + quoted(message.type) + ',' + payload_member(message.payload);
  line += ",\"retry_count\":" + message.retry_count + R"(,"created_at":")" + message.created_at + '"';
  const auto& [key, extra2, extra3, extra4] = message.extras;
  const auto headers = headers_in(extra4);
  if (key) line += ",\"key\":" + quoted(key);
  if (!headers.empty()) line += ",\"headers\":" + dumped(Json(headers));
  if (extra2) line += ",\"extra2\":" + quoted(extra2);
  if (extra3) line += ",\"extra3\":" + quoted(extra3);
  if (extra4 && headers.empty()) line += ",\"extra4\":" + quoted(extra4);
  return line + '}';
}

std::string printed(const Shown& message, bool raw) {
  return raw ? message.payload.value_or("") : line_of(message);
}

void show_waiting(const Common& common, const TailOptions& options) {
  // With the errors of a consumer that is not subscribed, of a permission that is missing, and so on.
  Admin{common.dsn, unprepared()}.consumer(options.queue, options.consumer);
  Client client{common.dsn, unprepared()};
  peek(client, {options.queue, options.consumer, options.subconsumer, options.limit.value_or(1000)},
       [&](const Shown& message) { print_line(printed(message, options.raw)); });
}

int follow(const Common& common, const TailOptions& options) {
  ConsumerOptions consumer_options;
  consumer_options.queue = options.queue;
  consumer_options.name = options.consumer;
  consumer_options.subconsumer = options.subconsumer;
  consumer_options.dead_interval = options.dead_interval;
  if (options.poll_interval) consumer_options.poll_interval = *options.poll_interval;
  // No transaction is open while the reader is slow, and few messages are in memory.
  consumer_options.transaction = TransactionMode::split;
  consumer_options.max_messages = std::nullopt;  // there are no pages through a pooler
  if (!options.pooled) consumer_options.max_messages = 1000;
  consumer_options.pooled = options.pooled;
  consumer_options.until_drained = options.once;
  Consumer* running = nullptr;
  bool read_only = false;
  consumer_options.log = [&](const LogRecord& record) {
    if (record.level >= LogLevel::warning) complain(text_of(record));
    // Whoever wants the messages that are there now does not wait for a standby to become the primary.
    if (!options.once || record.sqlstate != read_only_sqlstate) return;
    read_only = true;
    running->stop();
  };
  Consumer consumer{common.dsn, consumer_options};
  running = &consumer;
  // print() ends the process if it cannot print, so only printed messages are acknowledged.
  consumer.on("*", [&](const Message& message, Context& context) {
    const auto text = printed(shown(message), options.raw) + '\n';
    // If the reader takes nothing, the command must still be interruptible. A pipe accepts this much at once.
    for (std::string_view rest{text}; !rest.empty(); rest.remove_prefix(std::min<std::size_t>(rest.size(), PIPE_BUF))) {
      while (!output_writable(std::chrono::milliseconds{100})) {
        if (context.stop_requested()) ::_exit(interrupted);
      }
      print(rest.substr(0, PIPE_BUF));
    }
  });
  stop_on_signals(consumer);
  try {
    consumer.start();
  } catch (const Error& error) {
    return status_of(error);  // the log has printed it
  }
  return read_only ? failure : success;
}

}  // namespace

int tail(const Common& common, const TailOptions& options) {
  if (options.subscribe && options.subconsumer.empty()) {
    Client{common.dsn, unprepared()}.subscribe(options.queue, options.consumer);
  }
  if (!options.peek) return follow(common, options);
  show_waiting(common, options);
  return success;
}

}  // namespace pgque::tool
