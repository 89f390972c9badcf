#include <pgque/payload.hpp>

#include <stdexcept>

namespace pgque {

std::string Payload::checked(const char* json) {
  if (!json) throw std::invalid_argument{"payload: null pointer; write nullptr for JSON null"};
  return json;
}

}  // namespace pgque
