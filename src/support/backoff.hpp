#pragma once

// Capped exponential growth with jitter.

#include <chrono>
#include <cstdint>
#include <random>

#include <pgque/reconnect.hpp>

namespace pgque::detail {

// min(initial * 2^(attempt - 1), maximum) without overflow. Attempts count from 1.
std::chrono::milliseconds exponential(std::chrono::milliseconds initial, std::chrono::milliseconds maximum,
                                      std::int64_t attempt);

// Throws std::invalid_argument unless 1 ms <= initial <= maximum <= 30 days.
void check(const ReconnectOptions& options);

class Backoff {
 public:
  explicit Backoff(const ReconnectOptions& options) : Backoff{options, std::random_device{}()} {}
  Backoff(const ReconnectOptions& options, std::uint32_t seed) : options_{options}, random_{seed} {}

  // The next pause: drawn from the upper half of the grown delay, so that many processes spread out.
  std::chrono::milliseconds next();
  void reset() noexcept { attempt_ = 0; }

 private:
  ReconnectOptions options_;
  std::int64_t attempt_ = 0;
  std::minstd_rand random_;
};

}  // namespace pgque::detail
