#pragma once

/// @file
/// The verbs that `Client` and `Transaction` share.

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <pgque/export.hpp>
#include <pgque/message.hpp>
#include <pgque/payload.hpp>

namespace pgque {

namespace detail {

class Executor;

template <class T, class = void>
inline constexpr bool is_range = false;
template <class T>
inline constexpr bool
    is_range<T, std::void_t<decltype(std::begin(std::declval<T&>())), decltype(std::end(std::declval<T&>()))>> = true;

template <class T, class = void>
inline constexpr bool is_iterator = false;
template <class T>
inline constexpr bool is_iterator<T, std::void_t<typename std::iterator_traits<T>::iterator_category>> = true;

// A map is one payload, and so is a JSON value other than an array, although both have begin() and end().
template <class T, class = void>
inline constexpr bool has_keys = false;
template <class T>
inline constexpr bool has_keys<T, std::void_t<typename T::mapped_type>> = true;

template <class T, class = void>
inline constexpr bool is_any_json = false;
template <class T>
inline constexpr bool is_any_json<
    T, std::void_t<decltype(std::declval<const T&>().is_array()), decltype(std::declval<const T&>().is_object())>> =
    true;

template <class Range>
std::vector<Payload> payloads_of(Range& range) {
  using Bare = bare<Range>;
  constexpr bool is_one_payload = !is_range<Range> || is_text<Bare> || has_keys<Bare>;
  static_assert(
      !is_one_payload,
      "pgque: send_batch() takes a range of payloads, such as a std::vector. A text, a map or any other single "
      "payload is sent by send(), or in a list: {payload}.");
  std::vector<Payload> payloads;
  if constexpr (!is_one_payload) {
    using Element = decltype(*std::begin(range));
    require_payload<Element>();
    require_no_characters<Element>();
    constexpr bool is_event = std::is_same_v<bare<Element>, Event>;
    static_assert(!is_event, "pgque: events have types of their own. Write send_batch(queue, events).");
    if constexpr (is_any_json<Bare>) {
      if (!range.is_array()) {
        throw std::invalid_argument{
            "payloads: a JSON value that is no array is one payload; write send(), or a list: {payload}"};
      }
    }
    if constexpr (!is_event && !is_no_payload<Element>() && source<bare<Element>> != Source::characters) {
      for (auto&& element : range) payloads.emplace_back(std::forward<decltype(element)>(element));
    }
  }
  return payloads;
}

}  // namespace detail

/// How a message is retried.
struct NackOptions {
  /// Shortest time until the next delivery. Default 60 s; 0 means as soon as maintenance runs. PgQue counts in whole
  /// seconds; range 0 to 2147483647 s.
  std::chrono::seconds retry_after{60};
  /// Stored with the dead letter if this was the last attempt. Default: the server's own text, "max retries
  /// exceeded".
  std::optional<std::string> reason{};
};

/// Options of `receive_coop`.
struct ReceiveCoopOptions {
  /// Throw `BatchOverflow` if the batch is larger. Default: no limit. At least 1.
  std::optional<std::int32_t> max_messages{};
  /// Take over the batch of another worker of the group if that worker has sent no heartbeat for this long. Default:
  /// never; 1 ms to 30 days.
  std::optional<std::chrono::milliseconds> dead_interval{};
};

/// What `unsubscribe_subconsumer` does when the subconsumer still holds a batch.
enum class BatchHandling : std::int32_t {
  refuse = 0,  ///< fail and change nothing
  retry = 1,   ///< put its messages up for retry after 60 s, or into the dead letters when retries are exhausted
};

/// The calls that PgQue offers to producers and consumers. `Client` runs each call in a separate transaction,
/// `Transaction` runs several calls in one. This class cannot be instantiated by itself.
///
/// **Arguments.** Queue names have 1 to 57 bytes, consumer names at least one byte. All text must be valid UTF-8
/// without NUL bytes. A name must not look like a DSN (with `://` or `password=` in it), because names end up in logs.
/// Anything else is `std::invalid_argument`, thrown before anything is sent; it names the argument, and does not show a
/// DSN. So is a call with 1 GiB or more to send, which PostgreSQL does not take.
///
/// **Interceptors.** All calls that send pass their events to `ClientOptions::on_send` first, one by one and in order,
/// if it is set. What it makes of an event is then checked and sent. If it throws, nothing is sent, and the exception
/// is the caller's.
///
/// **Errors.** Every function throws `Error` or a class derived from it: `ConnectionError` when the connection is lost,
/// `QueueNotFound` / `ConsumerNotFound` / `BatchNotFound` when there is no such queue, consumer or batch, `Error` with
/// SQLSTATE 42501 when the role lacks a grant (its text names the role to grant). A closed, finished or moved-from
/// object throws `std::logic_error`, and so does one that another thread is using.
///
/// **Thread safety.** One thread at a time, together with the client or transaction it is part of.
class PGQUE_EXPORT Operations {
 public:
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  /// @name Producing. Needs `pgque_writer`.
  /// @{

  /// Stores one event and returns its id. It becomes visible to consumers with the first tick after the commit.
  /// @param payload see `Payload`
  /// @param type what consumers dispatch on; an empty one means "default"
  /// @throws QueueNotFound with the statement that creates the queue and, outside a transaction, the existing name that
  ///   is the nearest
  /// @throws Error with SQLSTATE 22P02 for text that is not JSON; see `Payload`
  /// SQL: `pgque.send(text, text, jsonb)` or `pgque.send(text, text, text)`; after a `QueueNotFound`, reads the table
  /// `queue`
  EventId send(std::string_view queue, const Payload& payload, std::string_view type = "default");
  /// The same for an `Event`, which may have a key and headers.
  /// @throws QueueNotFound
  /// SQL: as above; with a key or headers `pgque.insert_event(text, text, text, text, text, text, text)`
  EventId send(std::string_view queue, const Event& event);
  /// Sends a received message on, to another queue for example: its payload as it was stored, and its type, of which
  /// NULL becomes "default". Give another type as a third argument. The extra columns are not sent; for its key and
  /// headers, send `to_event(message)`.
  /// @throws QueueNotFound
  template <class M, std::enable_if_t<std::is_base_of_v<Message, M>, int> = 0>
  EventId send(std::string_view queue, const M& message) {
    return send(queue, Payload{message}, message.type ? std::string_view{*message.type} : std::string_view{});
  }

  /// @cond
  // For a payload that is none: see detail::require_payload().
  template <class T, std::enable_if_t<detail::is_no_payload<T&&>(), int> = 0>
  EventId send(std::string_view, T&&, std::string_view = "default") {
    detail::require_payload<T&&>();
    return {};
  }
  /// @endcond

  /// Stores several events of one type: all of them or, on any error, none. Returns their ids in the same order. An
  /// empty list is not sent at all and returns no ids, so a missing queue is not noticed.
  /// @throws QueueNotFound
  /// @throws Error with SQLSTATE 22P02, which names the first payload that is not JSON, such as `payloads[3]`
  /// SQL: `pgque.send_batch(text, text, jsonb[])` or `pgque.send_batch(text, text, text[])`
  std::vector<EventId> send_batch(std::string_view queue, std::string_view type, const std::vector<Payload>& payloads);
  /// The same for any range of what is a `Payload`, or is made one: `std::vector<Order>`, a list, an array, a view of
  /// C++20, an array in a JSON value. The range is read once. A text and a map are no such ranges and do not compile.
  /// @throws QueueNotFound
  /// @throws std::invalid_argument also if `payloads` is a JSON value other than an array
  template <class Range, std::enable_if_t<!std::is_same_v<detail::bare<Range>, std::vector<Payload>>, int> = 0>
  std::vector<EventId> send_batch(std::string_view queue, std::string_view type, Range&& payloads) {
    return send_batch(queue, type, detail::payloads_of(payloads));
  }
  /// @cond
  // For a list of payloads that are none. Two iterators make a vector.
  template <class T, std::enable_if_t<!detail::is_iterator<T> && detail::is_no_payload<const T&>(), int> = 0>
  std::vector<EventId> send_batch(std::string_view, std::string_view, std::initializer_list<T>) {
    detail::require_payload<const T&>();
    return {};
  }
  /// @endcond
  /// The same for events of any types, with and without keys and headers: one statement, and ids in the order of the
  /// events. What is wrong with one of them is reported with its index, such as `events[3].key`.
  /// @throws QueueNotFound
  /// SQL: as above if all of them have one type and neither key nor headers; otherwise
  ///   `pgque.insert_event(text, text, text, text, text, text, text)` for each event
  std::vector<EventId> send_batch(std::string_view queue, const std::vector<Event>& events);

  /// @}
  /// @name Consuming. Needs `pgque_reader`.
  /// @{

  /// Subscribes a consumer. It starts at the queue's latest tick: events sent but not yet ticked are delivered.
  /// @return true if it was new, false if it was subscribed already (its position does not change)
  /// @throws QueueNotFound
  /// SQL: `pgque.subscribe(text, text)`
  bool subscribe(std::string_view queue, std::string_view consumer);

  /// Removes a consumer, its pending retries and, when this was its last subscription, its dead letters.
  /// @return true if it was removed, false if there was no such queue or consumer
  /// SQL: `pgque.unsubscribe(text, text)`
  bool unsubscribe(std::string_view queue, std::string_view consumer);

  /// Opens the next batch and returns its messages, ordered by id; returns the same batch again until it is acked. The
  /// list is empty when there is nothing to receive or when an empty tick window was skipped: call again after a
  /// notification, or use `Consumer`, which distinguishes the two.
  /// @param max_messages if given, at least 1: a batch that is larger throws `BatchOverflow`, because an ack would
  ///   finish the whole batch, including the messages beyond the limit
  /// @throws ConsumerNotFound also if the queue does not exist
  /// @throws BatchOverflow
  /// SQL: `pgque.receive(text, text, int4)`
  std::vector<Message> receive(std::string_view queue, std::string_view consumer,
                               std::optional<std::int32_t> max_messages = std::nullopt);

  /// Finishes the batch: all its messages are done, except those that were nacked.
  /// @return true if it was open; false if it was finished, taken over or never existed (not an error)
  /// SQL: `pgque.ack(int8)`
  bool ack(BatchId batch);

  /// Puts one message up for another delivery, or into the dead letters when its retries are exhausted. This does not
  /// finish the batch: ack it afterwards. The batch must be open. Nacking again has no effect until the retry is back.
  /// @throws BatchNotFound if the batch is no longer open
  /// @throws std::invalid_argument if `retry_after` is negative or above 2147483647 s
  /// SQL: `pgque.nack(int8, pgque.message, interval, text)`, with only the id inside the composite
  void nack(const Message& message, const NackOptions& options = {});
  /// The same by ids.
  /// @throws BatchNotFound if the batch is no longer open
  /// @throws std::invalid_argument if `retry_after` is negative or above 2147483647 s
  void nack(BatchId batch, EventId message, const NackOptions& options = {});

  /// @}
  /// @name Cooperative consumers: several workers share one consumer. Experimental in PgQue 0.2. Needs `pgque_reader`.
  /// Names must not contain a dot. Avoid `#` as well: in PgQue 0.3 a subconsumer `worker#1` can receive but never ack.
  /// @{

  /// Registers a worker of the group `consumer`.
  /// @param convert_normal allow turning an existing normal consumer into a group; it must hold no batch
  /// @return true if it was new
  /// @throws QueueNotFound
  /// SQL: `pgque.subscribe_subconsumer(text, text, text, bool)`
  bool subscribe_subconsumer(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                             bool convert_normal = false);

  /// Removes a worker.
  /// @return true if it was removed, false if there was none
  /// @throws Error if it holds a batch and `batch_handling` is `refuse`
  /// SQL: `pgque.unsubscribe_subconsumer(text, text, text, int4)`
  bool unsubscribe_subconsumer(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                               BatchHandling batch_handling = BatchHandling::refuse);

  /// Like `receive`, for one worker; registers group and worker if they are missing. In a `Transaction`, commit before
  /// handling the messages, because this call locks the whole group. If it gives messages, it also counts as a
  /// heartbeat when it ends, however long it waited for the group.
  /// @throws QueueNotFound
  /// @throws BatchOverflow
  /// SQL: `pgque.receive_coop(text, text, text, int4, interval)`, `pgque.touch_subconsumer(text, text, text)`
  std::vector<Message> receive_coop(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                                    const ReceiveCoopOptions& options = {});

  /// Sends a heartbeat, which keeps other workers from taking over this worker's batch.
  /// @return true if the worker exists
  /// SQL: `pgque.touch_subconsumer(text, text, text)`
  bool touch_subconsumer(std::string_view queue, std::string_view consumer, std::string_view subconsumer);

  /// @}
  /// @name Ticking by hand, for tests and demos. Needs `pgque_admin`.
  /// @{

  /// Makes the next `ticker()` call create a tick even if the queue's thresholds are not reached. Creates no tick
  /// itself.
  /// @return the latest existing tick, if there is one
  /// @throws QueueNotFound
  /// SQL: `pgque.force_next_tick(text)`
  std::optional<TickId> force_next_tick(std::string_view queue);

  /// Deprecated name of `force_next_tick`, kept for programs that come from pgque-py.
  /// @return the latest existing tick, if there is one
  /// @throws QueueNotFound
  /// SQL: `pgque.force_tick(text)`
  [[deprecated("use force_next_tick")]] std::optional<TickId> force_tick(std::string_view queue);

  /// Creates a tick for one queue if one is due. Events become visible with the first tick after their commit, so call
  /// this in a later transaction than the one that sent them.
  /// @return the new tick, or empty if none was needed
  /// @throws QueueNotFound
  /// SQL: `pgque.ticker(text)`
  std::optional<TickId> ticker(std::string_view queue);

  /// The same for all queues.
  /// @return how many queues got a tick
  /// SQL: `pgque.ticker()`
  std::int64_t ticker_all();

  /// @}

 protected:
  /// @cond
  explicit Operations(std::unique_ptr<detail::Executor> executor) noexcept;
  Operations(Operations&& other) noexcept;
  Operations& operator=(Operations&& other) noexcept;
  ~Operations();

  // Throws std::logic_error if this object was moved from.
  detail::Executor& executor() const;

  // This is the only owner. A std::unique_ptr would make every source file that includes this compile more slowly.
  std::shared_ptr<detail::Executor> executor_;
  /// @endcond
};

}  // namespace pgque
