#include "database/verbs.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"
#include "database/text_array.hpp"
#include "support/checks.hpp"
#include "support/json_syntax.hpp"
#include "support/text.hpp"

namespace pgque::detail::verbs {

namespace {

// Calls use(statement, parameters) with the statement that receives for this receiver.
template <class Use>
auto with_receive(const Receiver& receiver, std::optional<std::int64_t> limit, const Use& use) {
  if (receiver.subconsumer.empty()) return use(sql::receive, Params{receiver.queue, receiver.consumer, limit});
  return use(sql::receive_coop, Params{receiver.queue, receiver.consumer, receiver.subconsumer, limit,
                                       microseconds_of("dead_interval", receiver.dead_interval)});
}

// The last column of the first row, which only the statements of workers have.
std::string taken_from(const pqxx::result& rows, int column) {
  if (rows.empty() || static_cast<int>(rows.columns()) <= column) return {};
  const auto field = rows[0][static_cast<pqxx::row_size_type>(column)];
  return field.is_null() ? std::string{} : std::string{field.c_str(), field.size()};
}

constexpr int after_message = 10;

Received received(const pqxx::result& rows) {
  return {read_messages(rows), taken_from(rows, after_message)};
}

FirstPage first_page(const pqxx::result& rows, std::int64_t size) {
  const auto count = static_cast<std::int64_t>(rows.size());
  FirstPage page;
  page.taken_from = taken_from(rows, after_message);
  if (count == 0 || (count <= size && !rows[0][0].is_null())) {
    page.whole_batch = read_messages(rows);
  } else if (!rows[0][1].is_null()) {
    page.batch = BatchId{rows[0][1].as<std::int64_t>()};
  }
  return page;
}

bool is_json(const Payload& payload) {
  return payload.format() == Payload::Format::json;
}

bool is_plain(const EventRow& event) {
  return !event.key && !event.headers;
}

template <class Text>
std::size_t size_of(const std::optional<Text>& text) {
  return text ? text->size() : 0;
}

// An array of booleans, as text, that tells which payloads are JSON.
template <class PayloadAt>
std::string json_flags(std::size_t count, const PayloadAt& payload_at) {
  std::string flags = "{";
  for (std::size_t i = 0; i < count; ++i) flags += is_json(payload_at(i)) ? "t," : "f,";
  flags.back() = '}';
  return flags;
}

[[noreturn]] void throw_refused(const Error& error, std::string advice) {
  Error::Facts facts;
  facts.operation = error.operation();
  facts.server_message = error.server_message();
  facts.sqlstate = error.sqlstate();
  facts.advice = std::move(advice);
  throw Error{std::move(facts)};
}

constexpr const char* no_json =
    R"(: is not JSON. Text is taken for JSON: pgque::text("...") stores any text as it is, and json("...") )"
    "is a JSON string. Perhaps type and payload are swapped: the order is send(queue, payload, type), "
    "send_batch(queue, type, payloads), Event{payload, type}";

constexpr const char* verbatim = R"(; pgque::text("...") stores any text as it is)";

// Runs what sends these payloads. If the server refuses one as JSON, the error says what to do and, where that can be
// known, which one it is, by argument(i).
template <class PayloadAt, class Argument, class Send>
auto explained(std::size_t count, const PayloadAt& payload_at, const Argument& argument, const Send& send) {
  try {
    return send();
  } catch (const Error& error) {
    const auto& state = error.sqlstate();
    const auto refuse_first = [&](const auto& is_refused, const auto& advice) {
      for (std::size_t i = 0; i < count; ++i) {
        const Payload& payload = payload_at(i);
        const auto& text = payload.text();
        if (is_json(payload) && text && is_refused(*text)) throw_refused(error, advice(i));
      }
    };
    const auto any = [](const std::string&) { return true; };
    if (state == "22P02") {
      refuse_first([](const std::string& text) { return !JsonSyntax::accepts(text); },
                   [&](std::size_t i) { return argument(i) + no_json; });
    } else if (state == "22P05") {
      refuse_first(has_escaped_nul, [&](std::size_t i) {
        return argument(i) + ": has the escape \\u0000, which jsonb cannot hold" + verbatim;
      });
    } else if (state == "22003") {
      refuse_first(any,
                   [](std::size_t) { return std::string{"a number in a payload is too large for jsonb"} + verbatim; });
    } else if (state == "54001") {
      refuse_first(any, [](std::size_t) { return std::string{"a payload is nested too deeply for jsonb"} + verbatim; });
    }
    throw;
  }
}

std::string payload_of_event(std::size_t i) {
  return "events[" + std::to_string(i) + "].payload";
}

std::vector<EventId> read_ids(const pqxx::result& result, std::size_t count) {
  std::vector<EventId> ids;
  ids.reserve(count);
  for_each_row(result, [&](auto field) {
    for (const auto id : parse_int64_array({field->c_str(), field->size()})) ids.push_back(EventId{id});
  });
  return ids;
}

// Payloads of one type, which errors name by argument(i).
template <class PayloadAt, class Argument>
std::vector<EventId> send_payloads(Executor& executor, std::string_view queue, std::string_view type, std::size_t count,
                                   const PayloadAt& payload_at, const Argument& argument) {
  const Call call{"send_batch", queue};
  if (count == 0) {
    executor.require_usable(call);
    return {};
  }

  std::size_t bytes = 0;
  std::size_t json = 0;
  for (std::size_t i = 0; i < count; ++i) {
    bytes += size_of(payload_at(i).text());
    json += is_json(payload_at(i)) ? 1U : 0U;
  }
  check_message(bytes, call);
  TextArray array{count, bytes};
  for (std::size_t i = 0; i < count; ++i) {
    const auto& text = payload_at(i).text();
    if (text && first_invalid_byte(*text)) check_text(argument(i), *text);
    array.add(text);
  }

  const auto encoded = Param::binary(array.bytes());
  if (json == 0) return read_ids(executor.run(sql::send_batch_text, {queue, type, encoded}, call), count);
  return explained(count, payload_at, argument, [&] {
    if (json == count) return read_ids(executor.run(sql::send_batch_json, {queue, type, encoded}, call), count);
    return read_ids(executor.run(sql::send_batch_mixed, {queue, type, json_flags(count, payload_at), encoded}, call),
                    count);
  });
}

}  // namespace

std::int64_t ask(Executor& executor, const Statement& statement, Params params, const Call& call) {
  const auto value = read_int64(executor.run(statement, params, call));
  if (value) return *value;
  Error::Facts facts;
  facts.operation = call.describe();
  facts.advice = "the server returned NULL";
  throw Error{std::move(facts)};
}

std::vector<EventId> send_batch(Executor& executor, std::string_view queue, std::string_view type,
                                const std::vector<Payload>& payloads) {
  return send_payloads(
      executor, queue, type, payloads.size(), [&](std::size_t i) -> const Payload& { return payloads[i]; },
      [](std::size_t i) { return "payloads[" + std::to_string(i) + ']'; });
}

EventId send_event(Executor& executor, std::string_view queue, const EventRow& event) {
  const bool json = is_json(*event.payload);
  const auto& text = event.payload->text();
  const Call call{"send", queue};
  const auto send = [&] {
    if (is_plain(event)) {
      return EventId{ask(executor, json ? sql::send_json : sql::send_text, {queue, event.type, text}, call)};
    }
    return EventId{ask(executor, json ? sql::insert_event_json : sql::insert_event_text,
                       {queue, event.type, text, event.key, event.headers}, call)};
  };
  return explained(
      1, [&](std::size_t) -> const Payload& { return *event.payload; },
      [](std::size_t) { return std::string{"payload"}; }, send);
}

std::vector<EventId> send_events(Executor& executor, std::string_view queue, const std::vector<EventRow>& events) {
  const auto payload = [&](std::size_t i) -> const Payload& { return *events[i].payload; };
  const auto like_the_first = [&](const EventRow& event) {
    return is_plain(event) && event.type == events.front().type;
  };
  if (std::all_of(events.begin(), events.end(), like_the_first)) {
    return send_payloads(executor, queue, events.empty() ? std::string_view{} : events.front().type, events.size(),
                         payload, payload_of_event);
  }

  const Call call{"send_batch", queue};
  constexpr std::size_t texts = 4;
  std::size_t bytes = 0;
  for (const auto& event : events) {
    bytes += size_of(event.payload->text()) + event.type.size() + size_of(event.key) + size_of(event.headers);
  }
  check_message(bytes + events.size() * texts * sizeof(std::int32_t), call);
  TextArray array{events.size() * texts, bytes};
  for (const auto& event : events) array.add(event.payload->text());
  for (const auto& event : events) array.add(event.type);
  for (const auto& event : events) array.add(event.key);
  for (const auto& event : events) array.add(event.headers);
  return explained(events.size(), payload, payload_of_event, [&] {
    return read_ids(executor.run(sql::insert_events,
                                 {queue, json_flags(events.size(), payload), static_cast<std::int64_t>(events.size()),
                                  Param::binary(array.bytes())},
                                 call),
                    events.size());
  });
}

Received receive(Executor& executor, const Receiver& receiver, std::optional<std::int64_t> limit, const Call& call) {
  return with_receive(receiver, limit, [&](const Statement& statement, Params params) {
    return received(executor.run(statement, params, call));
  });
}

FirstPage receive_page(Executor& executor, const Receiver& receiver, std::int64_t size, const Call& call) {
  const auto rows = receiver.subconsumer.empty()
                        ? executor.run(sql::receive_first, {receiver.queue, receiver.consumer, size}, call)
                        : executor.run(sql::receive_coop_first,
                                       {receiver.queue, receiver.consumer, receiver.subconsumer,
                                        microseconds_of("dead_interval", receiver.dead_interval), size},
                                       call);
  return first_page(rows, size);
}

FirstPage receive_tuned(Executor& executor, const Receiver& receiver, std::int64_t size, const Call& call) {
  const auto min_lag = microseconds_of("min_lag", receiver.min_lag);
  const auto rows =
      receiver.subconsumer.empty()
          ? executor.run(sql::receive_tuned, {receiver.queue, receiver.consumer, size, receiver.catch_up, min_lag},
                         call)
          : executor.run(sql::receive_coop_tuned,
                         {receiver.queue, receiver.consumer, receiver.subconsumer,
                          microseconds_of("dead_interval", receiver.dead_interval), size, receiver.catch_up, min_lag},
                         call);
  return first_page(rows, size);
}

Received open_batch_cursor(TransactionExecutor& transaction, const Receiver& receiver, bool hold, std::int64_t rows,
                           const Call& call) {
  return with_receive(receiver, std::nullopt, [&](const Statement& statement, Params params) {
    const auto declare = sql::batch_cursor.declare(hold, render(transaction.work(), statement, params));
    return received(transaction.run_plain(declare + "; " + sql::batch_cursor.fetch(rows), call));
  });
}

NextBatch next_batch(Executor& executor, const Receiver& receiver, const Call& call) {
  const auto min_lag = microseconds_of("min_lag", receiver.min_lag);
  const auto rows = receiver.subconsumer.empty()
                        ? executor.run(sql::next_batch, {receiver.queue, receiver.consumer, min_lag}, call)
                        : executor.run(sql::next_batch_coop,
                                       {receiver.queue, receiver.consumer, receiver.subconsumer,
                                        microseconds_of("dead_interval", receiver.dead_interval), min_lag},
                                       call);
  const auto batch = read_int64(rows);
  return {batch ? std::optional{BatchId{*batch}} : std::nullopt, taken_from(rows, 1)};
}

std::optional<std::chrono::microseconds> ripens_in(Executor& executor, const Receiver& receiver, const Call& call) {
  const auto time = read_int64(executor.run(
      sql::ripens_in, {receiver.queue, receiver.consumer, microseconds_of("min_lag", receiver.min_lag)}, call));
  return time ? std::optional{std::chrono::microseconds{*time}} : std::nullopt;
}

bool subscribe_subconsumer(Executor& executor, const Receiver& receiver, bool convert_normal) {
  return ask(executor, sql::subscribe_subconsumer,
             {receiver.queue, receiver.consumer, receiver.subconsumer, std::int64_t{convert_normal}},
             {"subscribe_subconsumer", receiver.queue, receiver.consumer}) != 0;
}

std::optional<LatestTick> latest_tick(AutocommitExecutor& executor, std::string_view queue, const Call& call) {
  std::optional<LatestTick> latest;
  std::string waiting;
  for_each_row(executor.run(sql::latest_tick, {queue}, call), [&](auto field) {
    RowReader row{field};
    auto& tick = latest.emplace();
    tick.age = row.duration();
    tick.longest_idle = row.duration();
    tick.longest_wait = row.duration();
    tick.paused = row.boolean();
    tick.external = row.boolean();
    const auto events = row.text_or_empty();
    const auto queue_id = row.integer();
    if (!events.empty()) waiting = sql::oldest_waiting(events, queue_id, row.integer());
  });
  if (!waiting.empty()) {
    for_each_row(executor.run_plain(waiting, call), [&](auto field) {
      latest->waiting = RowReader{field}.template optional<std::chrono::microseconds>();
    });
  }
  return latest;
}

bool ack(Executor& executor, BatchId batch, const Call& call) {
  return ask(executor, sql::ack, {static_cast<std::int64_t>(batch)}, call) != 0;
}

void nack(Executor& executor, BatchId batch, EventId message, std::chrono::seconds delay,
          const std::optional<std::string>& reason) {
  const Call call{"nack", {}, {}, batch};
  const auto nack = [&](auto how, const std::optional<std::string>& text) {
    (executor.*how)(
        sql::nack,
        {static_cast<std::int64_t>(batch), static_cast<std::int64_t>(message), std::int64_t{delay.count()}, text},
        call);
  };
  if (!reason || is_ascii(*reason)) return nack(&Executor::run, reason);
  try {
    nack(&Executor::attempt, reason);
  } catch (const Error& error) {
    if (!is_untranslatable(error)) throw;
    nack(&Executor::run, ascii_only(*reason));
  }
}

bool batch_is_open(Executor& executor, const Receiver& receiver, BatchId batch, const Call& call) {
  std::string consumer{receiver.consumer};
  if (!receiver.subconsumer.empty()) consumer.append(".").append(receiver.subconsumer);
  return ask(executor, sql::batch_is_open, {static_cast<std::int64_t>(batch), receiver.queue, consumer}, call) != 0;
}

bool touch(Executor& executor, const Receiver& receiver) {
  return ask(executor, sql::touch_subconsumer, {receiver.queue, receiver.consumer, receiver.subconsumer},
             {"touch_subconsumer", receiver.queue, receiver.consumer}) != 0;
}

Touched touch_with_batch(Executor& executor, const Receiver& receiver, BatchId batch) {
  Touched touched;
  const auto result =
      executor.run(sql::touch_and_find_batch,
                   {receiver.queue, receiver.consumer, receiver.subconsumer, static_cast<std::int64_t>(batch)},
                   {"touch_subconsumer", receiver.queue, receiver.consumer, batch});
  for_each_row(result, [&](auto field) {
    RowReader row{field};
    touched.registered = row.boolean();
    touched.has_batch = row.boolean();
  });
  return touched;
}

std::set<std::pair<EventId, std::int32_t>> nacked(Executor& executor, BatchId batch, EventId first, const Call& call) {
  std::set<std::pair<EventId, std::int32_t>> out;
  const auto result =
      executor.run(sql::nacked, {static_cast<std::int64_t>(batch), static_cast<std::int64_t>(first)}, call);
  for_each_row(result, [&](auto field) {
    RowReader row{field};
    const EventId id{row.integer()};
    out.emplace(id, row.int32());
  });
  return out;
}

std::int64_t ticker_all(Executor& executor, const Call& call) {
  return ask(executor, sql::ticker_all, {}, call);
}

void maint(Executor& executor) {
  executor.run(sql::maint, {}, {"maint"});
}

void rotate_step2(Executor& executor) {
  executor.run(sql::rotate_step2, {}, {"maint_rotate_tables_step2"});
}

std::int64_t maint_retry_events(Executor& executor) {
  return ask(executor, sql::maint_retry_events, {}, {"maint_retry_events"});
}

void configure_session(AutocommitExecutor& executor, const Call& call) {
  executor.run_plain(sql::last_as_long_as_needed, call);
}

}  // namespace pgque::detail::verbs
