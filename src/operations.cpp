#include <pgque/operations.hpp>

#include <limits>
#include <stdexcept>

#include <pgque/error.hpp>

#include "executor.hpp"
#include "limits.hpp"
#include "row.hpp"
#include "text.hpp"
#include "text_array.hpp"

namespace pgque {

using detail::Operation;
using detail::Param;

namespace {

std::string_view type_or_default(std::string_view type) {
  return type.empty() ? "default" : type;
}

std::int64_t required(std::optional<std::int64_t> value, const char* function) {
  if (!value) throw std::runtime_error{std::string{"pgque."} + function + " returned NULL"};
  return *value;
}

// One row more than the limit is asked for: PgQue 0.2.0 cuts a larger batch off without a word, and only 0.2.1 refuses.
Param server_limit(std::optional<std::int32_t> max_messages) {
  if (!max_messages) return std::nullopt;
  detail::check_at_least("max_messages", *max_messages, 1);
  if (*max_messages == std::numeric_limits<std::int32_t>::max()) return std::nullopt;
  return std::int64_t{*max_messages} + 1;
}

[[noreturn]] void throw_overflow(const Operation& operation, std::int32_t limit, std::string sqlstate,
                                 std::string server_message) {
  Error::Facts facts;
  facts.operation = operation.describe();
  facts.server_message = std::move(server_message);
  facts.sqlstate = std::move(sqlstate);
  facts.advice = "the batch has more than " + std::to_string(limit) +
                 " messages; receive it with a larger limit or none, do not ack it";
  throw BatchOverflow{std::move(facts), limit};
}

std::vector<Message> receive_limited(detail::Executor& executor, const detail::Statement& statement,
                                     detail::Params params, const Operation& operation,
                                     std::optional<std::int32_t> limit) {
  std::vector<Message> messages;
  try {
    messages = detail::read_messages(executor.run(statement, params, operation));
  } catch (const Error& error) {
    // SQLSTATE 54000 alone is any program limit, such as a name too long for an index.
    if (!limit || error.sqlstate() != "54000" || error.server_message().find("max_return") == std::string::npos) throw;
    throw_overflow(operation, *limit, error.sqlstate(), error.server_message());
  }
  if (limit && messages.size() > static_cast<std::size_t>(*limit)) throw_overflow(operation, *limit, {}, {});
  return messages;
}

void check_members(std::string_view queue, std::string_view consumer, std::string_view subconsumer) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  detail::check_consumer("subconsumer", subconsumer);
}

std::optional<TickId> tick(std::optional<std::int64_t> value) {
  if (!value) return std::nullopt;
  return TickId{*value};
}

}  // namespace

Operations::Operations(std::unique_ptr<detail::Executor> executor) noexcept : executor_{std::move(executor)} {}
Operations::Operations(Operations&& other) noexcept = default;
Operations& Operations::operator=(Operations&& other) noexcept = default;
Operations::~Operations() = default;

detail::Executor& Operations::executor() const {
  if (!executor_) throw std::logic_error{"pgque: use of a moved-from object"};
  return *executor_;
}

EventId Operations::send(std::string_view queue, const Payload& payload, std::string_view type) {
  detail::check_queue(queue);
  detail::check_text("type", type);
  if (payload.text()) detail::check_text("payload", *payload.text());
  const auto& statement = payload.format() == Payload::Format::json ? detail::sql::send_json : detail::sql::send_text;
  const auto result = executor().run(statement, {queue, type_or_default(type), payload.text()}, {"send", queue});
  return EventId{required(detail::read_int64(result), "send")};
}

EventId Operations::send(std::string_view queue, const Event& event) {
  return send(queue, event.payload, event.type);
}

std::vector<EventId> Operations::send_batch(std::string_view queue, std::string_view type,
                                            const std::vector<Payload>& payloads) {
  detail::check_queue(queue);
  detail::check_text("type", type);
  auto& run_by = executor();
  const Operation operation{"send_batch", queue};
  if (payloads.empty()) {
    run_by.require_usable(operation);
    return {};
  }

  std::size_t bytes = 0;
  std::size_t json = 0;
  for (const auto& payload : payloads) {
    bytes += payload.text() ? payload.text()->size() : 0;
    json += payload.format() == Payload::Format::json ? 1U : 0U;
  }
  detail::TextArray array{payloads.size(), bytes};
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    const auto& text = payloads[i].text();
    if (text && detail::first_invalid_byte(*text)) {
      detail::check_text("payloads[" + std::to_string(i) + ']', *text);
    }
    array.add(text);
  }

  const auto type_name = type_or_default(type);
  const auto run = [&] {
    const auto encoded = Param::binary(array.bytes());
    if (json == payloads.size())
      return run_by.run(detail::sql::send_batch_json, {queue, type_name, encoded}, operation);
    if (json == 0) return run_by.run(detail::sql::send_batch_text, {queue, type_name, encoded}, operation);
    std::string is_json = "{";
    for (const auto& payload : payloads) is_json += payload.format() == Payload::Format::json ? "t," : "f,";
    is_json.back() = '}';
    return run_by.run(detail::sql::send_batch_mixed, {queue, type_name, is_json, encoded}, operation);
  };
  const auto result = run();
  std::vector<EventId> ids;
  ids.reserve(payloads.size());
  detail::for_each_row(result, [&](auto field) {
    for (const auto id : detail::parse_int64_array({field->c_str(), field->size()})) ids.push_back(EventId{id});
  });
  return ids;
}

bool Operations::subscribe(std::string_view queue, std::string_view consumer) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  const auto result = executor().run(detail::sql::subscribe, {queue, consumer}, {"subscribe", queue, consumer});
  return required(detail::read_int64(result), "subscribe") != 0;
}

bool Operations::unsubscribe(std::string_view queue, std::string_view consumer) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  const auto result = executor().run(detail::sql::unsubscribe, {queue, consumer}, {"unsubscribe", queue, consumer});
  return required(detail::read_int64(result), "unsubscribe") != 0;
}

std::vector<Message> Operations::receive(std::string_view queue, std::string_view consumer,
                                         std::optional<std::int32_t> max_messages) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  return receive_limited(executor(), detail::sql::receive, {queue, consumer, server_limit(max_messages)},
                         {"receive", queue, consumer}, max_messages);
}

bool Operations::ack(BatchId batch) {
  const auto result = executor().run(detail::sql::ack, {static_cast<std::int64_t>(batch)}, {"ack", {}, {}, batch});
  return required(detail::read_int64(result), "ack") != 0;
}

void Operations::nack(const Message& message, const NackOptions& options) {
  nack(message.batch_id, message.msg_id, options);
}

void Operations::nack(BatchId batch, EventId message, const NackOptions& options) {
  detail::check_retry_after(options.retry_after);
  if (options.reason) detail::check_text("reason", *options.reason);
  executor().run(detail::sql::nack,
                 {static_cast<std::int64_t>(batch), static_cast<std::int64_t>(message),
                  std::int64_t{options.retry_after.count()}, options.reason},
                 {"nack", {}, {}, batch});
}

bool Operations::subscribe_subconsumer(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                                       bool convert_normal) {
  check_members(queue, consumer, subconsumer);
  const auto result =
      executor().run(detail::sql::subscribe_subconsumer, {queue, consumer, subconsumer, std::int64_t{convert_normal}},
                     {"subscribe_subconsumer", queue, consumer});
  return required(detail::read_int64(result), "subscribe_subconsumer") != 0;
}

bool Operations::unsubscribe_subconsumer(std::string_view queue, std::string_view consumer,
                                         std::string_view subconsumer, BatchHandling batch_handling) {
  check_members(queue, consumer, subconsumer);
  const auto result =
      executor().run(detail::sql::unsubscribe_subconsumer,
                     {queue, consumer, subconsumer, std::int64_t{static_cast<std::int32_t>(batch_handling)}},
                     {"unsubscribe_subconsumer", queue, consumer});
  return required(detail::read_int64(result), "unsubscribe_subconsumer") != 0;
}

std::vector<Message> Operations::receive_coop(std::string_view queue, std::string_view consumer,
                                              std::string_view subconsumer, const ReceiveCoopOptions& options) {
  check_members(queue, consumer, subconsumer);
  return receive_limited(executor(), detail::sql::receive_coop,
                         {queue, consumer, subconsumer, server_limit(options.max_messages),
                          detail::microseconds_of("dead_interval", options.dead_interval)},
                         {"receive_coop", queue, consumer}, options.max_messages);
}

bool Operations::touch_subconsumer(std::string_view queue, std::string_view consumer, std::string_view subconsumer) {
  check_members(queue, consumer, subconsumer);
  const auto result = executor().run(detail::sql::touch_subconsumer, {queue, consumer, subconsumer},
                                     {"touch_subconsumer", queue, consumer});
  return required(detail::read_int64(result), "touch_subconsumer") != 0;
}

std::optional<TickId> Operations::force_next_tick(std::string_view queue) {
  detail::check_queue(queue);
  return tick(detail::read_int64(executor().run(detail::sql::force_next_tick, {queue}, {"force_next_tick", queue})));
}

std::optional<TickId> Operations::force_tick(std::string_view queue) {
  detail::check_queue(queue);
  return tick(detail::read_int64(executor().run(detail::sql::force_tick, {queue}, {"force_tick", queue})));
}

std::optional<TickId> Operations::ticker(std::string_view queue) {
  detail::check_queue(queue);
  return tick(detail::read_int64(executor().run(detail::sql::ticker, {queue}, {"ticker", queue})));
}

std::int64_t Operations::ticker_all() {
  return required(detail::read_int64(executor().run(detail::sql::ticker_all, {}, {"ticker_all"})), "ticker");
}

}  // namespace pgque
