#include "doctor/judge.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>
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

// Whether the version begins with something below 0.2.
bool is_old(const std::string& version) {
  return version.substr(0, 4) == "0.0." || version.substr(0, 4) == "0.1.";
}

class Judge {
 public:
  Judge(const Observations& seen, const DiagnoseOptions& options) : seen_{seen}, options_{options} {}

  std::vector<Finding> findings() {
    server();
    if (install()) {
      encoding();
      grants();
      if (!seen_.visible) return std::move(findings_);
      ticker();
      transaction_ids();
      for (const auto& queue : seen_.queues) look_at(queue);
      for (const auto& letters : seen_.dead_letters) look_at(letters);
    }
    std::stable_sort(findings_.begin(), findings_.end(),
                     [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
    return std::move(findings_);
  }

 private:
  Finding& add(Severity severity, std::string code, std::string fact, std::string consequence, std::string remedy) {
    findings_.push_back(
        {severity, std::move(code), {}, {}, std::move(fact), std::move(consequence), std::move(remedy)});
    return findings_.back();
  }

  void server() {
    if (seen_.standby || seen_.read_only) {
      add(Severity::error, "read_only_server",
          seen_.standby ? "the server is a standby" : "the session is read-only (transaction_read_only is on)",
          "nothing can be sent, received or acknowledged here, and a standby cannot LISTEN",
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
          "works "
          "only with TickerOptions::pooled",
          "use session mode, or ConsumerOptions::pooled with listen_dsn; connect the ticker directly");
    }
  }

  // Whether there is anything more to check.
  bool install() {
    if (!seen_.installed) {
      add(Severity::error, "not_installed", "the database " + literal(seen_.database) + " has no schema pgque",
          "nothing can be sent or received",
          "\\i pgque.sql, as a superuser or the database's owner; or connect to the right "
          "database");
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

  void encoding() {
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
  static bool ticked_lately(const QueueState& queue) {
    return to_be_ticked(queue) && queue.ticks > 1 && queue.tick_age <= longest_gap(queue);
  }

  void ticker() {
    // The lock by which an active Ticker is known is not replicated.
    scheduled_ = seen_.ticker || !seen_.scheduler.empty() || seen_.standby;
    const bool ticks = std::any_of(seen_.queues.begin(), seen_.queues.end(), ticked_lately);
    without_ticks_ = !scheduled_ && !ticks;
    if (without_ticks_) {
      add(Severity::error, "no_ticker",
          "neither PgQue's own scheduler nor a Ticker is active, and no queue was ticked lately",
          "messages can be sent but are never delivered, and retries never come back",
          "run `pgque tick`, or a pgque::Ticker in a service; or, with pg_cron: select pgque.start();");
    } else if (!scheduled_) {
      add(Severity::notice, "unknown_scheduler",
          "queues are ticked, but neither by PgQue's own scheduler nor by a Ticker with a direct connection",
          "whether retries come back and tables are rotated depends on that scheduler",
          "a Ticker with TickerOptions::pooled does all of it; any other scheduler must also call "
          "pgque.maint_retry_events() until it returns 0, pgque.maint() and pgque.maint_rotate_tables_step2()");
    }
    if (seen_.queues.empty()) {
      add(Severity::notice, "no_queues", "there is no queue", "every send fails",
          "select pgque.create_queue('orders');");
    }
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
      about(add(
          Severity::notice, "external_ticker",
          "the ticks of queue " + name + " come from another system, the latest " + in_words(queue.tick_age) + " ago",
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
    // A Ticker brings any number of retries back within its period.
    const bool too_many = queue.due_retries > 10 && !seen_.ticker;
    if (!without_ticks_ && (too_many || queue.retries_overdue > retry_slack)) {
      about(add(Severity::warning, "retries_waiting",
                std::to_string(queue.due_retries) + (queue.due_retries == 1 ? " retry" : " retries") + " of queue " +
                    name + (queue.due_retries == 1 ? " is" : " are") + " due, the oldest for " +
                    in_words(queue.retries_overdue),
                seen_.ticker ? "they come late"
                             : "they come late: one call of maint_retry_events() moves ten, and PgQue's own schedule "
                               "calls it every 30 s",
                "run `pgque tick`, which brings all of them back; or repeat select pgque.maint_retry_events(); "
                "until it returns 0"));
    }
    look_at_consumers(queue);
  }

  void look_at_ticks(const QueueState& queue) {
    if (without_ticks_) return;
    const auto name = literal(queue.name);
    if (ahead_of_the_server(queue)) return;  // which is a finding of its own
    const bool never = queue.ticks < 2 && queue.tick_age > first_tick_slack;
    if (never || queue.tick_age > longest_gap(queue)) {
      add(Severity::error, "queue_not_ticked",
          "the latest tick of queue " + name + " was made " + in_words(queue.tick_age) + " ago" +
              (never ? ", when it was created" : ""),
          "messages sent since then are not delivered",
          seen_.ticker || seen_.scheduler.empty()
              ? "see whether the ticker logs errors"
              : "see whether the jobs of " + seen_.scheduler + " run; select pgque.start(); schedules them again")
          .queue = queue.name;
    }
    if (queue.max_lag > options_.slow_tick) {
      add(Severity::notice, "slow_ticks",
          "queue " + name + " is ticked only " + in_words(queue.max_lag) + " after its last tick (ticker_max_lag)",
          "expect messages to wait up to " + in_words(queue.max_lag) +
              ", half of it in the median, before they are "
              "delivered",
          "select pgque.set_queue_config(" + name + ", 'ticker_max_lag', '100 milliseconds');")
          .queue = queue.name;
    }
  }

  void look_at_consumers(const QueueState& queue) {
    const auto name = literal(queue.name);
    bool blamed = false;
    for (const auto& consumer : seen_.consumers) {
      if (consumer.queue != queue.name) continue;
      auto* finding = look_at(consumer, queue);
      if (!finding) continue;
      blamed = true;
      finding->queue = queue.name;
      finding->consumer = consumer.name;
    }
    const bool overdue = queue.rotated_ago > 2 * queue.rotation_period + std::chrono::minutes{5};
    if (!overdue || blamed || without_ticks_) return;
    add(Severity::warning, "rotation_stalled",
        "the tables of queue " + name + " were last rotated " + in_words(queue.rotated_ago) +
            " ago, but the rotation period is " + in_words(queue.rotation_period) +
            (queue.rotation_half_done ? "; the second step is missing" : ""),
        "its events are not removed, and the tables grow",
        "run `pgque tick`, or call regularly, each in a separate transaction: select pgque.maint(); select "
        "pgque.maint_rotate_tables_step2();")
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

  Finding* look_at(const SubscriptionState& consumer, const QueueState& queue) {
    const auto name = literal(consumer.name);
    const auto on_queue = name + " on queue " + literal(queue.name);
    const auto unsubscribe = "select pgque.unsubscribe(" + literal(queue.name) + ", " + name +
                             "); -- if it is gone for good; this deletes its retries and, with its last subscription, "
                             "its dead letters";
    if (consumer.role == ConsumerRole::subconsumer) return look_at_worker(consumer, queue);
    if (consumer.batch && consumer.silent > options_.stuck_after) {
      return &add(Severity::error, "stuck_batch",
                  "consumer " + on_queue + " has kept batch " + std::to_string(*consumer.batch) + " open for " +
                      in_words(consumer.silent),
                  "it receives nothing after that batch; " + blocked_rotation(queue),
                  "start the consumer again, or find out what its handler waits for; or " + unsubscribe);
    }
    if (consumer.behind > options_.stuck_after) {
      return &add(Severity::warning, "consumer_behind",
                  "consumer " + on_queue + " is " + in_words(consumer.behind) +
                      " behind the latest tick, and was last seen " + in_words(consumer.silent) + " ago",
                  "the consumer does not run, or is too slow; " + blocked_rotation(queue),
                  "start the consumer; or " + unsubscribe);
    }
    return nullptr;
  }

  // A batch that a worker was given belongs to its name, until another worker takes it over.
  Finding* look_at_worker(const SubscriptionState& worker, const QueueState& queue) {
    const bool stuck = worker.silent > std::max(options_.stuck_after, two_heartbeats);
    if (!worker.batch || (!stuck && worker.silent <= worker_silence)) return nullptr;
    const auto name = literal(worker.name.substr(std::min(worker.name.size(), worker.group.size() + 1)));
    return &add(
        stuck ? Severity::error : Severity::warning, "stale_subconsumer",
        "the worker " + literal(worker.name) + " on queue " + literal(queue.name) + " holds batch " +
            std::to_string(*worker.batch) + " and has sent no heartbeat for " + in_words(worker.silent),
        "if it is gone, nobody is given the messages of that batch, except by a takeover; " + blocked_rotation(queue),
        "start a worker named " + name +
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
        "select * from pgque.dlq_inspect(" + name +
            "); -- shows the reasons; replay with pgque.dlq_replay(dl_id), which sends to all consumers of the queue")
        .queue = letters.queue;
  }

  const Observations& seen_;
  const DiagnoseOptions& options_;
  bool scheduled_ = false;
  bool without_ticks_ = false;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> judge(const Observations& seen, const DiagnoseOptions& options) {
  return Judge{seen, options}.findings();
}

}  // namespace pgque::detail
