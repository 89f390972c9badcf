#pragma once

// What diagnose() observes, before any judgement.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <pgque/admin.hpp>

namespace pgque::detail {

// An age is negative if the clock went back.
struct QueueState {
  std::string name;
  bool paused = false;
  bool external_ticker = false;
  bool inserts_disabled = false;
  std::chrono::microseconds max_lag{0};
  std::chrono::microseconds idle_period{0};
  std::chrono::microseconds rotation_period{0};
  std::chrono::microseconds rotated_ago{0};
  bool rotation_half_done = false;  // the second step is missing
  std::int64_t ticks = 0;           // at most 2 are counted
  std::chrono::microseconds tick_age{0};
  std::int64_t tick_transaction = 0;  // Observations::transaction at the latest tick
  // For how long an event has waited for a tick that does not exist yet, if one has: at most since the latest tick.
  std::optional<std::chrono::microseconds> waiting;
  std::int64_t consumers = 0;
  std::int64_t due_retries = 0;
  std::chrono::microseconds retries_overdue{0};
};

struct SubscriptionState {
  std::string queue;
  std::string name;
  ConsumerRole role = ConsumerRole::normal;
  std::string group;
  std::optional<std::int64_t> batch;
  std::chrono::microseconds silent{0};    // since it last did something
  std::chrono::microseconds behind{0};    // between the last tick it finished and the queue's last
  std::optional<std::int64_t> last_tick;  // the last tick it finished
};

// The session that holds the lock of the active ticker.
struct LeaderState {
  std::int64_t pid = 0;
  std::string application;
  std::optional<std::chrono::microseconds> idle;  // if it is, and if the role may see that
};

struct DeadLetterState {
  std::string queue;
  std::int64_t count = 0;
  std::int64_t recent = 0;
};

// A scheduler ticks at least every second, so one that works leaves no event waiting for this long.
inline bool too_long(const QueueState& queue, std::chrono::microseconds waited) {
  constexpr std::chrono::seconds slack{5};
  return waited > queue.max_lag + slack;
}
inline bool waits_too_long(const QueueState& queue) {
  return queue.waiting && too_long(queue, *queue.waiting);
}

struct Observations {
  std::string user;
  std::string database;
  bool standby = false;
  bool read_only = false;
  bool pooler = false;
  bool notified = true;
  std::string encoding;  // the database's
  bool installed = false;
  bool visible = true;  // false if the role may not even use the schema
  std::string missing;  // functions of PgQue 0.2 that do not exist
  std::string version;  // empty if the role may not ask for it
  bool reader = false;
  bool writer = false;
  bool admin = false;
  bool slots = false;      // PgQue has partition slots
  bool any_hash = true;    // and lets consumers that are no slots have a # in their names
  std::string unreadable;  // the server's error about a name that is not valid text; such names are changed here
  std::string scheduler;   // PgQue's own; empty if there is none, or if the role may not ask for it
  std::optional<LeaderState> leader;
  bool ticker_sessions = false;  // there are sessions of a Ticker, whether they hold the lock or not
  std::int64_t transaction = 0;  // below this, all transaction ids are taken
  std::vector<QueueState> queues;
  std::vector<SubscriptionState> consumers;
  std::vector<DeadLetterState> dead_letters;
};

}  // namespace pgque::detail
