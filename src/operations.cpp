#include <pgque/operations.hpp>

#include <cstddef>
#include <limits>
#include <stdexcept>
#include <utility>

#include <pgque/error.hpp>

#include "database/executor.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"
#include "database/verbs.hpp"
#include "support/checks.hpp"
#include "support/event_checks.hpp"
#include "support/headers.hpp"
#include "support/text.hpp"

namespace pgque {

using detail::Call;
namespace verbs = detail::verbs;

namespace {

std::string_view type_or_default(std::string_view type) {
  return type.empty() ? "default" : type;
}

// The event as it is sent; `headers` keeps the JSON.
verbs::EventRow row_of(const Event& event, std::string& headers) {
  verbs::EventRow row{&event.payload, type_or_default(event.type), event.key};
  if (!event.headers.empty()) row.headers = headers = detail::write_headers(event.headers);
  return row;
}

EventId send_checked(detail::Executor& executor, std::string_view queue, const Event& event) {
  detail::check_event(event);
  std::string headers;
  return verbs::send_event(executor, queue, row_of(event, headers));
}

std::vector<EventId> send_checked(detail::Executor& executor, std::string_view queue,
                                  const std::vector<Event>& events) {
  std::vector<std::string> headers(events.size());
  std::vector<verbs::EventRow> rows;
  rows.reserve(events.size());
  for (std::size_t i = 0; i < events.size(); ++i) {
    try {
      detail::check_event(events[i]);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument{"events[" + std::to_string(i) + "]." + error.what()};
    }
    rows.push_back(row_of(events[i], headers[i]));
  }
  return verbs::send_events(executor, queue, rows);
}

// The same for what the interceptor makes of them.
EventId send_changed(detail::Executor& executor, std::string_view queue, Event event) {
  detail::intercept(*executor.on_send(), event);
  return send_checked(executor, queue, event);
}

std::vector<EventId> send_changed(detail::Executor& executor, std::string_view queue, std::vector<Event> events) {
  for (auto& event : events) detail::intercept(*executor.on_send(), event);
  return send_checked(executor, queue, events);
}

// Asks for one row more than the limit: PgQue 0.2.0 silently truncates a larger batch, and only 0.2.1 reports an error.
std::optional<std::int64_t> server_limit(std::optional<std::int32_t> max_messages) {
  if (!max_messages) return std::nullopt;
  detail::check_at_least("max_messages", *max_messages, 1);
  if (*max_messages == std::numeric_limits<std::int32_t>::max()) return std::nullopt;
  return std::int64_t{*max_messages} + 1;
}

[[noreturn]] void throw_overflow(const Call& call, std::int32_t limit, std::string sqlstate,
                                 std::string server_message) {
  Error::Facts facts;
  facts.operation = call.describe();
  facts.server_message = std::move(server_message);
  facts.sqlstate = std::move(sqlstate);
  facts.advice = "the batch has more than " + std::to_string(limit) +
                 " messages; receive it with a larger limit or none, do not ack it";
  throw BatchOverflow{std::move(facts), limit};
}

std::vector<Message> receive_limited(detail::Executor& executor, const verbs::Receiver& receiver, const Call& call,
                                     std::optional<std::int32_t> limit) {
  std::vector<Message> messages;
  try {
    messages = verbs::receive(executor, receiver, server_limit(limit), call).messages;
  } catch (const Error& error) {
    // SQLSTATE 54000 alone may be any program limit, such as a name that is too long for an index.
    if (!limit || error.sqlstate() != "54000" || error.server_message().find("max_return") == std::string::npos) throw;
    throw_overflow(call, *limit, error.sqlstate(), error.server_message());
  }
  if (limit && messages.size() > static_cast<std::size_t>(*limit)) throw_overflow(call, *limit, {}, {});
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
  executor_->home().require("pgque");
  return *executor_;
}

EventId Operations::send(std::string_view queue, const Payload& payload, std::string_view type) {
  detail::check_queue(queue);
  if (executor().on_send()) return send_changed(executor(), queue, Event{payload, std::string{type}});
  detail::check_text("type", type);
  if (payload.text()) detail::check_text("payload", *payload.text());
  return verbs::send_event(executor(), queue, {&payload, type_or_default(type)});
}

EventId Operations::send(std::string_view queue, const Event& event) {
  detail::check_queue(queue);
  return executor().on_send() ? send_changed(executor(), queue, event) : send_checked(executor(), queue, event);
}

std::vector<EventId> Operations::send_batch(std::string_view queue, std::string_view type,
                                            const std::vector<Payload>& payloads) {
  detail::check_queue(queue);
  if (executor().on_send()) {
    std::vector<Event> events;
    events.reserve(payloads.size());
    for (const auto& payload : payloads) events.push_back({payload, std::string{type}});
    return send_changed(executor(), queue, std::move(events));
  }
  detail::check_text("type", type);
  return verbs::send_batch(executor(), queue, type_or_default(type), payloads);
}

std::vector<EventId> Operations::send_batch(std::string_view queue, const std::vector<Event>& events) {
  detail::check_queue(queue);
  return executor().on_send() ? send_changed(executor(), queue, events) : send_checked(executor(), queue, events);
}

bool Operations::subscribe(std::string_view queue, std::string_view consumer) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  return verbs::ask(executor(), detail::sql::subscribe, {queue, consumer}, {"subscribe", queue, consumer}) != 0;
}

bool Operations::unsubscribe(std::string_view queue, std::string_view consumer) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  return verbs::ask(executor(), detail::sql::unsubscribe, {queue, consumer}, {"unsubscribe", queue, consumer}) != 0;
}

std::vector<Message> Operations::receive(std::string_view queue, std::string_view consumer,
                                         std::optional<std::int32_t> max_messages) {
  detail::check_queue(queue);
  detail::check_consumer("consumer", consumer);
  return receive_limited(executor(), {queue, consumer}, {"receive", queue, consumer}, max_messages);
}

bool Operations::ack(BatchId batch) {
  return verbs::ack(executor(), batch, {"ack", {}, {}, batch});
}

void Operations::nack(const Message& message, const NackOptions& options) {
  nack(message.batch_id, message.msg_id, options);
}

void Operations::nack(BatchId batch, EventId message, const NackOptions& options) {
  detail::check_retry_after(options.retry_after);
  if (options.reason) detail::check_text("reason", *options.reason);
  verbs::nack(executor(), batch, message, options.retry_after, options.reason);
}

bool Operations::subscribe_subconsumer(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                                       bool convert_normal) {
  check_members(queue, consumer, subconsumer);
  return verbs::subscribe_subconsumer(executor(), {queue, consumer, subconsumer}, convert_normal);
}

bool Operations::unsubscribe_subconsumer(std::string_view queue, std::string_view consumer,
                                         std::string_view subconsumer, BatchHandling batch_handling) {
  check_members(queue, consumer, subconsumer);
  return verbs::ask(executor(), detail::sql::unsubscribe_subconsumer,
                    {queue, consumer, subconsumer, std::int64_t{static_cast<std::int32_t>(batch_handling)}},
                    {"unsubscribe_subconsumer", queue, consumer}) != 0;
}

std::vector<Message> Operations::receive_coop(std::string_view queue, std::string_view consumer,
                                              std::string_view subconsumer, const ReceiveCoopOptions& options) {
  check_members(queue, consumer, subconsumer);
  return receive_limited(executor(), {queue, consumer, subconsumer, options.dead_interval},
                         {"receive_coop", queue, consumer}, options.max_messages);
}

bool Operations::touch_subconsumer(std::string_view queue, std::string_view consumer, std::string_view subconsumer) {
  check_members(queue, consumer, subconsumer);
  return verbs::touch(executor(), {queue, consumer, subconsumer});
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
  return verbs::ticker_all(executor(), {"ticker_all"});
}

}  // namespace pgque
