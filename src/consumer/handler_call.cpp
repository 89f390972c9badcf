#include "consumer/handler_call.hpp"

#include <functional>
#include <stdexcept>
#include <utility>

#include "consumer/failures.hpp"

namespace pgque::detail {

void HandlerCall::begin(const Message* messages, std::size_t size, HandlerSavepoint* savepoint) {
  savepoint_ = savepoint;
  messages_ = messages;
  size_ = size;
  attempt_ = attempt_of(*messages);
  batch_ = messages->batch_id;
  on_ack_.clear();
  kept_.clear();
  verdicts_.clear();
  numbers_.clear();
  thread_ = std::this_thread::get_id();
}

void HandlerCall::require_running(const char* caller) const {
  if (thread_.load() == std::this_thread::get_id()) return;
  throw std::logic_error{std::string{caller} + ": may be called only while the handler runs, and on its thread"};
}

pqxx::dbtransaction& HandlerCall::transaction() {
  require_running("Context::transaction()");
  if (savepoint_ == nullptr) {
    throw std::logic_error{
        "Context::transaction(): pgque::testing::handle() has no database; use pgque::testing::Queue"};
  }
  return savepoint_->transaction();
}

void HandlerCall::defer(OnAck callback) {
  require_running("Context::on_ack()");
  if (!callback) throw std::invalid_argument{"callback: must not be empty"};
  on_ack_.push_back(std::move(callback));
}

bool HandlerCall::keep(const char* caller, std::string_view queue, const Event& event) {
  require_running(caller);
  if (savepoint_ != nullptr) return false;
  kept_.emplace_back(queue, event);
  return true;
}

void HandlerCall::write(const char* caller, const OnAck& callback) {
  require_running(caller);
  if (!savepoint_->has_transaction()) return on_ack_.push_back(callback);
  callback(savepoint_->transaction());
}

void HandlerCall::judge(const char* caller, const Message& message, Verdict verdict) {
  require_running(caller);
  verdicts_[number_of(message)] = std::move(verdict);
}

const Message& HandlerCall::message(std::size_t index) const {
  require_running("Context::message()");
  if (index < size_) return messages_[index];
  throw std::out_of_range{"Context::message(): there are " + std::to_string(size_) + " messages"};
}

std::size_t HandlerCall::number_of(const Message& message) {
  const std::less<> before;
  if (!before(&message, messages_) && before(&message, messages_ + size_)) {
    return static_cast<std::size_t>(&message - messages_);
  }
  if (numbers_.empty()) {
    for (std::size_t i = 0; i < size_; ++i) numbers_.emplace(messages_[i].msg_id, i);
  }
  const auto found = numbers_.find(message.msg_id);
  if (found != numbers_.end() && message.batch_id == batch_) return found->second;
  throw std::invalid_argument{"message: " + to_string(message.msg_id) + " is not one of this call's"};
}

}  // namespace pgque::detail
