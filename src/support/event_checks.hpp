#pragma once

// What callers hand in as events: checks of it, and what sees it before.

#include <pgque/on_send.hpp>
#include <pgque/payload.hpp>

namespace pgque::detail {

// Throws std::invalid_argument that names what is wrong, as check_text() does. Of a header's name, which may be
// anything, it shows only one that is in order.
void check_event(const Event& event);

// Calls the interceptor, which always sees a type.
void intercept(const OnSend& on_send, Event& event);

}  // namespace pgque::detail
