#include "doctor/observe.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/executor.hpp"
#include "database/row.hpp"
#include "database/session.hpp"
#include "database/sql.hpp"
#include "support/text.hpp"
#include "support/wakeup.hpp"

namespace pgque::detail {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Whether a notification sent by this connection reaches it.
bool notification_arrives(Session& session, Executor& executor) {
  const Call call{"listen"};
  const auto channel = "pgque_doctor_" + std::to_string(std::random_device{}());
  bool arrived = false;
  auto& connection = session.idle_connection(call);
  try {
    // No UNLISTEN is necessary, because the connection ends with the diagnosis.
    const Listener listener{connection, channel, [&] { arrived = true; }};
    executor.run(sql::notify, {channel}, call);
    const Wakeup unsignalled;
    const auto deadline = std::chrono::steady_clock::now() + seconds{2};
    while (!arrived) {
      connection.get_notifs();
      if (arrived) break;
      if (unsignalled.wait(connection.sock(), deadline) == Wakeup::Woken::timeout) break;
    }
    return arrived;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (!connection.is_open()) throw_mapped(error, {call, Role::none, false});
    return false;
  }
}

// An administrator may lock a table of events for long, and who diagnoses that must not wait as well.
constexpr seconds longest_lock{1};

// What is needed to find the events that wait for a tick.
struct EventsState {
  std::int64_t queue_id = 0;
  std::int64_t tick_id = 0;
  std::optional<bool> numbered;  // whether events were numbered since the tick
  std::string table;             // empty if the role may not read it
};

class Examination {
 public:
  Examination(const Dsn& dsn, const DiagnoseOptions& options)
      : options_{options}, session_{Session::connect(dsn, session_options(options))}, executor_{session_} {}

  Observations observe() {
    server();
    if (!seen_.installed) return std::move(seen_);
    install();
    if (!seen_.visible) return std::move(seen_);
    if (seen_.reader) {
      each(sql::server_version, {}, [&](auto row) { seen_.version = row.text_or_empty(); });
      each(sql::doctor_config, {}, [&](auto row) { seen_.scheduler = row.text_or_empty(); });
      each(sql::doctor_dead_letters, {std::int64_t{options_.recent.count()}}, [&](auto row) {
        auto& letters = seen_.dead_letters.emplace_back();
        letters.queue = name(row);
        letters.count = row.integer();
        letters.recent = row.integer();
      });
    }
    ticker();
    queues_twice();
    consumers();
    return std::move(seen_);
  }

 private:
  template <class Visit>
  void each(const Statement& statement, Params params, const Visit& visit) {
    for_each_row(run(statement, params), [&](auto field) { visit(RowReader{field}); });
  }

  // In a database that checks no encoding, one name with other bytes would make every statement fail that reads it.
  pqxx::result run(const Statement& statement, Params params) {
    if (!raw_) {
      try {
        return executor_.run(statement, params, call_);
      } catch (const Error& error) {
        if (error.sqlstate() != "22021" && error.sqlstate() != "22P05") throw;
        seen_.unreadable = error.server_message();
        raw_.emplace(session_, "set local client_encoding to 'SQL_ASCII';");
      }
    }
    return raw_->run(statement, params, call_);
  }

  template <class Row>
  std::string name(Row& row) {
    auto text = row.text_or_empty();
    constexpr std::size_t longest = 4096;
    return raw_ ? sanitized(text, longest) : text;
  }

  void server() {
    std::int64_t pid = 0;
    each(sql::doctor_server, {}, [&](auto row) {
      seen_.user = name(row);
      seen_.database = name(row);
      seen_.standby = row.boolean();
      seen_.read_only = row.boolean();
      pid = row.integer();
      seen_.installed = row.boolean();
      seen_.encoding = row.text_or_empty();
    });
    seen_.pooler = pid != backend_pid(session_->connection());
    if (!seen_.standby) seen_.notified = notification_arrives(*session_, executor_);
  }

  void install() {
    try {
      each(sql::doctor_install, {}, [&](auto row) {
        seen_.missing = row.text_or_empty();
        seen_.reader = row.boolean();
        seen_.writer = row.boolean();
        seen_.admin = row.boolean();
        seen_.slots = row.boolean();
        seen_.any_hash = row.boolean() || !seen_.slots;
      });
    } catch (const Error& error) {
      if (error.sqlstate() != "42501") throw;
      seen_.visible = false;
    }
  }

  // A Ticker behind a pooler has the lock only in the transactions in which it ticks; one with a direct connection has
  // it always, and is mostly idle.
  void ticker() {
    constexpr int looks = 4;
    for (int look = 0; look < looks; ++look) {
      if (look != 0) std::this_thread::sleep_for(milliseconds{50});
      look_for_leader();
      if (!seen_.leader || seen_.leader->idle) return;
    }
  }

  void look_for_leader() {
    seen_.leader.reset();
    each(sql::doctor_ticker, {sql::leader_lock_class, sql::leader_lock_object}, [&](auto row) {
      LeaderState leader;
      leader.pid = row.optional_integer().value_or(0);
      leader.application = name(row);
      leader.idle = row.template optional<std::chrono::microseconds>();
      if (leader.pid != 0) seen_.leader = std::move(leader);
      seen_.ticker_sessions = row.boolean();
    });
  }

  // An event that a long transaction has just committed is old, and so is one that has just come back for a retry, but
  // neither has waited for a tick. A scheduler that works makes that tick within a second.
  void queues_twice() {
    const auto deadline = std::chrono::steady_clock::now() + seconds{3};
    for (;;) {
      queues();
      const bool late = std::any_of(seen_.queues.begin(), seen_.queues.end(), waits_too_long);
      if (!late || std::chrono::steady_clock::now() >= deadline) return;
      std::this_thread::sleep_for(milliseconds{200});
    }
  }

  void queues() {
    seen_.queues.clear();
    std::vector<EventsState> events;
    each(sql::doctor_queues, {}, [&](auto row) {
      auto& queue = seen_.queues.emplace_back();
      queue.name = name(row);
      queue.paused = row.boolean();
      queue.external_ticker = row.boolean();
      queue.inserts_disabled = row.boolean();
      queue.max_lag = row.duration();
      queue.idle_period = row.duration();
      queue.rotation_period = row.duration();
      queue.rotated_ago = row.duration();
      queue.rotation_half_done = row.boolean();
      queue.ticks = row.integer();
      queue.tick_age = row.duration();
      queue.tick_transaction = row.integer();
      seen_.transaction = row.integer();  // in the same snapshot, because ticks go on
      queue.consumers = row.integer();
      queue.due_retries = row.integer();
      queue.retries_overdue = row.duration();
      auto& waiting = events.emplace_back();
      waiting.queue_id = row.integer();
      waiting.tick_id = row.integer();
      if (const auto numbered = row.optional_integer()) waiting.numbered = *numbered != 0;
      waiting.table = row.text_or_empty();
    });
    for (std::size_t i = 0; i < events.size(); ++i) seen_.queues[i].waiting = waiting(seen_.queues[i], events[i]);
  }

  std::optional<std::chrono::microseconds> waiting(const QueueState& queue, const EventsState& events) {
    const bool to_be_ticked = !queue.paused && !queue.external_ticker && queue.tick_transaction <= seen_.transaction;
    // On a standby, a tick may be missing because it is not there yet.
    if (seen_.standby || !to_be_ticked || !too_long(queue, queue.tick_age)) return std::nullopt;
    // A ticker ticks when the queue's sequence has gone on.
    if (!events.numbered.value_or(true)) return std::nullopt;
    const auto by_sequence = events.numbered ? std::optional{queue.tick_age} : std::nullopt;
    if (events.table.empty() || locked_.count(events.table) != 0) return by_sequence;
    std::optional<std::chrono::microseconds> age;
    try {
      const auto oldest =
          executor_.run_plain(sql::set_milliseconds(true, "lock_timeout", milliseconds{longest_lock}.count()) + ' ' +
                                  sql::oldest_waiting(events.table, events.queue_id, events.tick_id),
                              call_);
      if (const auto value = read_int64(oldest)) age = std::chrono::microseconds{*value};
    } catch (const Error& error) {
      if (error.sqlstate() == "55P03") {
        locked_.insert(events.table);
        return by_sequence;
      }
      if (error.sqlstate() != "42P01") throw;  // the queue has just been dropped
    }
    return age ? std::optional{std::min(*age, queue.tick_age)} : std::nullopt;
  }

  void consumers() {
    each(sql::doctor_consumers, {}, [&](auto row) {
      auto& consumer = seen_.consumers.emplace_back();
      consumer.queue = name(row);
      consumer.name = name(row);
      consumer.role = parse_consumer_role(row.text_or_empty());
      consumer.group = name(row);
      consumer.batch = row.optional_integer();
      consumer.silent = row.duration();
      consumer.behind = row.duration();
      consumer.last_tick = row.optional_integer();
    });
  }

  const DiagnoseOptions& options_;
  const Call call_{"diagnose"};
  std::shared_ptr<Session> session_;
  AutocommitExecutor executor_;
  std::set<std::string> locked_;           // tables of events that somebody has locked
  std::optional<AutocommitExecutor> raw_;  // once a name was met that cannot be read otherwise
  Observations seen_;
};

}  // namespace

Observations observe(const Dsn& dsn, const DiagnoseOptions& options) {
  return Examination{dsn, options}.observe();
}

}  // namespace pgque::detail
