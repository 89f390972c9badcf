#include "peek.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <pgque/error.hpp>
#include <pgque/pqxx.hpp>
#include <pqxx/pqxx>

#include "database/pqxx_compat.hpp"

namespace pgque::tool {

namespace {

// As many windows and, as far as their numbers tell, as many events as one statement reads.
constexpr std::int64_t most_windows = 1000;
constexpr std::int64_t most_events = 10'000;

struct Subscription {
  std::string queue_id;
  std::string table;  // all event tables of the queue
  std::string id;
  std::optional<std::int64_t> last_tick;
  std::string batch;  // empty if none is open
  std::optional<std::int64_t> next_tick;
};

// Reads the fields of a row one after another.
template <class Iterator>
class Fields {
 public:
  explicit Fields(Iterator field) : field_{std::move(field)} {}
  std::optional<std::string> text() {
    const auto field = field_++;
    return field->is_null() ? std::nullopt : std::optional{std::string{field->c_str(), field->size()}};
  }
  std::string text_or(const char* otherwise) { return text().value_or(otherwise); }
  std::optional<std::int64_t> number() {
    const auto text = this->text();
    return text ? std::optional{std::int64_t{std::stoll(*text)}} : std::nullopt;
  }

 private:
  Iterator field_;
};

class Peek {
 public:
  Peek(Client& client, const PeekOptions& options, const std::function<void(const Shown&)>& show)
      : work_{native(client)}, options_{options}, show_{show} {}

  void run() {
    // The group's position is past the open batch of a worker, which comes first.
    if (!options_.subconsumer.empty()) {
      const auto worker = find(options_.consumer + '.' + options_.subconsumer);
      if (worker) read_batch(*worker);
    }
    const auto found = find(options_.consumer);
    if (!found || !found->last_tick) return;
    auto from = *found->last_tick;
    if (read_batch(*found)) from = *found->next_tick;
    while (!full()) {
      const auto upto = end_of_piece(*found, from);
      if (upto == from) return;
      const auto seen_before = seen_;
      read(*found, "null",
           "tick_id operator(pg_catalog.>=) " + std::to_string(from) + " and tick_id operator(pg_catalog.<=) " +
               std::to_string(upto));
      from = upto;
      // A forced tick skips thousands of numbers, and most numbers may be those of events that were never committed.
      scale_ = seen_ == seen_before ? std::min(2 * scale_, most_windows) : 1;
    }
  }

 private:
  bool full() const { return options_.limit != 0 && seen_ >= options_.limit; }

  std::optional<Subscription> find(const std::string& consumer) {
    const auto rows = work_.exec(
        "select queue_id, queue_data_pfx, sub_id, sub_last_tick, sub_batch, sub_next_tick from pgque.subscription, "
        "pgque.queue, pgque.consumer where sub_queue operator(pg_catalog.=) queue_id and sub_consumer "
        "operator(pg_catalog.=) co_id and queue_name operator(pg_catalog.=) " +
        work_.quote(options_.queue) + "::pg_catalog.text and co_name operator(pg_catalog.=) " + work_.quote(consumer) +
        "::pg_catalog.text");
    std::optional<Subscription> found;
    detail::for_each_row(rows, [&](auto first) {
      Fields field{first};
      found.emplace();
      found->queue_id = field.text_or("");
      const auto table = field.text_or("");
      const auto dot = table.find('.');
      found->table = work_.quote_name(table.substr(0, dot)) + '.' + work_.quote_name(table.substr(dot + 1));
      found->id = field.text_or("");
      found->last_tick = field.number();
      found->batch = field.text_or("");
      found->next_tick = field.number();
    });
    return found;
  }

  // The last tick of what is read next; `from` at the end.
  std::int64_t end_of_piece(const Subscription& of, std::int64_t from) {
    const auto ticks =
        work_.exec("select tick_id, tick_event_seq from pgque.tick where tick_queue operator(pg_catalog.=) " +
                   of.queue_id + " and tick_id operator(pg_catalog.>=) " + std::to_string(from) +
                   " order by tick_id limit " + std::to_string(most_windows + 1));
    const auto left = options_.limit == 0 ? most_events : std::min(most_events, options_.limit - seen_);
    auto upto = from;
    std::optional<std::int64_t> first;
    bool enough = false;
    detail::for_each_row(ticks, [&](auto field_of_row) {
      Fields field{field_of_row};
      const auto tick = field.number().value_or(from);
      const auto events = field.number().value_or(0);
      if (!first) first = events;
      if (!enough) upto = tick;
      enough = enough || (tick != from && events - *first >= left * scale_);
    });
    return upto;
  }

  // Whether there is an open batch.
  bool read_batch(const Subscription& of) {
    if (of.batch.empty() || !of.last_tick || !of.next_tick) return false;
    read(of, of.batch,
         "tick_id operator(pg_catalog.=) " + std::to_string(*of.last_tick) + " or tick_id operator(pg_catalog.=) " +
             std::to_string(*of.next_tick));
    return true;
  }

  // The events of the windows between these ticks. A window has what its second tick's snapshot sees and its first
  // one's does not: of the transactions that were open or not begun at the first, those that were finished at the
  // second.
  void read(const Subscription& of, const std::string& batch, const std::string& ticks) {
    static constexpr const char* columns =
        "ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4";
    const auto rows = work_.exec(
        "with piece as materialized (select tick_id, tick_snapshot as upto, pg_catalog.lag(tick_snapshot) over (order "
        "by tick_id) as since from pgque.tick where tick_queue operator(pg_catalog.=) " +
        of.queue_id + " and (" + ticks +
        ")) select e.ev_id, e.ev_retry, case when pg_catalog.isfinite(e.ev_time) then " +
        "pg_catalog.to_char(pg_catalog.timezone('UTC', e.ev_time), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') else "
        "e.ev_time::pg_catalog.text end, e.ev_type, e.ev_data, e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4 from "
        "piece cross join lateral (select " +
        columns + " from " + of.table +
        " where ev_txid operator(pg_catalog.>=) pg_catalog.pg_snapshot_xmax(piece.since) and ev_txid "
        "operator(pg_catalog.<) pg_catalog.pg_snapshot_xmax(piece.upto) and "
        "pg_catalog.pg_visible_in_snapshot(ev_txid, piece.upto) union all select " +
        columns + " from pg_catalog.pg_snapshot_xip(piece.since) as open(txid), " + of.table +
        " where ev_txid operator(pg_catalog.=) open.txid and pg_catalog.pg_visible_in_snapshot(open.txid, piece.upto)) "
        "e where piece.since is not null and (e.ev_owner is null or e.ev_owner operator(pg_catalog.=) " +
        of.id + ") order by piece.tick_id, e.ev_id" +
        (options_.limit == 0 ? "" : " limit " + std::to_string(options_.limit - seen_)));
    detail::for_each_row(rows, [&](auto first) {
      Fields field{first};
      Shown shown;
      shown.msg_id = field.text_or("null");
      shown.batch_id = batch;
      shown.retry_count = field.text_or("null");
      shown.created_at = field.text_or("");
      shown.type = field.text();
      shown.payload = field.text();
      for (auto& extra : shown.extras) extra = field.text();
      show_(shown);
      ++seen_;
    });
  }

  pqxx::nontransaction work_;
  const PeekOptions& options_;
  const std::function<void(const Shown&)>& show_;
  std::int64_t seen_ = 0;
  std::int64_t scale_ = 1;  // how many numbers there are to an event, by what the last pieces had
};

// As the library does with the errors of its own statements.
[[noreturn]] void throw_mapped(const std::exception& error, const PeekOptions& options, bool open) {
  const auto [kind, sqlstate] = detail::classify(error);
  Error::Facts facts;
  facts.operation = "tail (queue \"" + options.queue + "\", consumer \"" + options.consumer + "\")";
  facts.sqlstate = sqlstate;
  if (kind == detail::PqxxFailure::lost && !open) {
    facts.retryable = true;  // it only reads
    facts.advice = "the connection was lost";
    throw ConnectionError{std::move(facts)};
  }
  // "ERROR:  message\nCONTEXT:  ..."
  std::string_view message{error.what()};
  message = message.substr(0, message.find('\n'));
  if (const auto label = message.find(":  "); label != std::string_view::npos) message.remove_prefix(label + 3);
  facts.server_message = message;
  if (sqlstate == "22021") {
    facts.advice =
        "a message has bytes that are not UTF-8, which a database with encoding SQL_ASCII stores, and which will block "
        "its batch: in psql, set client_encoding to SQL_ASCII, read the batch with pgque.receive (a worker's with "
        "pgque.receive_coop) and finish it with pgque.ack";
  }
  throw Error{std::move(facts)};
}

}  // namespace

void peek(Client& client, const PeekOptions& options, const std::function<void(const Shown&)>& show) {
  try {
    Peek{client, options, show}.run();
  } catch (const pqxx::failure& error) {
    throw_mapped(error, options, native(client).is_open());
  }
}

}  // namespace pgque::tool
