#include "doctor/judge.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "support/in_words.hpp"

namespace pgque::detail {

namespace {

using std::chrono::microseconds;
using std::chrono::seconds;

// A scheduler that works is never later than this.
constexpr seconds tick_slack{15};
// A queue with a single tick gets the next one at once.
constexpr seconds first_tick_slack{5};
// The clocks of two sessions do not differ, but a transaction dates everything to its beginning.
constexpr seconds clock_slack{5};
// What `Admin` sets at most.
constexpr std::chrono::hours longest_rotation{24 * 3653};
constexpr seconds retry_slack{60};
// A worker of this library sends a heartbeat at least every 10 s while its handlers run. One of pgque-py shows no open
// batch, because it has received it in a transaction that is not committed.
constexpr seconds two_heartbeats{20};
constexpr seconds worker_silence{60};

std::string literal(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string{"''"} : std::string{c};
  return out += '\'';
}

std::string identifier(std::string_view text) {
  const bool plain = !text.empty() && (std::isdigit(static_cast<unsigned char>(text[0])) == 0) &&
                     std::all_of(text.begin(), text.end(),
                                 [](char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
  if (plain) return std::string{text};
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string{"\"\""} : std::string{c};
  return out += '"';
}

std::string count(std::int64_t number, const char* noun) {
  return std::to_string(number) + ' ' + noun + (number == 1 ? "" : "s");
}

std::string ago(microseconds age) {
  return in_words(std::max(age, microseconds{0})) + " ago";
}

// Slot `number` of `count` of a partitioned consumer, as PgQue 0.3 names the slot's subscription.
struct Slot {
  std::string consumer;
  int number;
  int count;
};

std::optional<Slot> parse_slot(const std::string& name) {
  const auto hash = name.rfind('#');
  const auto slash = name.rfind('/');
  if (hash == std::string::npos || slash == std::string::npos || slash < hash) return std::nullopt;
  const auto number = [&](std::size_t begin, std::size_t end) {
    int value = -1;
    const char* const last = name.data() + end;
    const auto [stop, error] = std::from_chars(name.data() + begin, last, value);
    return error == std::errc{} && stop == last ? value : -1;
  };
  const Slot slot{name.substr(0, hash), number(hash + 1, slash), number(slash + 1, name.size())};
  constexpr int most = 256;
  if (slot.number < 0 || slot.number >= slot.count || slot.count > most) return std::nullopt;
  return slot;
}

// Whether the version begins with something below 0.2.
bool is_old(const std::string& version) {
  return version.substr(0, 4) == "0.0." || version.substr(0, 4) == "0.1.";
}

class Judge {
 public:
  Judge(const Observations& seen, const DiagnoseOptions& options) : seen_{seen}, options_{options} {}

  std::vector<Finding> findings() {
    examine();
    std::stable_sort(findings_.begin(), findings_.end(),
                     [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
    return std::move(findings_);
  }

 private:
  void examine() {
    server();
    if (!install()) return;
    texts();
    grants();
    if (!seen_.visible) return;
    ticker();
    transaction_ids();
    for (const auto& queue : seen_.queues) look_at(queue);
    for (const auto& letters : seen_.dead_letters) look_at(letters);
  }

  Finding& add(Severity severity, std::string code, std::string fact, std::string consequence, std::string remedy) {
    findings_.push_back(
        {severity, std::move(code), {}, {}, std::move(fact), std::move(consequence), std::move(remedy)});
    return findings_.back();
  }

  void server() {
    if (seen_.standby || seen_.read_only) {
      add(Severity::error, "read_only_server",
          seen_.standby ? "the server is a standby" : "the session is read-only (transaction_read_only is on)",
          std::string{"nothing can be sent, received or acknowledged here, and a standby cannot LISTEN"} +
              (seen_.standby ? "; it may lag behind the primary, so late ticks, retries, batches and rotations are not "
                               "looked for"
                             : ""),
          "connect to the primary; with several hosts in the DSN, add target_session_attrs=read-write");
    }
    if (seen_.standby) return;  // LISTEN is impossible there, with or without a pooler
    if (!seen_.notified) {
      add(Severity::warning, "listen_unavailable",
          std::string{"a notification sent to this very connection did not arrive"} +
              (seen_.pooler ? "; there is a connection pooler in between" : ""),
          "consumers are not woken, and notice new messages only at their next poll, 30 s by default",
          "give consumers a direct connection for LISTEN (ConsumerOptions::listen_dsn), or session pooling");
    } else if (seen_.pooler) {
      add(Severity::notice, "pooler", "there is a connection pooler in between",
          "in transaction mode a notification may miss its consumer, prepared statements do not work, and a Ticker "
          "works only with TickerOptions::pooled",
          "use session mode, or ConsumerOptions::pooled with listen_dsn; connect the ticker directly");
    }
  }

  // Whether there is anything more to check.
  bool install() {
    if (!seen_.installed) {
      add(Severity::error, "not_installed", "the database " + literal(seen_.database) + " has no schema pgque",
          "nothing can be sent or received",
          "\\i pgque.sql, as a superuser or the database's owner; or connect to the right database");
      return false;
    }
    if (is_old(seen_.version) || !seen_.missing.empty()) {
      add(Severity::error, "too_old",
          "PgQue " + (seen_.version.empty() ? std::string{"of unknown version"} : seen_.version) + " is installed" +
              (seen_.missing.empty() ? "" : ", without " + seen_.missing),
          "this library needs PgQue 0.2 or later; calls will fail", "load the pgque.sql of 0.2 or later");
    }
    return true;
  }

  void texts() {
    if (!seen_.unreadable.empty()) {
      add(Severity::warning, "unreadable_rows",
          "the name of a queue, consumer or role cannot be read: " + seen_.unreadable +
              "; what cannot be read of names is replaced in these findings",
          "`pgque queues`, `pgque consumers`, `pgque metrics` and this library's Admin fail at it with SQLSTATE 22021, "
          "and what is called so can be neither sent to nor received by this library",
          "find it in psql: set client_encoding to SQL_ASCII; select queue_id, queue_name from pgque.queue; select "
          "co_id, co_name from pgque.consumer; -- then rename it, such as update pgque.consumer set co_name = "
          "'new_name' where co_id operator(pg_catalog.=) 1;");
    }
    if (seen_.encoding != "SQL_ASCII") return;
    add(Severity::warning, "unchecked_encoding",
        "the encoding of the database " + literal(seen_.database) + " is SQL_ASCII, so it stores any bytes as text",
        "a message with bytes that are not UTF-8 cannot be received by this library: receive fails with SQLSTATE "
        "22021, and the message blocks its batch and its consumer",
        "move to a database with encoding UTF8; to get past such a batch, in psql: set client_encoding to SQL_ASCII, "
        "read the batch with pgque.receive and finish it with pgque.ack");
  }

  void grants() {
    if (!seen_.reader && !seen_.writer) {
      add(Severity::error, "no_grants",
          "the role " + literal(seen_.user) + " is granted neither pgque_reader nor pgque_writer",
          "it can neither send nor receive: its calls fail with SQLSTATE 42501",
          "grant pgque_reader, pgque_writer to " + identifier(seen_.user) + ';');
    } else if (!seen_.reader) {
      add(Severity::notice, "limited_view", "the role " + literal(seen_.user) + " is not granted pgque_reader",
          "it cannot receive, and dead letters, PgQue's version and its scheduler were not checked",
          "grant pgque_reader to " + identifier(seen_.user) + ';');
    }
  }

  static bool to_be_ticked(const QueueState& queue) { return !queue.paused && !queue.external_ticker; }
  static microseconds longest_gap(const QueueState& queue) {
    return std::max(queue.max_lag, queue.idle_period) + tick_slack;
  }
  static bool from_the_future(microseconds age) { return age < -clock_slack; }
  // For how long the tick has been missing that a ticker would have made for the events that wait. That is certain
  // whatever the queue's idle period is.
  static microseconds overdue(const QueueState& queue) {
    return to_be_ticked(queue) && waits_too_long(queue) ? *queue.waiting - queue.max_lag : microseconds{0};
  }
  static bool never_ticked(const QueueState& queue) { return queue.ticks < 2 && queue.tick_age > first_tick_slack; }
  bool is_late(const QueueState& queue) const {
    // A standby has the ticks of some time ago.
    if (seen_.standby || !to_be_ticked(queue)) return false;
    if (ahead_of_the_server(queue) || from_the_future(queue.tick_age)) return false;
    return never_ticked(queue) || queue.tick_age > longest_gap(queue) || overdue(queue) > microseconds{0};
  }
  static bool ticked_lately(const QueueState& queue) {
    return to_be_ticked(queue) && queue.ticks > 1 && !from_the_future(queue.tick_age) &&
           queue.tick_age <= longest_gap(queue);
  }

  void ticker() {
    // The lock by which an active Ticker is known is not replicated.
    scheduled_ = seen_.leader || !seen_.scheduler.empty() || seen_.standby;
    // A tick of before proves nothing, if another queue has gone without one since.
    const QueueState* longest = nullptr;
    for (const auto& queue : seen_.queues) {
      if (overdue(queue) > (longest ? overdue(*longest) : microseconds{0})) longest = &queue;
    }
    const bool ticks = std::any_of(seen_.queues.begin(), seen_.queues.end(), [&](const QueueState& queue) {
      return ticked_lately(queue) && !(longest && queue.tick_age >= overdue(*longest));
    });
    const bool none_to_tick =
        !seen_.queues.empty() && std::none_of(seen_.queues.begin(), seen_.queues.end(), to_be_ticked);
    without_ticks_ = !scheduled_ && !ticks && !none_to_tick;
    if (without_ticks_) {
      add(Severity::error, "no_ticker",
          "neither PgQue's own scheduler nor a Ticker is active" + latest_tick() +
              (longest
                   ? "; events of queue " + literal(longest->name) + " have waited for " + in_words(*longest->waiting)
                   : std::string{}),
          "until something ticks, messages that are sent are not delivered, and retries do not come back",
          "run `pgque tick`, or a pgque::Ticker in a service; or, with pg_cron: select pgque.start();");
    } else if (scheduled_ || none_to_tick) {
      // Nothing is wrong, or nothing is to be ticked.
    } else if (seen_.ticker_sessions) {
      add(Severity::notice, "pooled_ticker",
          "queues are ticked by a Ticker behind a pooler: there are sessions named \"pgque ticker\", and none keeps "
          "the lock of the active ticker",
          "that works with TickerOptions::pooled, but takes more statements, and ends with the pooler",
          "run `pgque tick` without --pooled, with a DSN that leads to the server directly");
    } else {
      add(Severity::notice, "unknown_scheduler",
          "queues are ticked, but neither by PgQue's own scheduler nor by a Ticker with a direct connection",
          "whether retries come back and tables are rotated depends on that scheduler",
          "a Ticker with TickerOptions::pooled does all of it; any other scheduler must also call "
          "pgque.maint_retry_events() until it returns 0, pgque.maint() and pgque.maint_rotate_tables_step2(), with "
          "search_path = pg_catalog, pg_temp");
    }
    leader();
    if (seen_.queues.empty()) {
      add(Severity::notice, "no_queues", "there is no queue", "every send fails",
          "select pgque.create_queue('orders');");
    }
  }

  // How long ago anything was ticked, as the end of a sentence.
  std::string latest_tick() const {
    const QueueState* latest = nullptr;
    for (const auto& queue : seen_.queues) {
      if (!to_be_ticked(queue) || queue.ticks < 2) continue;
      if (from_the_future(queue.tick_age)) return {};  // which is a finding of its own
      if (!latest || queue.tick_age < latest->tick_age) latest = &queue;
    }
    if (latest) return ", and the latest tick of any queue was made " + ago(latest->tick_age);
    return seen_.queues.empty() ? "" : ", and no queue has been ticked since it was created";
  }

  // A pooler in transaction mode keeps the session of a client that has gone, and with it the lock. A Ticker with a
  // long tick_period is idle, too, and queues wait for it.
  void leader() {
    if (!seen_.leader || !seen_.leader->idle || *seen_.leader->idle <= options_.silent_ticker) return;
    if (std::none_of(seen_.queues.begin(), seen_.queues.end(), [&](const auto& queue) { return is_late(queue); }))
      return;
    stranded_ = true;
    const auto pid = std::to_string(seen_.leader->pid);
    add(Severity::error, "stranded_ticker_lock",
        "session " + pid + " (" + literal(seen_.leader->application) +
            ") holds the lock of the active ticker, but has executed nothing for " + in_words(*seen_.leader->idle) +
            ", or its tick_period is longer than that; queues are not ticked",
        "nothing is delivered, and every other Ticker stands by while that session lives: a pooler in transaction mode "
        "has kept it from a Ticker that is gone, or the Ticker's process hangs",
        "if its Ticker has a tick_period (pgque tick --period) longer than that, shorten the period; if not: select "
        "pg_catalog.pg_terminate_backend(" +
            pid + "); -- then connect tickers directly, or set TickerOptions::pooled (pgque tick --pooled)");
  }

  bool ahead_of_the_server(const QueueState& queue) const {
    return to_be_ticked(queue) && queue.tick_transaction > seen_.transaction;
  }

  // Ticks compare transaction ids, which a restored database brings from another cluster. Their upper half, the epoch,
  // is kept nowhere but in the cluster's control file, so it can be raised.
  void transaction_ids() {
    std::string names;
    std::int64_t recorded = 0;
    std::int64_t queues = 0;
    for (const auto& queue : seen_.queues) {
      if (!ahead_of_the_server(queue)) continue;
      names += (names.empty() ? "" : ", ") + literal(queue.name);
      recorded = std::max(recorded, queue.tick_transaction);
      ++queues;
    }
    if (queues == 0) return;
    add(Severity::error, "younger_cluster",
        std::string{queues == 1 ? "the latest tick of queue " : "the latest ticks of queues "} + names +
            " recorded transaction ids up to " + std::to_string(recorded) + ", but the server is only at " +
            std::to_string(seen_.transaction) + ": the database was restored into a younger cluster",
        "ticks fail with \"Invalid PgQ state\", so nothing sent there is delivered",
        "stop the server, run pg_resetwal -e " + std::to_string((recorded >> 32) + 1) +
            " -D with its data directory, and start it again; where that is impossible, drop these queues and create "
            "them again, which loses their events");
  }

  void look_at(const QueueState& queue) {
    const auto name = literal(queue.name);
    const auto about = [&](Finding& finding) -> Finding& {
      finding.queue = queue.name;
      return finding;
    };
    if (queue.paused) {
      about(add(Severity::warning, "queue_paused", "the ticker of queue " + name + " is paused",
                "messages sent to it are stored but not delivered",
                "select pgque.set_queue_config(" + name + ", 'ticker_paused', 'false');"));
    } else if (queue.external_ticker) {
      about(add(Severity::notice, "external_ticker",
                "the ticks of queue " + name + " come from another system, the latest " + ago(queue.tick_age),
                "nothing is delivered unless that system sends ticks",
                "select pgque.set_queue_config(" + name + ", 'external_ticker', 'false'); -- if that is not wanted"));
    } else {
      look_at_ticks(queue);
    }
    if (queue.inserts_disabled) {
      about(add(
          Severity::warning, "inserts_disabled", "queue " + name + " takes no events",
          "every send fails with \"Insert into queue disallowed\"",
          "update pgque.queue set queue_disable_insert = false where queue_name operator(pg_catalog.=) " + name + ';'));
    }
    if (queue.consumers == 0) {
      about(add(Severity::notice, "no_consumers", "no consumer is subscribed to queue " + name,
                "messages sent now are never delivered: a new consumer starts at the latest tick",
                "select pgque.subscribe(" + name + ", 'my_consumer');"));
    }
    clock(queue);
    retries(queue);
    rotation_period(queue);
    look_at_consumers(queue);
  }

  // A tick is due ticker_max_lag after the last one, by the server's clock.
  void clock(const QueueState& queue) {
    const auto name = literal(queue.name);
    if (seen_.standby) return;
    if (to_be_ticked(queue) && from_the_future(queue.tick_age)) {
      add(Severity::error, "clock_went_back",
          "the latest tick of queue " + name + " was made " + in_words(-queue.tick_age) +
              " in the future: the server's clock went back",
          "until then the queue is ticked only when ticker_max_count events wait; fewer are not delivered",
          "select pgque.force_next_tick(" + name + "); -- the ticker then makes the next tick at once")
          .queue = queue.name;
    }
    if (from_the_future(queue.rotated_ago)) {
      add(Severity::warning, "clock_went_back",
          "the tables of queue " + name + " were last rotated " + in_words(-queue.rotated_ago) +
              " in the future: the server's clock went back",
          "they are rotated that much later, and grow until then",
          "update pgque.queue set queue_switch_time = pg_catalog.now() where queue_name operator(pg_catalog.=) " +
              name + ';')
          .queue = queue.name;
    }
  }

  void retries(const QueueState& queue) {
    const auto name = literal(queue.name);
    const auto due = std::to_string(queue.due_retries) + (queue.due_retries == 1 ? " retry" : " retries") +
                     " of queue " + name + (queue.due_retries == 1 ? " is" : " are") + " due, the oldest for " +
                     in_words(queue.retries_overdue);
    if (blocks_retries(queue)) {
      add(Severity::error, "retries_blocked", due + ", and the queue takes no events",
          "maint_retry_events() fails with \"Insert into queue disallowed\", so no retry of any queue comes back",
          "update pgque.queue set queue_disable_insert = false where queue_name operator(pg_catalog.=) " + name +
              "; or, if its retries are not wanted, delete from pgque.retry_queue where ev_queue "
              "operator(pg_catalog.=) (select queue_id from pgque.queue where queue_name operator(pg_catalog.=) " +
              name + ");")
          .queue = queue.name;
      return;
    }
    // A Ticker brings any number of retries back within its period.
    const bool too_many = queue.due_retries > 10 && !seen_.leader;
    if (without_ticks_ || seen_.standby || (!too_many && queue.retries_overdue <= retry_slack)) return;
    const auto blocking = std::find_if(seen_.queues.begin(), seen_.queues.end(), blocks_retries);
    const bool blocked = blocking != seen_.queues.end();
    add(Severity::warning, "retries_waiting", due,
        blocked ? "they do not come back while queue " + literal(blocking->name) + " blocks all retries"
        : seen_.leader
            ? "they come late"
            : "they come late: one call of maint_retry_events() moves ten, and PgQue's own schedule calls it "
              "every 30 s",
        blocked ? "see retries_blocked"
                : "run `pgque tick`, which brings all of them back; or: set search_path = pg_catalog, pg_temp; and "
                  "repeat select pgque.maint_retry_events(); until it returns 0")
        .queue = queue.name;
  }
  static bool blocks_retries(const QueueState& queue) { return queue.inserts_disabled && queue.due_retries > 0; }

  void rotation_period(const QueueState& queue) {
    if (queue.rotation_period <= longest_rotation) return;
    add(Severity::warning, "odd_rotation_period",
        "the rotation period of queue " + literal(queue.name) + " is " + in_words(queue.rotation_period),
        "its events are never removed; and where the next rotation is later than PostgreSQL can say, about 290,000 "
        "years, maint() fails with \"timestamp out of range\" for every queue",
        "select pgque.set_queue_config(" + literal(queue.name) + ", 'rotation_period', '2 hours');")
        .queue = queue.name;
  }

  void look_at_ticks(const QueueState& queue) {
    if (without_ticks_) return;
    const auto name = literal(queue.name);
    if (ahead_of_the_server(queue)) return;  // which is a finding of its own
    if (is_late(queue) && !stranded_) {
      add(Severity::error, "queue_not_ticked",
          "the latest tick of queue " + name + " was made " + ago(queue.tick_age) +
              (never_ticked(queue) ? ", when it was created" : "") +
              (overdue(queue) > microseconds{0} ? "; events have waited for " + in_words(*queue.waiting) : ""),
          "messages sent since then are not delivered", not_ticked_remedy())
          .queue = queue.name;
    }
    if (queue.max_lag > options_.slow_tick) {
      add(Severity::notice, "slow_ticks",
          "queue " + name + " is ticked only " + in_words(queue.max_lag) + " after its last tick (ticker_max_lag)",
          "expect messages to wait up to " + in_words(queue.max_lag) +
              ", half of it in the median, before they are delivered",
          "select pgque.set_queue_config(" + name + ", 'ticker_max_lag', '100 milliseconds');")
          .queue = queue.name;
    }
  }

  std::string not_ticked_remedy() const {
    if (!seen_.leader) {
      return seen_.scheduler.empty()
                 ? "see whether the ticker logs errors"
                 : "see whether the jobs of " + seen_.scheduler + " run; select pgque.start(); schedules them again";
    }
    const auto pid = std::to_string(seen_.leader->pid);
    return "see whether the ticker, session " + pid + " (" + literal(seen_.leader->application) +
           "), logs errors, or has a tick_period (pgque tick --period) longer than that; if there is no such ticker "
           "any more, a pooler has kept its session: select pg_catalog.pg_terminate_backend(" +
           pid + ");";
  }

  void look_at_consumers(const QueueState& queue) {
    const auto name = literal(queue.name);
    bool blamed = false;
    for (const auto& consumer : seen_.consumers) {
      if (consumer.queue != queue.name) continue;
      look_at_name(consumer);
      auto* finding = look_at(consumer, queue);
      if (!finding) continue;
      blamed = true;
      finding->queue = queue.name;
      finding->consumer = consumer.name;
    }
    missing_slots(queue);
    const bool stalled = queue.rotated_ago > 2 * queue.rotation_period + std::chrono::minutes{5};
    if (!stalled || blamed || without_ticks_ || stranded_ || seen_.standby) return;
    add(Severity::warning, "rotation_stalled",
        "the tables of queue " + name + " were last rotated " + in_words(queue.rotated_ago) +
            " ago, but the rotation period is " + in_words(queue.rotation_period) +
            (queue.rotation_half_done ? "; the second step is missing" : ""),
        "its events are not removed, and the tables grow",
        "run `pgque tick`, or call regularly, each in a separate transaction: set search_path = pg_catalog, pg_temp; "
        "select pgque.maint(); select pgque.maint_rotate_tables_step2();")
        .queue = queue.name;
  }

  // How a consumer that does not advance affects the queue's rotation.
  static std::string blocked_rotation(const QueueState& queue) {
    if (queue.rotated_ago > queue.rotation_period) {
      return "the queue's tables have not been rotated for " + in_words(queue.rotated_ago) + ", instead of every " +
             in_words(queue.rotation_period) + ", and grow";
    }
    return "the queue's tables will not be rotated when it is time, in " +
           in_words(queue.rotation_period - queue.rotated_ago) + ", and grow from then on";
  }

  std::optional<Slot> slot_of(const SubscriptionState& consumer) const {
    const bool may_be = seen_.slots && consumer.role == ConsumerRole::normal;
    return may_be ? parse_slot(consumer.name) : std::nullopt;
  }

  // PgQue 0.3 names partition slots with a #. Its development versions take any other name with one for a slot, too.
  void look_at_name(const SubscriptionState& consumer) {
    const auto own = consumer.name.substr(std::min(consumer.name.size(), consumer.group.size()));
    if (own.find('#') == std::string::npos || slot_of(consumer)) return;
    const auto queue = literal(consumer.queue);
    const auto name = literal(consumer.name);
    auto renamed = consumer.name;
    std::replace(renamed.begin(), renamed.end(), '#', '-');
    auto& finding =
        add(seen_.any_hash ? Severity::notice : Severity::error, "reserved_name",
            "the name of consumer " + name + " on queue " + queue +
                " contains #, which PgQue 0.3 reserves for partition slots",
            seen_.any_hash ? "it works with this PgQue; with one of 0.3 it may receive or acknowledge nothing"
                           : "this PgQue takes it for a slot: its batches can be neither received nor acknowledged",
            consumer.role != ConsumerRole::normal
                ? "start the group's workers under names without #; then select pgque.unsubscribe(" + queue + ", " +
                      name + ");"
                : (consumer.last_tick ? "select pgque.register_consumer_at(" + queue + ", " + literal(renamed) + ", " +
                                            std::to_string(*consumer.last_tick) + ");"
                                      : "select pgque.subscribe(" + queue + ", " + literal(renamed) + ");") +
                      " -- while the consumer is stopped; start it under that name, then select pgque.unsubscribe(" +
                      queue + ", " + name + ");");
    finding.queue = consumer.queue;
    finding.consumer = consumer.name;
  }

  // unsubscribe() removes a slot without telling the others, whose keys stay the same.
  void missing_slots(const QueueState& queue) {
    std::map<std::pair<std::string, int>, std::set<int>> partitioned;
    for (const auto& consumer : seen_.consumers) {
      if (consumer.queue != queue.name) continue;
      if (const auto slot = slot_of(consumer)) partitioned[{slot->consumer, slot->count}].insert(slot->number);
    }
    for (const auto& [consumer, slots] : partitioned) {
      std::string missing;
      for (int slot = 0; slot < consumer.second; ++slot) {
        if (slots.count(slot) == 0) missing += (missing.empty() ? "" : ", ") + std::to_string(slot);
      }
      if (!missing.empty()) slots_missing(queue.name, consumer.first, std::to_string(consumer.second), missing);
    }
  }

  void slots_missing(const std::string& queue, const std::string& consumer, const std::string& of,
                     const std::string& missing) {
    auto& finding = add(Severity::error, "slot_unsubscribed",
                        "of the " + of + " slots of the partitioned consumer " + literal(consumer) + " on queue " +
                            literal(queue) + ", these are not subscribed: " + missing,
                        "nobody is given the messages of their keys",
                        "select pgque.subscribe_slot(" + literal(queue) + ", " + literal(consumer) + ", slot, " + of +
                            ") from pg_catalog.unnest(array[" + missing +
                            "]) as slot; -- from the latest tick on; what came before is lost to them");
    finding.queue = queue;
    finding.consumer = consumer;
  }

  Finding* look_at(const SubscriptionState& consumer, const QueueState& queue) {
    const auto name = literal(consumer.name);
    const auto on_queue = name + " on queue " + literal(queue.name);
    const auto slot = slot_of(consumer);
    const auto start = slot ? "let a worker claim slot " + std::to_string(slot->number) + " of " +
                                  literal(slot->consumer) + " (pgque.claim_slot)"
                            : "start the consumer again";
    const auto unsubscribe =
        slot ? "select pgque.unsubscribe_slot(" + literal(queue.name) + ", " + literal(slot->consumer) + ", " +
                   std::to_string(slot->number) +
                   "); -- for each slot, if the consumer is gone for good; this deletes its retries"
             : "select pgque.unsubscribe(" + literal(queue.name) + ", " + name +
                   "); -- if it is gone for good; this deletes its retries and, with its last subscription, its dead "
                   "letters";
    if (consumer.role == ConsumerRole::subconsumer) return look_at_worker(consumer, queue);
    if (consumer.batch && consumer.silent > options_.stuck_after && !seen_.standby) {
      return &add(Severity::error, "stuck_batch",
                  "consumer " + on_queue + " has kept batch " + std::to_string(*consumer.batch) + " open for " +
                      in_words(consumer.silent),
                  "it receives nothing after that batch; " + blocked_rotation(queue),
                  unreadable_first() + start + ", or find out what its handler waits for; or " + unsubscribe);
    }
    if (consumer.behind > options_.stuck_after) {
      return &add(Severity::warning, "consumer_behind",
                  "consumer " + on_queue + " is " + in_words(consumer.behind) +
                      " behind the latest tick, and was last seen " + ago(consumer.silent),
                  "the consumer does not run, or is too slow; " + blocked_rotation(queue),
                  unreadable_first() + start + "; or " + unsubscribe);
    }
    return nullptr;
  }

  // A consumer that cannot read a message is blocked as long as it runs, and unsubscribing it would lose all others.
  std::string unreadable_first() const {
    return seen_.encoding == "SQL_ASCII"
               ? "see first whether receiving fails with SQLSTATE 22021: with encoding SQL_ASCII, the likely cause is "
                 "a message that is not UTF-8, and unchecked_encoding says how to get past it; if it does not: "
               : "";
  }

  // A batch that a worker was given belongs to its name, until another worker takes it over.
  Finding* look_at_worker(const SubscriptionState& worker, const QueueState& queue) {
    const bool stuck = worker.silent > std::max(options_.stuck_after, two_heartbeats);
    if (!worker.batch || seen_.standby || (!stuck && worker.silent <= worker_silence)) return nullptr;
    const auto name = literal(worker.name.substr(std::min(worker.name.size(), worker.group.size() + 1)));
    return &add(
        stuck ? Severity::error : Severity::warning, "stale_subconsumer",
        "the worker " + literal(worker.name) + " on queue " + literal(queue.name) + " holds batch " +
            std::to_string(*worker.batch) + " and has sent no heartbeat for " + in_words(worker.silent),
        "if it is gone, nobody is given the messages of that batch, except by a takeover; " + blocked_rotation(queue),
        unreadable_first() + "start a worker named " + name +
            ", or one with a dead_interval, which takes the batch over; or select pgque.unsubscribe_subconsumer(" +
            literal(queue.name) + ", " + literal(worker.group) + ", " + name +
            ", 1); -- puts its messages up for retry");
  }

  void look_at(const DeadLetterState& letters) {
    if (letters.count == 0) return;
    const auto name = literal(letters.queue);
    const bool growing = letters.recent > 0;
    add(growing ? Severity::warning : Severity::notice, growing ? "dead_letters_growing" : "dead_letters",
        "queue " + name + " has " + count(letters.count, "dead letter") +
            (growing ? ", " + std::to_string(letters.recent) + " of them from the last " + in_words(options_.recent)
                     : ""),
        "these messages were given up after their last retry and are not delivered any more",
        "`pgque dlq list " + name +
            "` shows the reasons, and `pgque dlq replay ID` sends one again, to all consumers " +
            "of the queue; in SQL: select * from pgque.dlq_inspect(" + name + "); and pgque.dlq_replay(dl_id)")
        .queue = letters.queue;
  }

  const Observations& seen_;
  const DiagnoseOptions& options_;
  bool scheduled_ = false;
  bool without_ticks_ = false;
  bool stranded_ = false;  // the active ticker's lock is, which explains why queues are not ticked
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> judge(const Observations& seen, const DiagnoseOptions& options) {
  return Judge{seen, options}.findings();
}

}  // namespace pgque::detail
