#include <pgque/doctor.hpp>

#include "doctor/judge.hpp"
#include "doctor/observe.hpp"
#include "support/checks.hpp"

namespace pgque {

std::string_view to_string(Severity severity) noexcept {
  switch (severity) {
    case Severity::notice:
      return "notice";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "unknown";
}

std::vector<Finding> diagnose(const Dsn& dsn, const DiagnoseOptions& options) {
  using std::chrono::milliseconds;
  detail::check_duration("stuck_after", options.stuck_after, milliseconds{1000}, detail::longest_wait);
  detail::check_duration("recent", options.recent, milliseconds{1000}, detail::longest_wait);
  detail::check_duration("slow_tick", options.slow_tick, milliseconds{1}, detail::longest_wait);
  detail::check_duration("silent_ticker", options.silent_ticker, milliseconds{1000}, detail::longest_wait);
  return detail::judge(detail::observe(dsn, options), options);
}

}  // namespace pgque
