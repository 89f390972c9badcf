#include "producer/send_buffer.hpp"

#include <algorithm>
#include <iterator>
#include <new>

namespace pgque::detail {

namespace {

// Makes the list unable to throw while it grows to this size.
template <class T>
void make_room(std::vector<T>& list, std::size_t size) {
  constexpr std::size_t least = 16;
  if (size > list.capacity()) list.reserve(std::max({least, size, 2 * list.capacity()}));
}

// Moves the first elements of one list to the end of another that has room for them.
template <class T>
void move_first(std::vector<T>& from, std::size_t count, std::vector<T>& to) noexcept {
  const auto end = from.begin() + static_cast<std::ptrdiff_t>(count);
  std::move(from.begin(), end, std::back_inserter(to));
  from.erase(from.begin(), end);
}

}  // namespace

SendBuffer::Lane& SendBuffer::make_lane(Lanes& lanes, std::string_view queue, std::string_view type) {
  auto lane = std::make_unique<Lane>(Lane{std::string{queue}, std::string{type}});
  const auto node = [&] {
    Order one;
    return one.extract(one.emplace(0, lane.get()).first);
  };
  lane->in_order = node();
  lane->in_full = node();
  const Key key{lane->queue, lane->type};
  return *lanes.emplace(key, std::move(lane)).first->second;
}

bool SendBuffer::full(const SendBatch& batch) const noexcept {
  return batch.size() >= limits_.batch_messages || batch.bytes >= limits_.batch_bytes;
}

void SendBuffer::enter(Lane& lane) noexcept {
  lane.in_order.key() = number(lane);
  order_.insert(std::move(lane.in_order));
  enter_full(lane);
}

void SendBuffer::enter_full(Lane& lane) noexcept {
  if (lane.in_full.empty() || !due_at_once(lane)) return;
  lane.in_full.key() = number(lane);
  full_.insert(std::move(lane.in_full));
}

void SendBuffer::leave(Lane& lane) noexcept {
  lane.in_order = order_.extract(number(lane));
  if (lane.in_full.empty()) lane.in_full = full_.extract(number(lane));
}

bool SendBuffer::has_many(std::string_view queue, std::string_view type) const noexcept {
  const auto many = lanes_.find({queue, {}});
  return many != lanes_.end() && many->second->types.find(type) != many->second->types.end();
}

void SendBuffer::append(SendBatch& batch, std::string_view type, Payload&& payload, Extras&& extras,
                        std::promise<EventId>&& promise, Clock::time_point now) {
  const auto size = batch.size() + 1;
  const bool with_extras = !type.empty() || !extras.empty() || !batch.extras.empty();
  std::string own_type{type};
  make_room(batch.payloads, size);
  make_room(batch.waiting, size);
  if (with_extras) make_room(batch.extras, size);
  // From here on nothing throws.
  batch.bytes += bytes_of(type.empty() ? std::string_view{batch.type} : type, payload, extras);
  batch.payloads.push_back(std::move(payload));
  batch.waiting.push_back({std::move(promise), now, next_number_++});
  if (!with_extras) return;
  batch.extras.resize(size - 1);  // those before may have had none
  batch.extras.push_back(std::move(extras));
  batch.extras.back().type = std::move(own_type);
}

void SendBuffer::add(std::string_view queue, std::string_view type, Payload&& payload, Extras&& extras,
                     std::promise<EventId>&& promise, Clock::time_point now) {
  const auto bytes = bytes_of(type, payload, extras);
  const auto own = lanes_.find({queue, type});
  const bool for_many = own == lanes_.end() && (!extras.empty() || has_many(queue, type));
  const auto lane_type = for_many ? std::string_view{} : type;
  // What is new joins the rest only after everything that may throw.
  Lanes new_lane;
  SendBatches new_batch;
  Counts new_type;
  const auto found = for_many ? lanes_.find({queue, lane_type}) : own;
  auto& lane = found != lanes_.end() ? *found->second : make_lane(new_lane, queue, lane_type);
  if (for_many && lane.types.find(type) == lane.types.end()) new_type.emplace(type, 0);
  auto& batches = lane.batches;
  const bool fits = !batches.empty() && !full(batches.back()) &&
                    bytes <= limits_.batch_bytes - std::min(limits_.batch_bytes, batches.back().bytes);
  if (!fits) new_batch.push_back(SendBatch{lane.queue, lane.type});
  append(fits ? batches.back() : new_batch.front(), for_many ? type : std::string_view{}, std::move(payload),
         std::move(extras), std::move(promise), now);

  lane.types.merge(new_type);
  if (for_many) ++lane.types.find(type)->second;
  const bool first = batches.empty();
  batches.splice(batches.end(), new_batch);
  lanes_.merge(new_lane);
  ++messages_;
  bytes_ += bytes;
  if (first) {
    enter(lane);
  } else {
    enter_full(lane);
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

void SendBuffer::take_first(Lane& lane, SendBatches& taken) noexcept {
  leave(lane);
  taken.splice(taken.end(), lane.batches, lane.batches.begin());
  ++lane.taken;
  if (!lane.batches.empty()) enter(lane);
}

SendBatches SendBuffer::take(Clock::time_point now) noexcept {
  // Events that have lingered are older than those that have not, so the oldest event, if it is due, goes before a full
  // batch.
  const bool oldest_due = first_number() < flush_before_ || oldest() + limits_.linger <= now;
  SendBatches taken;
  take_first(oldest_due || full_.empty() ? *order_.begin()->second : *full_.begin()->second, taken);
  return taken;
}

void SendBuffer::put_back(SendBatches&& taken) noexcept {
  auto& lane = lane_of(taken.front());
  if (!lane.batches.empty()) leave(lane);
  lane.batches.splice(lane.batches.begin(), taken);
  --lane.taken;
  enter(lane);
}

SendBatches SendBuffer::take_older(Clock::time_point since) noexcept {
  SendBatches taken;
  while (!empty() && oldest() <= since) {
    auto& lane = *order_.begin()->second;
    auto& batch = lane.batches.front();
    const auto older = std::partition_point(batch.waiting.begin(), batch.waiting.end(),
                                            [&](const SendBatch::Waiting& one) { return one.since <= since; });
    if (older == batch.waiting.end()) {
      take_first(lane, taken);
      continue;
    }
    const auto count = static_cast<std::size_t>(older - batch.waiting.begin());
    SendBatches part;
    try {
      part.push_back(SendBatch{batch.queue, batch.type});
      part.front().payloads.reserve(count);
      part.front().waiting.reserve(count);
      if (!batch.extras.empty()) part.front().extras.reserve(count);
    } catch (const std::bad_alloc&) {
      break;
    }
    leave(lane);
    auto& first = part.front();
    move_first(batch.payloads, count, first.payloads);
    move_first(batch.waiting, count, first.waiting);
    if (!batch.extras.empty()) move_first(batch.extras, count, first.extras);
    static const Extras none;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& extras = first.extras.empty() ? none : first.extras[i];
      first.bytes += bytes_of(extras.type.empty() ? first.type : extras.type, first.payloads[i], extras);
    }
    batch.bytes -= first.bytes;
    enter(lane);
    taken.splice(taken.end(), part);
    ++lane.taken;
  }
  return taken;
}

void SendBuffer::release(const SendBatch& batch) noexcept {
  messages_ -= batch.size();
  bytes_ -= batch.bytes;
  auto& lane = lane_of(batch);
  if (!lane.types.empty()) {
    for (const auto& extras : batch.extras) {
      const auto type = lane.types.find(extras.type);
      if (--type->second == 0) lane.types.erase(type);
    }
  }
  if (--lane.taken == 0 && lane.batches.empty()) lanes_.erase({lane.queue, lane.type});
}

}  // namespace pgque::detail
