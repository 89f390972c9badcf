#pragma once

// What became of everything that threads sent through a BufferedProducer, as its futures tell it, to be compared with
// what is in the queue.

#include <algorithm>
#include <chrono>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <pgque/buffered_producer.hpp>
#include <pgque/pgque.hpp>

namespace pgque::test {

// How an event's future ended.
struct Outcome {
  enum class Kind { sent, refused, unknown };
  Kind kind = Kind::sent;
  EventId id{};
  std::string text{};  // of the error
};

// Every future must become ready; one that does not is a failure, not a hanging test.
inline Outcome outcome_of(std::future<EventId>& future) {
  if (future.wait_for(std::chrono::seconds{60}) != std::future_status::ready) {
    ADD_FAILURE() << "a future does not become ready";
    return {Outcome::Kind::unknown, {}, "not ready"};
  }
  try {
    return {Outcome::Kind::sent, future.get(), {}};
  } catch (const Error& error) {
    return {error.outcome_unknown() ? Outcome::Kind::unknown : Outcome::Kind::refused, {}, error.what()};
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not an Error: " << error.what();  // such as a broken promise
    return {Outcome::Kind::unknown, {}, error.what()};
  }
}

// Payloads are "thread:number", as text. For any number of threads.
class ProducerLedger {
 public:
  // Sends `count` events of one thread.
  void send(BufferedProducer& producer, const std::string& queue, int thread, int count,
            const std::string& type = "t") {
    for (int i = 0; i < count; ++i) send_one(producer, queue, thread, i, type);
  }
  void send_one(BufferedProducer& producer, const std::string& queue, int thread, int number,
                const std::string& type = "t", std::optional<std::string> key = {}) {
    auto payload = std::to_string(thread) + ':' + std::to_string(number);
    auto future = key ? producer.send(queue, Event{text(payload), type, std::move(key)})
                      : producer.send(queue, text(payload), type);
    const std::lock_guard lock{mutex_};
    open_.emplace_back(std::move(payload), std::move(future));
  }

  // Waits for all futures.
  const std::map<std::string, Outcome>& outcomes() {
    const std::lock_guard lock{mutex_};
    for (auto& [payload, future] : open_) outcomes_.emplace(payload, outcome_of(future));
    open_.clear();
    return outcomes_;
  }
  std::size_t count(Outcome::Kind kind) {
    std::size_t count = 0;
    for (const auto& [payload, outcome] : outcomes()) count += outcome.kind == kind ? 1U : 0U;
    return count;
  }

  // What the futures said is what happened: a sent event is there once under its id, a refused one is not, one of
  // unknown outcome at most once; nothing else is there; and each thread's events are in their order.
  void expect_agrees_with(const std::vector<Message>& messages) {
    std::map<std::string, std::vector<EventId>> found;
    std::map<std::string, int> last;
    std::set<EventId> ids;
    for (const auto& message : messages) {
      found[message.payload.value()].push_back(message.msg_id);
      EXPECT_TRUE(ids.insert(message.msg_id).second) << "id " << message.msg_id << " twice";
      const auto colon = message.payload->find(':');
      const int number = std::stoi(message.payload->substr(colon + 1));
      const auto thread = message.payload->substr(0, colon) + ' ' + message.type.value();
      if (const auto before = last.find(thread); before != last.end()) {
        EXPECT_LT(before->second, number) << "thread and type " << thread;
      }
      last[thread] = number;
    }
    std::size_t known = 0;
    for (const auto& [payload, outcome] : outcomes()) {
      const auto at = found.find(payload);
      const auto times = at == found.end() ? 0U : at->second.size();
      known += times;
      switch (outcome.kind) {
        case Outcome::Kind::sent:
          EXPECT_EQ(times, 1U) << payload << " was sent";
          if (times == 1) {
            EXPECT_EQ(at->second.front(), outcome.id) << payload;
          }
          break;
        case Outcome::Kind::refused:
          EXPECT_EQ(times, 0U) << payload << " failed: " << outcome.text;
          break;
        case Outcome::Kind::unknown:
          EXPECT_LE(times, 1U) << payload << " is in doubt: " << outcome.text;
          break;
      }
    }
    EXPECT_EQ(known, messages.size()) << "something is there that was not sent";
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::string, std::future<EventId>>> open_;
  std::map<std::string, Outcome> outcomes_;
};

}  // namespace pgque::test
