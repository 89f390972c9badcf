#include <pgque/context.hpp>

#include "consumer/handler_call.hpp"

namespace pgque {

pqxx::dbtransaction& Context::transaction() {
  return call_.savepoint.transaction();
}
std::int32_t Context::attempt() const noexcept {
  return call_.attempt;
}
BatchId Context::batch() const noexcept {
  return call_.message.batch_id;
}
bool Context::stop_requested() const noexcept {
  return call_.stopper.requested() || call_.claim.lost();
}

}  // namespace pgque
