#include "admin/queue_settings.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <vector>

#include "support/checks.hpp"

namespace pgque::detail {

namespace {

using std::chrono::milliseconds;

// Longer durations soon lead to times that PostgreSQL cannot represent.
constexpr milliseconds longest_setting{std::chrono::hours{24 * 3653}};

class SettingList {
 public:
  explicit SettingList(const std::vector<QueueSetting>& reset) : reset_{reset} {
    for (const auto setting : reset_) add(setting, "NULL");
  }
  void count(QueueSetting setting, std::optional<std::int32_t> value, std::int32_t least) {
    if (!value) return;
    check_at_least(to_string(setting), *value, least);
    set(setting, std::to_string(*value));
  }
  void period(QueueSetting setting, std::optional<milliseconds> value) {
    if (!value) return;
    check_duration(to_string(setting), *value, milliseconds{1}, longest_setting);
    set(setting, '"' + std::to_string(value->count()) + " milliseconds\"");
  }
  void flag(QueueSetting setting, std::optional<bool> value) {
    if (value) set(setting, *value ? "true" : "false");
  }
  SettingArrays arrays() const { return {'{' + names_ + '}', '{' + values_ + '}'}; }

 private:
  void set(QueueSetting setting, const std::string& value) {
    if (std::find(reset_.begin(), reset_.end(), setting) != reset_.end()) {
      throw std::invalid_argument{std::string{to_string(setting)} + ": is both set and reset"};
    }
    add(setting, value);
  }
  void add(QueueSetting setting, const std::string& value) {
    const auto name = to_string(setting);
    if (name.empty()) throw std::invalid_argument{"reset: not one of the enumerators of QueueSetting"};
    names_ += (names_.empty() ? "" : ",") + std::string{name};
    values_ += (values_.empty() ? "" : ",") + value;
  }

  const std::vector<QueueSetting>& reset_;
  std::string names_;
  std::string values_;
};

}  // namespace

SettingArrays render(const QueueSettings& settings) {
  SettingList list{settings.reset};
  list.count(QueueSetting::ticker_max_count, settings.ticker_max_count, 1);
  list.period(QueueSetting::ticker_max_lag, settings.ticker_max_lag);
  list.period(QueueSetting::ticker_idle_period, settings.ticker_idle_period);
  list.period(QueueSetting::rotation_period, settings.rotation_period);
  list.count(QueueSetting::max_retries, settings.max_retries, 0);
  list.flag(QueueSetting::paused, settings.paused);
  list.flag(QueueSetting::external_ticker, settings.external_ticker);
  return list.arrays();
}

}  // namespace pgque::detail
