#pragma once

#include <string_view>

namespace pgque::tool {

// Tells the service manager that started this process about a change of its state, such as "READY=1", as sd_notify(3)
// does. Without a service manager that wants to know (NOTIFY_SOCKET), it does nothing. If telling fails, it says so on
// standard error.
void tell_service_manager(std::string_view state);

}  // namespace pgque::tool
