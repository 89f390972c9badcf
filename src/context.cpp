#include <pgque/context.hpp>

#include <string>
#include <utility>

#include <pgque/transaction.hpp>

#include "consumer/handler_call.hpp"
#include "support/checks.hpp"
#include "support/event_checks.hpp"
#include "support/text.hpp"

namespace pgque {

pqxx::dbtransaction& Context::transaction() {
  return call_.transaction();
}
void Context::on_ack(std::function<void(pqxx::transaction_base&)> callback) {
  call_.defer(std::move(callback));
}
void Context::send(std::string_view queue, Event event) {
  call_.require_running("Context::send()");
  detail::check_queue(queue);
  if (call_.on_send()) detail::intercept(call_.on_send(), event);
  detail::check_event(event);
  if (call_.keep("Context::send()", queue, event)) return;
  call_.write("Context::send()", [queue = std::string{queue}, event = std::move(event)](auto& transaction) {
    Transaction{transaction}.send(queue, event);
  });
}
void Context::send(std::string_view queue, Payload payload, std::string_view type) {
  send(queue, Event{std::move(payload), std::string{type}});
}
std::size_t Context::message_count() const noexcept {
  return call_.size();
}
const Message& Context::message(std::size_t index) const {
  return call_.message(index);
}
std::int32_t Context::attempt() const noexcept {
  return call_.attempt();
}
BatchId Context::batch() const noexcept {
  return call_.batch();
}
bool Context::stop_requested() const noexcept {
  return call_.stop_requested();
}

void BatchContext::fail(const Message& message, std::string reason) {
  call().judge("BatchContext::fail()", message, {std::move(reason)});
}
void BatchContext::retry(const Message& message, std::chrono::seconds retry_after, std::string reason) {
  detail::check_retry_after(retry_after);
  call().judge("BatchContext::retry()", message, {std::move(reason), retry_after});
}
void BatchContext::give_up(const Message& message, std::string reason) {
  call().judge("BatchContext::give_up()", message, {std::move(reason), {}, true});
}

}  // namespace pgque
