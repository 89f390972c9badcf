#include "producer/send_buffer.hpp"

#include <algorithm>
#include <iterator>

namespace pgque::detail {

namespace {

// Makes the following push_back unable to throw, because the two lists must have the same length.
template <class T>
void make_room(std::vector<T>& list) {
  constexpr std::size_t least = 16;
  if (list.size() == list.capacity()) list.reserve(std::max(least, 2 * list.size()));
}

}  // namespace

SendBuffer::Lane& SendBuffer::lane(std::string_view queue, std::string_view type) {
  if (const auto found = lanes_.find({queue, type}); found != lanes_.end()) return *found->second;
  auto lane = std::make_unique<Lane>();
  lane->queue = queue;
  lane->type = type;
  const Key key{lane->queue, lane->type};
  return *lanes_.emplace(key, std::move(lane)).first->second;
}

bool SendBuffer::full(const SendBatch& batch) const noexcept {
  return batch.size() >= limits_.batch_messages || batch.bytes >= limits_.batch_bytes;
}

void SendBuffer::enter(Lane& lane) {
  order_.emplace(number(lane), &lane);
  if (due_at_once(lane)) full_.emplace(number(lane), &lane);
}

void SendBuffer::leave(Lane& lane) {
  order_.erase(number(lane));
  full_.erase(number(lane));
}

void SendBuffer::erase_if_empty(Lane& lane) {
  if (lane.batches.empty()) lanes_.erase({lane.queue, lane.type});
}

void SendBuffer::append(SendBatch& batch, Payload&& payload, std::promise<EventId>&& promise, Clock::time_point now) {
  batch.bytes += bytes_of(payload);
  make_room(batch.payloads);
  make_room(batch.waiting);
  batch.payloads.push_back(std::move(payload));
  batch.waiting.push_back({std::move(promise), now, next_number_++});
}

void SendBuffer::add(std::string_view queue, std::string_view type, Payload&& payload, std::promise<EventId>&& promise,
                     Clock::time_point now) {
  auto& lane = this->lane(queue, type);
  auto& batches = lane.batches;
  const auto bytes = bytes_of(payload);
  const bool fits = !batches.empty() && !full(batches.back()) &&
                    bytes <= limits_.batch_bytes - std::min(limits_.batch_bytes, batches.back().bytes);
  const bool first = batches.empty();
  if (fits) {
    append(batches.back(), std::move(payload), std::move(promise), now);
  } else {
    SendBatch batch{lane.queue, lane.type, {}, {}, 0};
    append(batch, std::move(payload), std::move(promise), now);
    batches.push_back(std::move(batch));
  }
  ++messages_;
  bytes_ += bytes;
  if (first) {
    enter(lane);
  } else if (due_at_once(lane)) {
    full_.emplace(number(lane), &lane);
  }
}

SendBuffer::Clock::time_point SendBuffer::due() const noexcept {
  if (empty()) return never;
  if (!full_.empty() || first_number() < flush_before_) return at_once;
  return oldest() + limits_.linger;
}

SendBuffer::Clock::time_point SendBuffer::oldest() const noexcept {
  return empty() ? never : order_.begin()->second->batches.front().waiting.front().since;
}

SendBatch SendBuffer::take(Clock::time_point now) {
  // Events that have lingered are older than those that have not, so the oldest event, if it is due, goes before a full
  // batch.
  const bool oldest_due = first_number() < flush_before_ || oldest() + limits_.linger <= now;
  auto& lane = oldest_due || full_.empty() ? *order_.begin()->second : *full_.begin()->second;
  leave(lane);
  auto batch = std::move(lane.batches.front());
  lane.batches.pop_front();
  if (!lane.batches.empty()) enter(lane);
  erase_if_empty(lane);
  return batch;
}

void SendBuffer::put_back(SendBatch&& batch) {
  auto& lane = this->lane(batch.queue, batch.type);
  if (!lane.batches.empty()) leave(lane);
  lane.batches.push_front(std::move(batch));
  enter(lane);
}

std::vector<SendBatch> SendBuffer::take_older(Clock::time_point since) {
  std::vector<SendBatch> taken;
  while (oldest() <= since && !empty()) {
    auto& lane = *order_.begin()->second;
    leave(lane);
    auto& batch = lane.batches.front();
    const auto older = std::partition_point(batch.waiting.begin(), batch.waiting.end(),
                                            [&](const SendBatch::Waiting& one) { return one.since <= since; });
    if (older == batch.waiting.end()) {
      taken.push_back(std::move(batch));
      lane.batches.pop_front();
    } else {
      const auto count = older - batch.waiting.begin();
      SendBatch part{batch.queue, batch.type, {}, {}, 0};
      part.payloads.assign(std::make_move_iterator(batch.payloads.begin()),
                           std::make_move_iterator(batch.payloads.begin() + count));
      part.waiting.assign(std::make_move_iterator(batch.waiting.begin()), std::make_move_iterator(older));
      for (const auto& payload : part.payloads) part.bytes += bytes_of(payload);
      batch.bytes -= part.bytes;
      batch.payloads.erase(batch.payloads.begin(), batch.payloads.begin() + count);
      batch.waiting.erase(batch.waiting.begin(), older);
      taken.push_back(std::move(part));
    }
    if (!lane.batches.empty()) enter(lane);
    erase_if_empty(lane);
  }
  return taken;
}

void SendBuffer::release(std::size_t messages, std::size_t bytes) noexcept {
  messages_ -= messages;
  bytes_ -= bytes;
}

}  // namespace pgque::detail
