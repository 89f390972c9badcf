#pragma once

// The calls of PgQue that several parts of the library need. Each call is bound to its statement and parameters here,
// once.

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pgque/message.hpp>
#include <pgque/payload.hpp>

#include "database/executor.hpp"
#include "database/statement.hpp"

namespace pgque::detail::verbs {

// The receiver: a consumer, or with a subconsumer one worker of a cooperative consumer.
struct Receiver {
  std::string_view queue;
  std::string_view consumer;
  std::string_view subconsumer{};
  std::optional<std::chrono::milliseconds> dead_interval{};
  // Which windows make a batch, if it is not the next one: see ConsumerOptions.
  std::optional<std::int64_t> catch_up{};
  std::optional<std::chrono::milliseconds> min_lag{};
};

// The single value that a statement returns. Throws Error if that is NULL.
std::int64_t ask(Executor& executor, const Statement& statement, Params params, const Call& call);

// Throws std::invalid_argument that names the payload if one is not valid text.
std::vector<EventId> send_batch(Executor& executor, std::string_view queue, std::string_view type,
                                const std::vector<Payload>& payloads);

// An event as it is sent. It refers to what it is made of, which has been checked.
struct EventRow {
  const Payload* payload;
  std::string_view type;
  std::optional<std::string_view> key{};
  std::optional<std::string_view> headers{};  // as JSON
};
EventId send_event(Executor& executor, std::string_view queue, const EventRow& event);
// As send_batch() where it can, because that costs the server a fifth.
std::vector<EventId> send_events(Executor& executor, std::string_view queue, const std::vector<EventRow>& events);

// Opens the next batch. `limit` is how many messages the server returns at most. What gives a worker a batch, here and
// below, also counts as a sign of life at its end, and says which other worker the batch was taken over from, if it
// was.
struct Received {
  std::vector<Message> messages{};
  std::string taken_from{};
};
Received receive(Executor& executor, const Receiver& receiver, std::optional<std::int64_t> limit, const Call& call);
// The messages of the next batch, if these are not more than `size`. Otherwise the batch, if it has been opened.
struct FirstPage {
  std::optional<std::vector<Message>> whole_batch{};
  std::optional<BatchId> batch{};
  std::string taken_from{};
};
FirstPage receive_page(Executor& executor, const Receiver& receiver, std::int64_t size, const Call& call);
// The same by the receiver's catch_up and min_lag. A batch that is larger has been opened, and those above then read
// it. With a `size` of -1, every batch is.
FirstPage receive_tuned(Executor& executor, const Receiver& receiver, std::int64_t size, const Call& call);
// Opens the next batch on the server, where sql::batch_cursor reads its messages in pages, and returns the first
// `rows`. With `hold` the cursor outlives the transaction.
Received open_batch_cursor(TransactionExecutor& transaction, const Receiver& receiver, bool hold, std::int64_t rows,
                           const Call& call);
// The batch that is open or can be opened, which is old enough then; empty if there is none.
struct NextBatch {
  std::optional<BatchId> id{};
  std::string taken_from{};
};
NextBatch next_batch(Executor& executor, const Receiver& receiver, const Call& call);
// After that gave none: when the next one will be old enough, if there is one.
std::optional<std::chrono::microseconds> ripens_in(Executor& executor, const Receiver& receiver, const Call& call);
// Registers the worker. With `convert_normal`, a normal consumer of this name becomes a cooperative one. True if it is
// new.
bool subscribe_subconsumer(Executor& executor, const Receiver& receiver, bool convert_normal);
// The queue's latest tick.
struct LatestTick {
  std::chrono::microseconds age{0};
  std::chrono::microseconds longest_idle{0};           // how old it may be where a ticker is at work and no event waits
  std::chrono::microseconds longest_wait{0};           // how long an event may wait there
  std::optional<std::chrono::microseconds> waiting{};  // how long the oldest event has waited, if there is one
  bool paused = false;
  bool external = false;
};
// Empty if there is no such queue.
std::optional<LatestTick> latest_tick(AutocommitExecutor& executor, std::string_view queue, const Call& call);
// Whether the batch was open until now.
bool ack(Executor& executor, BatchId batch, const Call& call);
// The reason may have characters that the database's encoding does not have; those become question marks.
void nack(Executor& executor, BatchId batch, EventId message, std::chrono::seconds delay,
          const std::optional<std::string>& reason);
// Whether the batch is open and the receiver's.
bool batch_is_open(Executor& executor, const Receiver& receiver, BatchId batch, const Call& call);
// The worker's heartbeat. False if it is not registered.
bool touch(Executor& executor, const Receiver& receiver);
// The heartbeat of a worker that has a batch.
struct Touched {
  bool registered = false;
  bool has_batch = false;  // it is still the worker's
};
Touched touch_with_batch(Executor& executor, const Receiver& receiver, BatchId batch);
// Of the messages of an open batch from this one on, those that were nacked in it before, each with how often it had
// been retried by then.
std::set<std::pair<EventId, std::int32_t>> nacked(Executor& executor, BatchId batch, EventId first, const Call& call);

// How many queues were ticked.
std::int64_t ticker_all(Executor& executor, const Call& call);
void maint(Executor& executor);
void rotate_step2(Executor& executor);
// How many retries came back: ten at most, over all queues.
std::int64_t maint_retry_events(Executor& executor);

// Configures a session that this library opened so that the server does not end it while it is needed. Not for sessions
// behind a pooler.
void configure_session(AutocommitExecutor& executor, const Call& call);

}  // namespace pgque::detail::verbs
