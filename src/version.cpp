#include <pgque/version.hpp>

#define PGQUE_STRING(x) PGQUE_STRING_(x)
#define PGQUE_STRING_(x) #x

namespace pgque {

const char* version() noexcept {
  return PGQUE_STRING(PGQUE_VERSION_MAJOR) "." PGQUE_STRING(PGQUE_VERSION_MINOR) "." PGQUE_STRING(PGQUE_VERSION_PATCH);
}

}  // namespace pgque
