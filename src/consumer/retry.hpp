#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <pgque/message.hpp>

namespace pgque::detail {

// What a handler said of a message: it is a failure.
struct Verdict {
  std::string reason;
  std::optional<std::chrono::seconds> delay{};
  bool gives_up = false;
};

// A message to be delivered again, or to become a dead letter.
struct Retry {
  EventId msg_id{};
  std::int32_t retried = 0;  // how often it was retried already
  std::chrono::seconds delay{0};
  std::string reason;
  std::string type{};
  std::shared_ptr<const Message> given_up{};  // the message, if it is to become a dead letter at once
  bool dead = false;                          // it has become a dead letter, in the transaction in which it was nacked
};

// So many bytes of a batch's messages can be given up at once, because they are held in memory and sent back to the
// server. What is beyond is nacked.
inline constexpr std::size_t most_given_up = std::size_t{64} << 20;

inline std::size_t size_of(const Message& message) noexcept {
  std::size_t size = 0;
  for (const auto* text :
       {&message.type, &message.payload, &message.extra1, &message.extra2, &message.extra3, &message.extra4}) {
    if (*text) size += (*text)->size();
  }
  return size;
}

}  // namespace pgque::detail
