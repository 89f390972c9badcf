#include <pgque/retry.hpp>

#include <random>

#include "support/backoff.hpp"
#include "support/checks.hpp"

namespace pgque {

RetryDelay exponential_retry(std::chrono::seconds initial, std::chrono::seconds maximum) {
  detail::check_retry_after(initial, "initial");
  detail::check_retry_after(maximum, "maximum");
  detail::check_at_least("initial", initial.count(), 1);
  detail::check_at_least("maximum", maximum.count(), initial.count());
  return [initial, maximum](const Message&, std::int32_t attempt) {
    thread_local std::minstd_rand random{std::random_device{}()};
    const auto delay = std::chrono::duration_cast<std::chrono::seconds>(detail::exponential(initial, maximum, attempt));
    return std::chrono::seconds{
        std::uniform_int_distribution<std::int64_t>{delay.count() - delay.count() / 2, delay.count()}(random)};
  };
}

RetryAfter::RetryAfter(std::chrono::seconds delay, const std::string& reason)
    : std::runtime_error{reason}, delay_{delay} {
  detail::check_retry_after(delay, "delay");
}

RetryAfter::~RetryAfter() = default;

GiveUp::GiveUp(const std::string& reason) : std::runtime_error{reason} {}

GiveUp::~GiveUp() = default;

NotNow::NotNow(std::chrono::milliseconds delay, const std::string& reason) : std::runtime_error{reason}, delay_{delay} {
  detail::check_duration("delay", delay, std::chrono::milliseconds{0}, detail::longest_wait);
}

NotNow::~NotNow() = default;

}  // namespace pgque
