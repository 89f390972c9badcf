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
#include <pgque/pqxx.hpp>
#include <pgque/signals.hpp>
#include <pgque/transaction.hpp>
#include <pqxx/pqxx>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"

namespace pgque::tool {

namespace {

std::string quoted(const std::optional<std::string>& text) {
  return dumped(text_or_null(text));
}

// JSON is passed on as it is, so that no number loses a digit.
std::string line_of(const Message& message) {
  const bool is_json = message.payload && tool::is_json(*message.payload);
  std::string line = "{\"msg_id\":" + to_string(message.msg_id) + ",\"batch_id\":" + to_string(message.batch_id) +
                     ",\"type\":" + quoted(message.type) +
                     ",\"payload\":" + (is_json ? compact_json(*message.payload) : quoted(message.payload));
  if (message.payload && !is_json) line += ",\"payload_is_text\":true";
  line += ",\"retry_count\":" + (message.retry_count ? std::to_string(*message.retry_count) : "null") +
          ",\"created_at\":\"" + iso_time(message.created_at) + '"';
  int number = 0;
  for (const auto& extra : {message.extra1, message.extra2, message.extra3, message.extra4}) {
    ++number;
    if (extra) line += ",\"extra" + std::to_string(number) + "\":" + quoted(extra);
  }
  return line + '}';
}

std::string text_of(const Message& message, bool raw) {
  return raw ? message.payload.value_or("") : line_of(message);
}

// Everything that waits for the consumer, received in a transaction that is rolled back, so that nothing changes.
std::vector<Message> peek(const Common& common, const TailOptions& options) {
  Admin admin{common.dsn, unprepared()};
  const auto consumer = admin.consumer(options.queue, options.consumer);
  const auto last_tick = admin.queue(options.queue).last_tick;
  // receive() returns nothing both for an empty window and at the end, but there are no more windows than ticks.
  auto windows = last_tick && consumer.last_tick
                     ? static_cast<std::int64_t>(*last_tick) - static_cast<std::int64_t>(*consumer.last_tick)
                     : 0;
  const auto limit = static_cast<std::size_t>(options.limit.value_or(1000));
  std::vector<Message> seen;
  Client client{common.dsn, unprepared()};
  pqxx::work work{native(client)};
  // The real consumer may lock its row for as long as its handlers run, so this waits only briefly.
  work.exec("set local lock_timeout = '5s'");
  Transaction transaction{work};
  // The group's position is already past a worker's open batch, so that batch is an additional window.
  if (!options.subconsumer.empty()) ++windows;
  for (; windows > 0 && (limit == 0 || seen.size() < limit); --windows) {
    auto messages = options.subconsumer.empty()
                        ? transaction.receive(options.queue, options.consumer)
                        : transaction.receive_coop(options.queue, options.consumer, options.subconsumer);
    if (messages.empty()) continue;
    transaction.ack(messages.front().batch_id);
    std::move(messages.begin(), messages.end(), std::back_inserter(seen));
  }
  work.abort();
  if (limit != 0 && seen.size() > limit) seen.resize(limit);
  return seen;
}

void follow(const Common& common, const TailOptions& options) {
  ConsumerOptions consumer_options;
  consumer_options.queue = options.queue;
  consumer_options.name = options.consumer;
  consumer_options.subconsumer = options.subconsumer;
  consumer_options.dead_interval = options.dead_interval;
  if (options.poll_interval) consumer_options.poll_interval = *options.poll_interval;
  // No transaction is open while the reader is slow, and few messages are in memory.
  consumer_options.transaction = TransactionMode::split;
  if (!options.pooled) consumer_options.max_messages = 1000;
  consumer_options.pooled = options.pooled;
  consumer_options.until_drained = options.once;
  consumer_options.log = [](const LogRecord& record) {
    if (record.level >= LogLevel::warning) complain(std::string{record.message});
  };
  Consumer consumer{common.dsn, consumer_options};
  // print() ends the process if it cannot print, so only printed messages are acknowledged.
  consumer.on("*", [&](const Message& message, Context& context) {
    const auto text = text_of(message, options.raw) + '\n';
    // If the reader takes nothing, the command must still be interruptible. A pipe accepts this much at once.
    for (std::string_view rest{text}; !rest.empty(); rest.remove_prefix(std::min<std::size_t>(rest.size(), PIPE_BUF))) {
      while (!output_writable(std::chrono::milliseconds{100})) {
        if (context.stop_requested()) ::_exit(interrupted);
      }
      print(rest.substr(0, PIPE_BUF));
    }
  });
  stop_on_signals(consumer);
  consumer.start();
}

}  // namespace

int tail(const Common& common, const TailOptions& options) {
  if (options.subscribe && options.subconsumer.empty()) {
    Client{common.dsn, unprepared()}.subscribe(options.queue, options.consumer);
  }
  if (options.peek) {
    for (const auto& message : peek(common, options)) print_line(text_of(message, options.raw));
  } else {
    follow(common, options);
  }
  return success;
}

}  // namespace pgque::tool
