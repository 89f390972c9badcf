#pragma once

// The settings of a queue, as pgque.set_queue_config() takes them.

#include <string>

#include <pgque/admin.hpp>

namespace pgque::detail {

// Names and values of settings, as array literals; a reset value is NULL. Both are "{}" if there is nothing to set.
struct SettingArrays {
  std::string names;
  std::string values;
};

// Throws std::invalid_argument, which names the setting.
SettingArrays render(const QueueSettings& settings);

}  // namespace pgque::detail
