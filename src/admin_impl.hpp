#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/admin.hpp>
#include <pgque/error.hpp>

#include "executor.hpp"
#include "session.hpp"

namespace pgque::detail {

// Names and values of settings, as array literals; a reset value is NULL. Both are "{}" if there is nothing to set.
struct SettingArrays {
  std::string names;
  std::string values;
};

// Throws std::invalid_argument that names the setting.
SettingArrays render(const QueueSettings& settings);

// What PgQue's name of a subscription's role stands for.
ConsumerRole consumer_role(std::string_view name);

// Whether the server denied get_queue_info() something inside it, not the function itself.
bool is_denied_inside_queue_info(const Error& error);

class AdminImpl {
 public:
  explicit AdminImpl(std::shared_ptr<Session> session) : session_{std::move(session)}, executor_{session_} {}

  Session& session() noexcept { return *session_; }
  const std::shared_ptr<Session>& shared_session() const noexcept { return session_; }
  AutocommitExecutor& executor() noexcept { return executor_; }

  void require_queue(std::string_view queue, const char* verb);
  std::vector<QueueInfo> queues(const std::optional<std::string>& queue);
  std::vector<ConsumerInfo> consumers(const std::optional<std::string>& queue,
                                      const std::optional<std::string>& consumer);

 private:
  std::shared_ptr<Session> session_;
  AutocommitExecutor executor_;
  std::string denied_;  // what stands in QueueInfo::note, once get_queue_info() was denied
};

}  // namespace pgque::detail
