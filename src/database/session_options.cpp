#include "database/session_options.hpp"

#include <algorithm>

#include <pgque/buffered_producer.hpp>
#include <pgque/client.hpp>
#include <pgque/consumer_options.hpp>
#include <pgque/doctor.hpp>
#include <pgque/ticker.hpp>

#include "support/checks.hpp"

namespace pgque::detail {

namespace {

SessionOptions checked(SessionOptions options) {
  check_duration("connect_timeout", options.connect_timeout, std::chrono::milliseconds{0}, longest_wait);
  return options;
}

}  // namespace

std::string worker_session_name(std::string_view worker) {
  return std::string{consumer_session_name} + ' ' + std::string{worker};
}

ShownName shown_name(std::string_view application_name) {
  constexpr std::size_t longest = 63;  // NAMEDATALEN - 1
  const auto whole = application_name.substr(0, longest);
  const auto* const end = std::find_if(whole.begin(), whole.end(), [](char c) { return c < ' ' || c > '~'; });
  const std::string text{whole.begin(), end};
  return {text, text.size() == application_name.size()};
}

SessionOptions session_options(const ClientOptions& options) {
  return checked({options.pooled, options.connect_timeout, "pgque", false, true});
}

SessionOptions session_options(const ConsumerOptions& options) {
  const auto name = options.subconsumer.empty() ? std::string{consumer_session_name}
                                                : worker_session_name(options.name + '.' + options.subconsumer);
  return checked({options.pooled, options.connect_timeout, name, true});
}

SessionOptions listen_session_options(const ConsumerOptions& options) {
  return checked({options.pooled, options.connect_timeout, "pgque listener", true});
}

SessionOptions session_options(const BufferedProducerOptions& options) {
  return checked({options.pooled, options.connect_timeout, "pgque producer", true});
}

SessionOptions session_options(const TickerOptions& options) {
  return checked({options.pooled, options.connect_timeout, "pgque ticker", true});
}

SessionOptions duties_session_options(const TickerOptions& options) {
  return checked({options.pooled, options.connect_timeout, "pgque maintenance", true});
}

// The DSN of a diagnosis may point to a pooler.
SessionOptions session_options(const DiagnoseOptions& options) {
  return checked({true, options.connect_timeout, "pgque doctor", false});
}

}  // namespace pgque::detail
