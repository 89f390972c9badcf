#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <pgque/message.hpp>

namespace pgque::detail {

// A message to be delivered again.
struct Retry {
  EventId msg_id{};
  std::int32_t retried = 0;  // how often it was retried already
  std::chrono::seconds delay{0};
  std::string reason;
};

}  // namespace pgque::detail
