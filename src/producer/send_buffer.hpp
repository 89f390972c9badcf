#pragma once

// Events that wait to be sent: which of them form a batch, and when it is sent. No I/O, no clock, no threads.
//
// If add() gets no memory, it changes nothing. To take what is in the buffer, to put it back and to give it up needs no
// memory, so the sending thread can always do that.
//
// A batch of events without extras is a call of send_batch, so it has one type. A batch of events with extras is a
// call of insert_event for each event, so it may as well have all types of its queue. As long as there are events of a
// queue and type, others of the same join them, with or without extras, so that they all keep their order.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pgque/message.hpp>
#include <pgque/payload.hpp>

namespace pgque::detail {

struct SendLimits {
  std::size_t batch_messages;
  std::size_t batch_bytes;
  std::chrono::milliseconds linger;
  std::size_t buffer_messages;
  std::size_t buffer_bytes;
};

// What an event may have beside its payload.
struct Extras {
  std::optional<std::string> key{};
  std::optional<std::string> headers{};  // as JSON
  std::string type{};                    // in a batch of many types; else empty

  bool empty() const noexcept { return !key && !headers; }
};

// One future statement.
struct SendBatch {
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    std::promise<EventId> promise;
    Clock::time_point since;
    std::uint64_t number;  // ascending in the order of add()
  };

  std::string queue;
  std::string type;                 // empty if the events have their own
  std::vector<Payload> payloads{};  // as send_batch takes them
  std::vector<Waiting> waiting{};   // one for each
  std::vector<Extras> extras{};     // one for each, or none if all are without and of one type
  std::size_t bytes = 0;

  std::size_t size() const noexcept { return payloads.size(); }
};
// A list, because a batch moves from one list to another without memory.
using SendBatches = std::list<SendBatch>;

// The bytes that count for the limits. The types of events with extras may all be different, so they count as well.
inline std::size_t bytes_of(std::string_view type, const Payload& payload, const Extras& extras) noexcept {
  const auto size = [](const std::optional<std::string>& text) { return text ? text->size() : 0; };
  return size(payload.text()) + (extras.empty() ? 0 : type.size() + size(extras.key) + size(extras.headers));
}

class SendBuffer {
 public:
  using Clock = SendBatch::Clock;
  static constexpr auto never = Clock::time_point::max();
  static constexpr auto at_once = Clock::time_point::min();

  explicit SendBuffer(const SendLimits& limits) : limits_{limits} {}

  // Whether an event of this many bytes may be added now. What take() returned counts until release().
  bool has_room(std::size_t bytes) const noexcept {
    return messages_ < limits_.buffer_messages && bytes <= limits_.buffer_bytes - bytes_;
  }
  // `now` must not go backwards, and the type must not be empty. If this throws, nothing has changed, and the payload,
  // the extras and the promise are still the caller's.
  void add(std::string_view queue, std::string_view type, Payload&& payload, Extras&& extras,
           std::promise<EventId>&& promise, Clock::time_point now);

  bool empty() const noexcept { return order_.empty(); }
  std::size_t messages() const noexcept { return messages_; }  // including those taken and not released
  std::size_t bytes() const noexcept { return bytes_; }

  // When a batch is due: at_once when one is full or to be flushed, else when the oldest event will have lingered.
  Clock::time_point due() const noexcept;
  // Since when the oldest event has been waiting; never if there is none.
  Clock::time_point oldest() const noexcept;
  // The number of the oldest event, and the one that the next event will get.
  std::uint64_t first_number() const noexcept { return empty() ? next_number_ : order_.begin()->first; }
  std::uint64_t next_number() const noexcept { return next_number_; }

  // Makes everything in the buffer due at once.
  void flush() noexcept { flush_before_ = next_number_; }

  // The batch with the oldest event among those that are due, or of all if none is. Not from an empty buffer. Each
  // batch that is taken has to be put back or released.
  SendBatches take(Clock::time_point now) noexcept;
  // Returns a batch from take() to its place before all others of its queue and type.
  void put_back(SendBatches&& taken) noexcept;
  // Takes the events that have been waiting since `since` or longer, in batches of one queue and type each. Where
  // later events share the batch, this needs memory; if there is none, events stay behind until the next call.
  SendBatches take_older(Clock::time_point since) noexcept;
  // The room of a batch that was taken is free again.
  void release(const SendBatch& batch) noexcept;

 private:
  struct Lane;
  using Order = std::map<std::uint64_t, Lane*>;

  using Counts = std::map<std::string, std::size_t, std::less<>>;

  // The events of one queue and type in their order, or with an empty type those of many types. It stays while a batch
  // of it is taken and may be put back.
  struct Lane {
    std::string queue;
    std::string type;
    SendBatches batches{};
    std::size_t taken = 0;
    // How many events of each type there are, including those taken and not released, if there are many types.
    Counts types{};
    // The lane's nodes in order_ and full_ while they are not there.
    Order::node_type in_order{};
    Order::node_type in_full{};
  };
  using Key = std::pair<std::string_view, std::string_view>;  // into the lane's own strings
  using Lanes = std::map<Key, std::unique_ptr<Lane>>;

  static Lane& make_lane(Lanes& lanes, std::string_view queue, std::string_view type);
  // Whether the lane of many types has events of this one.
  bool has_many(std::string_view queue, std::string_view type) const noexcept;
  Lane& lane_of(const SendBatch& batch) noexcept { return *lanes_.find({batch.queue, batch.type})->second; }
  // With a type, it is put among the extras.
  void append(SendBatch& batch, std::string_view type, Payload&& payload, Extras&& extras,
              std::promise<EventId>&& promise, Clock::time_point now);
  bool full(const SendBatch& batch) const noexcept;
  bool due_at_once(const Lane& lane) const noexcept { return lane.batches.size() > 1 || full(lane.batches.front()); }
  static std::uint64_t number(const Lane& lane) noexcept { return lane.batches.front().waiting.front().number; }
  void enter(Lane& lane) noexcept;
  void enter_full(Lane& lane) noexcept;
  void leave(Lane& lane) noexcept;
  void take_first(Lane& lane, SendBatches& taken) noexcept;

  const SendLimits limits_;
  Lanes lanes_;
  // By the number of its oldest event: all lanes, and those with a batch that is full.
  Order order_;
  Order full_;
  std::uint64_t next_number_ = 0;
  std::uint64_t flush_before_ = 0;
  std::size_t messages_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace pgque::detail
