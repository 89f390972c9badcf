#include <pgque/message.hpp>

#include <ostream>
#include <utility>

#include "support/headers.hpp"

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

std::optional<std::string> Message::header(std::string_view name) const {
  auto all = headers();
  const auto found = all.find(std::string{name});
  return found == all.end() ? std::nullopt : std::optional{std::move(found->second)};
}

Headers Message::headers() const {
  auto headers = extra4 ? detail::read_headers(*extra4) : std::nullopt;
  return headers ? std::move(*headers) : Headers{};
}

}  // namespace pgque
