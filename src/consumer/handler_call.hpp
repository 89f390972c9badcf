#pragma once

// One call of a handler: what its Context refers to. Each thread that runs handlers has one of these for all of its
// calls, so that a use of the Context after the call is noticed.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <pgque/message.hpp>
#include <pgque/on_send.hpp>

#include "consumer/claim.hpp"
#include "consumer/handler_savepoint.hpp"
#include "consumer/retry.hpp"
#include "support/stopper.hpp"

namespace pgque::detail {

using OnAck = std::function<void(pqxx::transaction_base&)>;

using Verdicts = std::map<std::size_t, Verdict>;  // by the number of the message in the call

class HandlerCall {
 public:
  // All of them must outlive it.
  HandlerCall(const Stopper& stopper, const Claim& claim, const OnSend& on_send) noexcept
      : stopper_{stopper}, claim_{claim}, on_send_{on_send} {}

  // While it lives, the handler runs on this thread.
  class Scope {
   public:
    Scope(HandlerCall& call, const Message* messages, std::size_t size, HandlerSavepoint& savepoint) : call_{call} {
      call_.begin(messages, size, &savepoint);
    }
    // Without a database.
    Scope(HandlerCall& call, const Message* messages, std::size_t size) : call_{call} {
      call_.begin(messages, size, nullptr);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { call_.thread_ = std::thread::id{}; }

   private:
    HandlerCall& call_;
  };

  // What the handler of the last call left behind.
  std::vector<OnAck>& on_ack() noexcept { return on_ack_; }
  Verdicts& verdicts() noexcept { return verdicts_; }

  // For the Context. Those that are not noexcept throw std::logic_error unless the handler runs, on this thread.
  void require_running(const char* caller) const;
  pqxx::dbtransaction& transaction();
  void defer(OnAck callback);
  // What Context::send() was given is kept instead of sent where there is no database; false elsewhere.
  bool keep(const char* caller, std::string_view queue, const Event& event);
  const std::vector<std::pair<std::string, Event>>& kept() const noexcept { return kept_; }
  // At once in the batch's transaction if that is open, otherwise as defer().
  void write(const char* caller, const OnAck& callback);
  const OnSend& on_send() const noexcept { return on_send_; }
  void judge(const char* caller, const Message& message, Verdict verdict);
  std::size_t size() const noexcept { return size_; }
  const Message& message(std::size_t index) const;
  std::int32_t attempt() const noexcept { return attempt_; }
  BatchId batch() const noexcept { return batch_; }
  bool stop_requested() const noexcept { return stopper_.requested() || claim_.lost(); }

 private:
  void begin(const Message* messages, std::size_t size, HandlerSavepoint* savepoint);
  std::size_t number_of(const Message& message);

  const Stopper& stopper_;
  const Claim& claim_;
  const OnSend& on_send_;
  std::atomic<std::thread::id> thread_{};  // no thread's while no handler runs
  HandlerSavepoint* savepoint_ = nullptr;  // null without a database
  const Message* messages_ = nullptr;
  std::size_t size_ = 0;
  std::int32_t attempt_ = 0;
  BatchId batch_{};
  std::vector<OnAck> on_ack_;
  std::vector<std::pair<std::string, Event>> kept_;
  Verdicts verdicts_;
  std::unordered_map<EventId, std::size_t> numbers_;  // of the messages, once they are needed
};

}  // namespace pgque::detail
