#pragma once

// What becomes of a message that failed or has no handler: a retry with a delay and a reason, and a line in the log.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include <pgque/consumer_options.hpp>
#include <pgque/message.hpp>

#include "consumer/retry.hpp"
#include "support/home_process.hpp"
#include "support/logger.hpp"

namespace pgque::detail {

// Long enough to understand a failure, and short enough to keep dead letters small.
inline constexpr std::size_t longest_reason = 4000;

inline std::int32_t attempt_of(const Message& message) noexcept {
  return message.retry_count.value_or(0) + 1;
}

class Failures {
 public:
  // All of them must outlive it.
  Failures(const ConsumerOptions& options, const HomeProcess& home, Logger& logger) noexcept
      : options_{options}, home_{home}, logger_{logger} {}

  // May be called on any thread. Without a delay, the options say when it comes again.
  Retry failed(const Message& message, const Verdict& verdict);
  // Whether a handler of so many messages that ended with this has given them up, although it did not throw GiveUp. Of
  // several, it is not known which one is meant.
  bool gives_up(const std::exception& error, std::size_t messages) const noexcept;
  // What was given up before is not held any more.
  void forget_given_up() noexcept { given_up_ = 0; }
  // A call has failed from which no message is left that could fail with it, because the handler has named them all.
  void of_no_message(const Message& first, std::string_view reason);
  // Empty if the message is acknowledged by policy.
  std::optional<Retry> unknown_type(const Message& message);
  // The handler is called again after this error.
  void runs_again(const Message& message, const std::exception& error);
  // What the message's handler has done cannot be undone alone, so the batch comes again. Then the message is to fail
  // without its handler, or this would go on for ever. Only while no handler runs.
  void condemn(const Message& message, const Verdict& verdict) {
    condemned_.insert_or_assign({message.msg_id, attempt_of(message)}, verdict);
  }
  // Null if it is not condemned.
  const Verdict* condemned(const Message& message) const {
    const auto found = condemned_.find({message.msg_id, attempt_of(message)});
    return found == condemned_.end() ? nullptr : &found->second;
  }
  // The batch is finished, or another's.
  void pardon_all() noexcept { condemned_.clear(); }
  // What the loop is told if the batch has to be left because of this error.
  std::exception_ptr as_error(const std::exception& error, const Message& message) const;
  // Throws std::logic_error when a handler returns in a child process that it made: nothing may go on there.
  void require_home() const;

 private:
  Retry retry_of(const Message& message, std::string_view reason, std::optional<std::chrono::seconds> delay);
  std::chrono::seconds retry_delay(const Message& message);
  void log(LogLevel level, LogEvent event, std::string_view text, const Message& message,
           std::optional<std::chrono::seconds> retry_in = std::nullopt);

  const ConsumerOptions& options_;
  const HomeProcess& home_;
  Logger& logger_;
  std::map<std::pair<EventId, std::int32_t>, Verdict> condemned_;
  std::atomic<std::size_t> given_up_{0};  // how many bytes of messages are held
};

}  // namespace pgque::detail
