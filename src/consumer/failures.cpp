#include "consumer/failures.hpp"

#include <algorithm>
#include <memory>
#include <string>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "support/checks.hpp"
#include "support/text.hpp"

namespace pgque::detail {

Retry Failures::failed(const Message& message, const Verdict& verdict) {
  require_home();
  auto retry = retry_of(message, verdict.reason, verdict.delay);
  // Also what is given up has a delay, for a role that may only nack it.
  if (!verdict.gives_up) {
    log(LogLevel::warning, LogEvent::handler_failed, retry.reason, message, retry.delay);
  } else if (const auto size = size_of(message); given_up_.fetch_add(size) + size <= most_given_up) {
    retry.given_up = std::make_shared<const Message>(message);
    log(LogLevel::warning, LogEvent::handler_failed, retry.reason, message);
  } else {
    given_up_ -= size;
    log(LogLevel::warning, LogEvent::handler_failed,
        retry.reason + "; it is nacked, because no more than 64 MiB of a batch can be given up at once", message,
        retry.delay);
  }
  return retry;
}

bool Failures::gives_up(const std::exception& error, std::size_t messages) const noexcept {
  return options_.give_up_on_bad_payload && messages == 1 && dynamic_cast<const PayloadError*>(&error) != nullptr;
}

Retry Failures::retry_of(const Message& message, std::string_view reason, std::optional<std::chrono::seconds> delay) {
  return {message.msg_id, message.retry_count.value_or(0), delay ? *delay : retry_delay(message),
          sanitized(reason, longest_reason), message.type.value_or("")};
}

void Failures::of_no_message(const Message& first, std::string_view reason) {
  require_home();
  log(LogLevel::error, LogEvent::failed,
      "all messages of the call have failed already, and so this is not their reason: " +
          sanitized(reason, longest_reason),
      first);
}

std::optional<Retry> Failures::unknown_type(const Message& message) {
  const auto text = message.type ? "no handler for type \"" + *message.type + '"' : "no handler for type NULL";
  if (options_.unknown_handler_policy == UnknownHandlerPolicy::ack) {
    log(LogLevel::warning, LogEvent::unknown_type, text + "; acknowledged by policy", message);
    return std::nullopt;
  }
  auto retry = retry_of(message, text, std::nullopt);
  log(LogLevel::warning, LogEvent::unknown_type, text + "; nacked", message, retry.delay);
  return retry;
}

void Failures::runs_again(const Message& message, const std::exception& error) {
  log(LogLevel::warning, LogEvent::failed,
      "a deadlock or a serialization failure in a handler or its on_ack(), which is called again: " +
          primary_message(error.what()),
      message);
}

std::exception_ptr Failures::as_error(const std::exception& error, const Message& message) const {
  try {
    const Call handling{"handle", options_.queue, options_.name, message.batch_id};
    throw_mapped(error, {handling});
  } catch (...) {
    return std::current_exception();
  }
}

void Failures::require_home() const {
  const auto require = [this] { home_.require("a handler has returned in a child process"); };
  if (options_.concurrency == 1) return require();
  // No caller of a thread of the pool is left that could catch it: std::terminate() shows the text.
  [&]() noexcept { require(); }();
}

std::chrono::seconds Failures::retry_delay(const Message& message) {
  if (!options_.retry_delay) return options_.retry_after;
  try {
    return std::clamp(options_.retry_delay(message, attempt_of(message)), std::chrono::seconds{0}, longest_retry_after);
  } catch (const std::exception& error) {
    log(LogLevel::error, LogEvent::failed, std::string{"retry_delay threw, retry_after is used: "} + error.what(),
        message);
  } catch (...) {
    log(LogLevel::error, LogEvent::failed, "retry_delay threw, retry_after is used", message);
  }
  return options_.retry_after;
}

void Failures::log(LogLevel level, LogEvent event, std::string_view text, const Message& message,
                   std::optional<std::chrono::seconds> retry_in) {
  LogRecord record{level, event, text};
  record.batch_id = message.batch_id;
  record.msg_id = message.msg_id;
  record.attempt = attempt_of(message);
  if (message.type) record.type = *message.type;
  record.retry_in = retry_in;
  logger_.write(record);
}

}  // namespace pgque::detail
