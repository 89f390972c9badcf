#include "admin/queries.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "database/row.hpp"
#include "database/session_options.hpp"
#include "database/sql.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

constexpr const char* denied_note =
    "this PgQue denies get_queue_info() to pgque_reader, as 0.2.0 does, so new events and events per second are not "
    "known; grant pgque_admin to see them";

template <class Row>
std::optional<Timestamp> read_time_or_null(Row& row) {
  const auto since_epoch = row.template optional<std::chrono::microseconds>();
  return since_epoch ? std::optional{Timestamp{*since_epoch}} : std::nullopt;
}

std::vector<ConsumerInfo> read_consumers(const pqxx::result& rows) {
  std::vector<ConsumerInfo> infos;
  for_each_row(rows, [&](auto field) {
    RowReader row{field};
    auto& info = infos.emplace_back();
    info.queue = row.text_or_empty();
    info.consumer = row.text_or_empty();
    info.role = parse_consumer_role(row.text_or_empty());
    info.group = row.text_or_empty();
    info.lag = row.template optional<std::chrono::microseconds>();
    info.last_seen = row.duration();
    info.last_tick = row.template optional<TickId>();
    info.current_batch = row.template optional<BatchId>();
    info.next_tick = row.template optional<TickId>();
    info.pending_events = row.optional_integer();
    info.last_tick_at = read_time_or_null(row);
    info.last_seen_at = row.time();
    if (info.current_batch) info.open_batch_age = info.last_seen;
  });
  return infos;
}

}  // namespace

[[noreturn]] void throw_queue_not_found(std::string_view queue, const char* verb) {
  Error::Facts facts;
  facts.operation = Call{verb, queue}.describe();
  facts.advice = "there is no such queue";
  throw QueueNotFound{std::move(facts)};
}

bool is_denied_inside_queue_info(const Error& error) {
  return error.sqlstate() == "42501" && error.server_message().find("get_queue_info") == std::string::npos &&
         error.server_message().find("schema") == std::string::npos;
}

bool is_odd_value(const Error& error) {
  return error.sqlstate() == "22003" || error.sqlstate() == "22008";
}

void AdminQueries::require_queue(std::string_view queue, const char* verb) {
  check_queue(queue);
  if (!read_int64(executor_.run(sql::queue_exists, {queue}, {verb, queue}))) throw_queue_not_found(queue, verb);
}

std::optional<TickId> AdminQueries::tick_at(std::string_view queue, Timestamp time) {
  const Call call{"find the tick", queue};
  const std::int64_t at = time.time_since_epoch().count();
  std::optional<TickId> tick;
  std::optional<std::int64_t> before;
  std::int64_t queue_id = 0;
  std::string events;
  for_each_row(executor_.run(sql::tick_at, {queue, at}, call), [&](auto field) {
    RowReader row{field};
    tick = TickId{row.integer()};
    before = row.optional_integer();
    queue_id = row.integer();
    events = row.text_or_empty();
  });
  if (!before) return tick;
  const auto ahead = [&] {
    return read_int64(executor_.run_plain(
        sql::events_ahead_of_tick(events, queue_id, *before, static_cast<std::int64_t>(*tick), at), call));
  };
  // Where they cannot be looked at, there may be some.
  return events.empty() || ahead() != 0 ? TickId{*before} : tick;
}

std::vector<QueueInfo> AdminQueries::queues(const std::optional<std::string>& queue) {
  const Call call{"queue information", queue ? std::string_view{*queue} : std::string_view{}};
  pqxx::result result;
  auto note = denied_;
  if (note.empty()) {
    try {
      result = executor_.run(sql::queue_info, {queue}, call);
    } catch (const Error& error) {
      if (is_denied_inside_queue_info(error)) {
        note = denied_ = denied_note;
      } else if (is_odd_value(error)) {
        note = "PgQue's get_queue_info() failed, so new events and events per second are not known: " +
               error.server_message();
      } else {
        throw;
      }
    }
  }
  if (!note.empty()) result = executor_.run(sql::queue_info_limited, {queue}, call);
  std::vector<QueueInfo> infos;
  for_each_row(result, [&](auto field) {
    RowReader row{field};
    auto& info = infos.emplace_back();
    info.queue = row.text_or_empty();
    info.tables = row.int32();
    info.current_table = row.int32();
    info.rotation_period = row.duration();
    info.rotated_at = row.time();
    info.ticker_max_count = row.int32();
    info.ticker_max_lag = row.duration();
    info.ticker_idle_period = row.duration();
    info.paused = row.boolean();
    info.external_ticker = row.boolean();
    info.inserts_disabled = row.boolean();
    info.max_retries = row.optional_int32();
    info.last_tick = row.template optional<TickId>();
    info.ticker_lag = row.template optional<std::chrono::microseconds>();
    info.new_events = row.optional_integer();
    if (const auto thousandths = row.optional_integer()) {
      info.events_per_second = static_cast<double>(*thousandths) / 1000;
    }
    info.last_tick_at = read_time_or_null(row);
    info.last_tick_event = row.optional_integer();
    info.waiting_retries = row.integer();
    info.note = note;
  });
  return infos;
}

std::vector<ConsumerInfo> AdminQueries::consumers(const std::optional<std::string>& queue,
                                                  const std::optional<std::string>& consumer) {
  const auto view = [](const std::optional<std::string>& name) { return name ? *name : std::string_view{}; };
  const Call call{"consumer information", view(queue), view(consumer)};
  const auto rows = [&] {
    try {
      return executor_.run(sql::consumer_info, {queue, consumer}, call);
    } catch (const Error& error) {
      if (!is_odd_value(error)) throw;
      return executor_.run(sql::consumer_info_from_tables, {queue, consumer}, call);
    }
  };
  return read_consumers(rows());
}

std::map<std::string, std::int64_t> AdminQueries::unticked_events() {
  constexpr std::int64_t most_counted = 10'000;
  const Call call{"count the events without a tick"};
  struct Queue {
    std::string name;
    std::int64_t numbers;  // by which the sequence has gone on
  };
  std::map<std::int64_t, Queue> queues;
  std::string counts;
  for_each_row(executor_.run(sql::unticked_queues, {}, call), [&](auto field) {
    RowReader row{field};
    auto name = row.text_or_empty();
    const auto id = row.integer();
    const auto tick = row.integer();
    const auto numbers = row.integer();
    const auto events = row.text_or_empty();
    if (events.empty()) return;
    queues[id] = {std::move(name), numbers};
    counts += (counts.empty() ? "" : " union all ") + sql::count_unticked(events, id, tick, most_counted);
  });
  std::map<std::string, std::int64_t> unticked;
  if (counts.empty()) return unticked;
  for_each_row(executor_.run_plain(counts, call), [&](auto field) {
    RowReader row{field};
    const auto& queue = queues.at(row.integer());
    const auto count = row.integer();
    unticked[queue.name] = count < most_counted ? count : std::max(count, queue.numbers);
  });
  return unticked;
}

std::vector<ConsumerInfo> AdminQueries::gone_subconsumers(std::chrono::seconds older_than) {
  const Call call{"consumer information"};
  auto workers = read_consumers(executor_.run(sql::silent_workers, {std::int64_t{older_than.count()}}, call));
  std::vector<std::string> sessions;
  for_each_row(executor_.run(sql::worker_sessions, {worker_session_name({})}, call),
               [&](auto field) { sessions.push_back(RowReader{field}.text_or_empty()); });
  const auto has_session = [&](const ConsumerInfo& worker) {
    const auto name = shown_name(worker_session_name(worker.consumer));
    return std::any_of(sessions.begin(), sessions.end(), [&](const std::string& session) {
      return name.exact ? session == name.text : session.compare(0, name.text.size(), name.text) == 0;
    });
  };
  workers.erase(std::remove_if(workers.begin(), workers.end(), has_session), workers.end());
  return workers;
}

bool AdminQueries::unsubscribe_gone(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                                    std::chrono::seconds older_than) {
  const Call call{"unsubscribe_subconsumer", queue, consumer};
  constexpr std::string_view nobody{"pgque consumers --gone"};
  executor_.require_usable(call);
  TransactionExecutor transaction{session_};
  // Nobody has this name, so nothing is removed, but PgQue locks the group's row, which every receive of its workers
  // locks, too: none of them receives until the worker is removed.
  transaction.run(sql::unsubscribe_subconsumer, {queue, consumer, nobody, std::int64_t{0}}, call);
  const auto name = shown_name(worker_session_name(std::string{consumer}.append(".").append(subconsumer)));
  const auto removed = read_int64(transaction.run(
      sql::unsubscribe_gone,
      {queue, consumer, subconsumer, std::int64_t{older_than.count()}, name.text, std::int64_t{!name.exact}}, call));
  transaction.commit(call);
  return removed.value_or(0) != 0;
}

}  // namespace pgque::detail
