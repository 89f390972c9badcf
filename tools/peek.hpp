#pragma once

// What waits for a consumer, read without receiving it.

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <pgque/client.hpp>

namespace pgque::tool {

// A message as its line shows it.
struct Shown {
  std::string msg_id;
  std::string batch_id;  // "null" if no batch has the message yet
  std::optional<std::string> type;
  std::optional<std::string> payload;
  std::string retry_count;  // or "null"
  std::string created_at;
  std::array<std::optional<std::string>, 4> extras;
};

struct PeekOptions {
  std::string queue;
  std::string consumer;
  std::string subconsumer;
  std::int64_t limit = 0;  // 0: none
};

// Shows the messages in the order in which they will be delivered. Each statement is a transaction of its own, which
// reads at most a thousand windows between ticks and locks nothing that a consumer or the ticker waits for.
void peek(Client& client, const PeekOptions& options, const std::function<void(const Shown&)>& show);

}  // namespace pgque::tool
