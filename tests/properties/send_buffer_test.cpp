// A buffer and what is known about the events in it, through any sequence of calls.

#include "producer/send_buffer.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "properties.hpp"

namespace pgque::test {
namespace {

using detail::Extras;
using detail::SendBatch;
using detail::SendBatches;
using detail::SendBuffer;
using detail::SendLimits;
using Clock = SendBuffer::Clock;

enum Call { add, add_again, add_more, flush, take, put_back, release, take_older, calls };

// A call with three numbers, whose meaning depends on the call.
using Turn = std::tuple<int, int, int, int>;

class Model {
 public:
  explicit Model(const SendLimits& limits) : limits_{limits}, buffer_{limits} {}

  void step(const Turn& turn) {
    const auto [call, a, b, c] = turn;
    now_ += std::chrono::milliseconds{c};
    switch (call) {
      case flush:
        buffer_.flush();
        flushed_before_ = next_;
        break;
      case take:
        if (!buffer_.empty()) take_one();
        break;
      case put_back:
        if (!taken_.empty()) put_back_one();
        break;
      case release:
        if (!taken_.empty()) release_all(taken_);
        break;
      case take_older:
        take_all_before(now_ - std::chrono::milliseconds{a});
        break;
      default:
        add_one(a % 3, a >= 6, static_cast<std::size_t>(b));
    }
    check();
  }

  // Nothing is lost: everything comes out in the end.
  void finish() {
    if (!taken_.empty()) put_back_one();
    while (!buffer_.empty()) take_one();
    release_all(taken_);
    check();
    RC_ASSERT(buffer_.messages() == 0u);
    RC_ASSERT(buffer_.bytes() == 0u);
  }

 private:
  struct Event {
    int kind;
    bool keyed;
    std::size_t bytes;
    Clock::time_point since;
  };
  using Events = std::map<std::uint64_t, Event>;

  // A kind is a queue and a type.
  static std::string queue_of(int kind) { return kind == 0 ? "q" : "r"; }
  static std::string type_of(int kind) { return kind == 2 ? "u" : "t"; }

  void add_one(int kind, bool keyed, std::size_t payload) {
    const auto bytes = payload + (keyed ? 4 : 0);
    const bool room = waiting_.size() + out_.size() < limits_.buffer_messages &&
                      bytes_of(waiting_) + bytes_of(out_) + bytes <= limits_.buffer_bytes;
    RC_ASSERT(buffer_.has_room(bytes) == room);
    if (!room) return;
    buffer_.add(queue_of(kind), type_of(kind), text(std::string(payload, 'x')), keyed ? Extras{"k", "{}"} : Extras{},
                {}, now_);
    waiting_[next_++] = {kind, keyed, bytes, now_};
  }

  void take_one() {
    const bool oldest_due =
        waiting_.begin()->first < flushed_before_ || waiting_.begin()->second.since + limits_.linger <= now_;
    auto taken = buffer_.take(now_);
    RC_ASSERT(taken.size() == 1u);
    const auto& batch = taken.front();
    const auto first = batch.waiting.front().number;
    if (oldest_due) RC_ASSERT(first == waiting_.begin()->first);
    // The events of a kind come in their order, the oldest first.
    std::map<int, std::uint64_t> last;
    for (const auto& one : batch.waiting) last[waiting_.at(one.number).kind] = one.number;
    move_out(batch);
    for (const auto& [number, event] : waiting_) {
      if (const auto before = last.find(event.kind); before != last.end()) RC_ASSERT(number > before->second);
    }
    taken_.splice(taken_.end(), taken);
  }

  // The loop puts back only what it took last, before it takes anything else.
  void put_back_one() {
    SendBatches last;
    last.splice(last.begin(), taken_, std::prev(taken_.end()));
    if (!may_be_put_back(last.front())) {
      release_all(last);
      return;
    }
    for (const auto& one : last.front().waiting) {
      waiting_.insert(out_.extract(one.number));
    }
    buffer_.put_back(std::move(last));
  }

  // Not behind events of its kind that are newer than events in it.
  bool may_be_put_back(const SendBatch& batch) const {
    std::map<int, std::uint64_t> last;
    for (const auto& one : batch.waiting) last[out_.at(one.number).kind] = one.number;
    return std::all_of(waiting_.begin(), waiting_.end(), [&](const auto& one) {
      const auto before = last.find(one.second.kind);
      return before == last.end() || one.first > before->second;
    });
  }

  void release_all(SendBatches& batches) {
    for (const auto& batch : batches) {
      for (const auto& one : batch.waiting) RC_ASSERT(out_.erase(one.number) == 1u);
      buffer_.release(batch);
    }
    batches.clear();
  }

  void take_all_before(Clock::time_point since) {
    auto older = buffer_.take_older(since);
    for (const auto& batch : older) {
      for (const auto& one : batch.waiting) RC_ASSERT(one.since <= since);
      move_out(batch);
    }
    for (const auto& [number, event] : waiting_) RC_ASSERT(event.since > since);
    release_all(older);
  }

  // A batch that came out of the buffer.
  void move_out(const SendBatch& batch) {
    RC_ASSERT(batch.size() >= 1u);
    RC_ASSERT(batch.waiting.size() == batch.size());
    RC_ASSERT(batch.size() <= limits_.batch_messages);
    RC_ASSERT(batch.extras.empty() || batch.extras.size() == batch.size());
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const auto& one = batch.waiting[i];
      const auto extras = batch.extras.empty() ? Extras{} : batch.extras[i];
      if (i > 0) RC_ASSERT(batch.waiting[i - 1].number < one.number);
      const auto node = waiting_.extract(one.number);
      RC_ASSERT(!node.empty());
      const auto& event = node.mapped();
      RC_ASSERT(batch.queue == queue_of(event.kind));
      RC_ASSERT((batch.type.empty() ? extras.type : batch.type) == type_of(event.kind));
      RC_ASSERT(extras.empty() != event.keyed);
      RC_ASSERT(detail::bytes_of(type_of(event.kind), batch.payloads[i], extras) == event.bytes);
      RC_ASSERT(one.since == event.since);
      bytes += event.bytes;
      out_[one.number] = event;
    }
    RC_ASSERT(batch.bytes == bytes);
    if (batch.size() > 1) RC_ASSERT(bytes <= limits_.batch_bytes);
  }

  static std::size_t bytes_of(const Events& events) {
    std::size_t bytes = 0;
    for (const auto& [number, event] : events) bytes += event.bytes;
    return bytes;
  }

  void check() {
    RC_ASSERT(buffer_.empty() == waiting_.empty());
    RC_ASSERT(buffer_.messages() == waiting_.size() + out_.size());
    RC_ASSERT(buffer_.bytes() == bytes_of(waiting_) + bytes_of(out_));
    RC_ASSERT(buffer_.next_number() == next_);
    RC_ASSERT(buffer_.first_number() == (waiting_.empty() ? next_ : waiting_.begin()->first));
    RC_ASSERT(buffer_.oldest() == (waiting_.empty() ? SendBuffer::never : waiting_.begin()->second.since));
    const auto due = buffer_.due();
    RC_ASSERT((due == SendBuffer::never) == waiting_.empty());
    if (waiting_.empty()) return;
    if (waiting_.begin()->first < flushed_before_) RC_ASSERT(due == SendBuffer::at_once);
    RC_ASSERT(due <= waiting_.begin()->second.since + limits_.linger);
    // A kind with more than a batch holds is due at once.
    std::map<int, Events> kinds;
    for (const auto& [number, event] : waiting_) kinds[event.kind][number] = event;
    for (const auto& [kind, events] : kinds) {
      if (events.size() >= limits_.batch_messages || bytes_of(events) >= limits_.batch_bytes) {
        RC_ASSERT(due == SendBuffer::at_once);
      }
    }
  }

  const SendLimits limits_;
  SendBuffer buffer_;
  SendBatches taken_;
  Clock::time_point now_{std::chrono::seconds{1000}};
  Events waiting_;  // in the buffer
  Events out_;      // taken
  std::uint64_t next_ = 0;
  std::uint64_t flushed_before_ = 0;
};

RC_GTEST_PROP(SendBufferProperties, LosesDoublesAndDisordersNothing, ()) {
  const auto batch_messages = *rc::gen::inRange<std::size_t>(1, 6);
  const auto batch_bytes = *rc::gen::inRange<std::size_t>(1, 30);
  const auto linger = *rc::gen::inRange(0, 5);
  const auto turns = *rc::gen::container<std::vector<Turn>>(rc::gen::tuple(
      rc::gen::inRange<int>(0, calls), rc::gen::inRange(0, 10), rc::gen::inRange(0, 20), rc::gen::inRange(0, 4)));
  Model model{{batch_messages, batch_bytes, std::chrono::milliseconds{linger}, 20, 100}};
  for (const auto& turn : turns) model.step(turn);
  model.finish();
}

}  // namespace
}  // namespace pgque::test
