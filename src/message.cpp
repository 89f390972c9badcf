#include <pgque/message.hpp>

#include <ostream>

namespace pgque {

std::string to_string(EventId id) {
  return std::to_string(static_cast<std::int64_t>(id));
}
std::string to_string(BatchId id) {
  return std::to_string(static_cast<std::int64_t>(id));
}
std::string to_string(TickId id) {
  return std::to_string(static_cast<std::int64_t>(id));
}

std::ostream& operator<<(std::ostream& out, EventId id) {
  return out << static_cast<std::int64_t>(id);
}
std::ostream& operator<<(std::ostream& out, BatchId id) {
  return out << static_cast<std::int64_t>(id);
}
std::ostream& operator<<(std::ostream& out, TickId id) {
  return out << static_cast<std::int64_t>(id);
}

}  // namespace pgque
