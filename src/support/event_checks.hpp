#pragma once

// Checks of what callers hand in as events.

#include <pgque/payload.hpp>

namespace pgque::detail {

// Throws std::invalid_argument that names what is wrong, as check_text() does. Of a header's name, which may be
// anything, it shows only one that is in order.
void check_event(const Event& event);

}  // namespace pgque::detail
