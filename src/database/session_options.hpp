#pragma once

// The options of a session, made from the public options.

#include <chrono>
#include <string>
#include <string_view>

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
  std::string application_name = "pgque";
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

// What the sessions of consumers are named; a worker's with its name behind it, so that it can be found.
inline constexpr const char* consumer_session_name = "pgque consumer";
std::string worker_session_name(std::string_view worker);

// How the server shows an application_name: it cuts it at 63 bytes and replaces what is not printable ASCII, in one way
// or another. So `exact` tells whether `text` is all of it, or what it begins with.
struct ShownName {
  std::string text;
  bool exact;
};
ShownName shown_name(std::string_view application_name);

}  // namespace pgque::detail
