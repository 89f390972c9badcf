#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
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

// How many messages are held in memory at once; empty if batches are read as a whole.
std::optional<std::int32_t> page_size(const ConsumerOptions& options) noexcept;

// Whether the options leave the limit on memory to the library, and there can be none.
bool is_unbounded_by_default(const ConsumerOptions& options) noexcept;

// The statements that apply the options to a session, or behind a pooler to each transaction.
std::string session_settings(const ConsumerOptions& options);

// How often a cooperative worker sends a heartbeat while its handlers run.
std::chrono::milliseconds heartbeat_interval(const ConsumerOptions& options) noexcept;

}  // namespace pgque::detail
