#include "database/session_options.hpp"

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

SessionOptions session_options(const ClientOptions& options) {
  return checked({options.pooled, options.connect_timeout, "pgque", false, true});
}

SessionOptions session_options(const ConsumerOptions& options) {
  return checked({options.pooled, options.connect_timeout, "pgque consumer", true});
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
