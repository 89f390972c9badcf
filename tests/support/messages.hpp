#pragma once

// One field of many messages, to compare with a list.

#include <optional>
#include <string>
#include <vector>

#include <pgque/message.hpp>

namespace pgque::test {

inline std::vector<EventId> ids_of(const std::vector<Message>& messages) {
  std::vector<EventId> ids;
  for (const auto& message : messages) ids.push_back(message.msg_id);
  return ids;
}

inline std::vector<std::optional<std::string>> payloads_of(const std::vector<Message>& messages) {
  std::vector<std::optional<std::string>> payloads;
  for (const auto& message : messages) payloads.push_back(message.payload);
  return payloads;
}

inline std::vector<std::optional<std::string>> types_of(const std::vector<Message>& messages) {
  std::vector<std::optional<std::string>> types;
  for (const auto& message : messages) types.push_back(message.type);
  return types;
}

}  // namespace pgque::test
