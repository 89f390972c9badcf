#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <pgque/consumer_options.hpp>

namespace pgque::detail {

// How many handlers may run at once.
inline constexpr std::int32_t most_concurrency = 1024;

// Throws std::invalid_argument, naming the option, on values that are out of range or contradict each other. The
// connection's options are checked by session_options().
void check(const ConsumerOptions& options);

// The transaction mode that the options amount to.
TransactionMode transaction_mode(const ConsumerOptions& options) noexcept;

// The statements that apply the options to a session, or behind a pooler to each transaction.
std::string session_settings(const ConsumerOptions& options);

// How often a cooperative worker sends a heartbeat while its handlers run.
std::chrono::milliseconds heartbeat_interval(const ConsumerOptions& options) noexcept;

}  // namespace pgque::detail
