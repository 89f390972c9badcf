#include <pgque/on_send.hpp>

#include <algorithm>
#include <utility>

namespace pgque {

OnSend chain(std::vector<OnSend> interceptors) {
  interceptors.erase(std::remove_if(interceptors.begin(), interceptors.end(), [](const OnSend& one) { return !one; }),
                     interceptors.end());
  if (interceptors.empty()) return {};
  return [interceptors = std::move(interceptors)](Event& event) {
    for (const auto& interceptor : interceptors) interceptor(event);
  };
}

}  // namespace pgque
