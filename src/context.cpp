#include <pgque/context.hpp>

#include <utility>

#include "consumer/handler_call.hpp"
#include "support/checks.hpp"

namespace pgque {

pqxx::dbtransaction& Context::transaction() {
  return call_.transaction();
}
void Context::on_ack(std::function<void(pqxx::transaction_base&)> callback) {
  call_.defer(std::move(callback));
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

}  // namespace pgque
