#pragma once

// The session of an Admin, and the queries that several of its functions need.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/admin.hpp>
#include <pgque/error.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"

namespace pgque::detail {

// Whether get_queue_info() could be called, but was denied something that it uses.
bool is_denied_inside_queue_info(const Error& error);

// Whether a function of PgQue failed at a value that is out of range, such as an infinite time.
bool is_odd_value(const Error& error);

// Throws QueueNotFound.
[[noreturn]] void throw_queue_not_found(std::string_view queue, const char* verb);

class AdminQueries {
 public:
  explicit AdminQueries(std::shared_ptr<Session> session) : session_{std::move(session)}, executor_{session_} {}

  Session& session() noexcept { return *session_; }
  const std::shared_ptr<Session>& shared_session() const noexcept { return session_; }
  AutocommitExecutor& executor() noexcept { return executor_; }

  // For a queue that does not exist, most functions of PgQue return no rows instead of an error.
  void require_queue(std::string_view queue, const char* verb);
  // The latest tick without an event of that time or later, or else the oldest; none if there is no such queue.
  std::optional<TickId> tick_at(std::string_view queue, Timestamp time);
  std::vector<QueueInfo> queues(const std::optional<std::string>& queue);
  std::vector<ConsumerInfo> consumers(const std::optional<std::string>& queue,
                                      const std::optional<std::string>& consumer);
  // As Admin's functions of these names; the arguments have been checked.
  std::map<std::string, std::int64_t> unticked_events();
  std::vector<ConsumerInfo> gone_subconsumers(std::chrono::seconds older_than);
  bool unsubscribe_gone(std::string_view queue, std::string_view consumer, std::string_view subconsumer,
                        std::chrono::seconds older_than);

 private:
  std::shared_ptr<Session> session_;
  AutocommitExecutor executor_;
  std::string denied_;  // the text for QueueInfo::note, once get_queue_info() was denied
};

}  // namespace pgque::detail
