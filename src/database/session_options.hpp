#pragma once

// The options of a session, made from the public options.

#include <chrono>

namespace pgque {
struct BufferedProducerOptions;
struct ClientOptions;
struct ConsumerOptions;
struct DiagnoseOptions;
struct TickerOptions;
}  // namespace pgque

namespace pgque::detail {

struct SessionOptions {
  bool pooled = false;  // nothing is prepared
  std::chrono::seconds connect_timeout{10};
  const char* application_name = "pgque";
  bool stoppable = false;  // shut_down() will be called
  bool renewable = false;  // a session that is worn out may connect again by itself
};

// Each throws std::invalid_argument if connect_timeout is out of range.
SessionOptions session_options(const ClientOptions& options);
SessionOptions session_options(const ConsumerOptions& options);
SessionOptions session_options(const BufferedProducerOptions& options);
SessionOptions session_options(const TickerOptions& options);
SessionOptions session_options(const DiagnoseOptions& options);
// For the connection that a consumer only listens on.
SessionOptions listen_session_options(const ConsumerOptions& options);
// For the connection on which a ticker does everything but tick.
SessionOptions duties_session_options(const TickerOptions& options);

}  // namespace pgque::detail
