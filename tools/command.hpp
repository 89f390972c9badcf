#pragma once

// The subcommands, apart from how their arguments are written. Each returns the exit status, or throws.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <pgque/admin.hpp>
#include <pgque/error.hpp>
#include <pgque/log.hpp>

namespace pgque::tool {

// Documented in the manual page.
enum ExitStatus : int {
  success = 0,
  failure = 1,
  usage = 2,
  no_connection = 3,
  no_permission = 4,
  warnings = 5,  // doctor
  errors = 6,    // doctor
  interrupted = 130,
};

int status_of(const Error& error);
// What is said about it, beginning with the name of the subcommand.
std::string text_of(const Error& error);
// The same of a log line. An error that ends a consumer or a ticker is logged before it is thrown, and so is printed.
std::string text_of(const LogRecord& record);

struct Common {
  std::string dsn;
  bool json = false;
};

// The DSN may point to a pooler in transaction mode, and hardly any statement is run twice.
inline ClientOptions unprepared() {
  ClientOptions options;
  options.pooled = true;
  return options;
}

int list_queues(const Common& common, const std::string& queue);
int create_queue(const Common& common, const std::string& queue, const QueueSettings& settings);
int drop_queue(const Common& common, const std::string& queue, bool force);
int set_queue(const Common& common, const std::string& queue, const QueueSettings& settings);

int list_consumers(const Common& common, const std::string& queue);
// The workers of cooperative consumers that are gone.
struct GoneOptions {
  std::string queue;  // only those of this one, unless it is empty
  std::chrono::milliseconds older_than{std::chrono::hours{24}};
  bool yes = false;
};
int remove_gone(const Common& common, const GoneOptions& options);
struct SubscribeOptions {
  std::string queue;
  std::string consumer;
  std::string subconsumer;
  std::optional<std::int64_t> at;    // a tick
  std::optional<Timestamp> at_time;  // instead
  bool convert = false;              // subscribe only
  bool workers = false;              // unsubscribe only: all of them
  bool retry_batch = false;          // unsubscribe only
};
int subscribe(const Common& common, const SubscribeOptions& options);
int unsubscribe(const Common& common, const SubscribeOptions& options);

int count_dead_letters(const Common& common);
// 0: all of them.
int list_dead_letters(const Common& common, const std::string& queue, std::int32_t limit);
struct ReplayOptions {
  std::vector<std::int64_t> ids;
  std::string queue;  // all of this queue, instead
  bool yes = false;
};
int replay_dead_letters(const Common& common, const ReplayOptions& options);
int purge_dead_letters(const Common& common, const std::string& queue, std::chrono::milliseconds older_than);

int doctor(const Common& common, std::optional<std::chrono::milliseconds> stuck_after);
int metrics(const Common& common);
int status(const Common& common);

struct SendOptions {
  std::string queue;
  std::optional<std::string> payload;
  std::string file;
  std::string type = "default";
  std::optional<std::string> key;
  std::vector<std::string> headers;  // name=value
  bool text = false;
  bool events = false;  // the lines are events, not payloads
  bool batch = false;
  std::size_t batch_size = 1000;
  bool atomic = false;
  bool progress = true;
};
int send(const Common& common, const SendOptions& options);

struct TailOptions {
  std::string queue;
  std::string consumer;
  std::string subconsumer;
  std::optional<std::chrono::milliseconds> dead_interval;
  std::optional<std::chrono::milliseconds> poll_interval;
  bool once = false;
  bool peek = false;
  std::optional<std::int64_t> limit;  // peek only
  bool subscribe = false;
  bool raw = false;
  bool pooled = false;
};
int tail(const Common& common, const TailOptions& options);

struct TickOptions {
  std::chrono::milliseconds period{100};
  std::chrono::milliseconds retry_period{1'000};
  std::chrono::milliseconds maintenance_period{30'000};
  std::chrono::milliseconds rotation_period{10'000};
  std::chrono::milliseconds standby_period{1'000};
  std::optional<std::chrono::milliseconds> max_lag;
  bool pooled = false;
  bool quiet = false;
};
int tick(const Common& common, const TickOptions& options);

}  // namespace pgque::tool
