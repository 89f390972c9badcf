#include <pgque/payload.hpp>

#include <stdexcept>
#include <utility>

namespace pgque {

namespace {

std::string checked(const char* json) {
  if (!json) throw std::invalid_argument{"payload: null pointer; write nullptr for JSON null"};
  return json;
}

}  // namespace

// Not inline, because their code for an optional string would make the header a tenth slower to compile.
Payload::Payload(std::string json) : text_{std::move(json)} {}
Payload::Payload(std::string_view json) : text_{std::string{json}} {}
Payload::Payload(const char* json) : Payload{checked(json)} {}
Payload::Payload(std::nullptr_t) : text_{"null"} {}
Payload::Payload(std::nullopt_t) : format_{Format::text} {}
Payload::Payload(const Message& message) : text_{message.payload}, format_{Format::text} {}
Payload::Payload(Message&& message) : text_{std::move(message.payload)}, format_{Format::text} {}

Payload Payload::verbatim(std::string text) {
  Payload payload{std::move(text)};
  payload.format_ = Format::text;
  return payload;
}

Payload text(std::string value) {
  return Payload::verbatim(std::move(value));
}

Event to_event(const Message& message) {
  Event event{message, message.type.value_or("default")};
  if (message.extra1 && !message.extra1->empty()) event.key = message.extra1;
  event.headers = message.headers();
  return event;
}

}  // namespace pgque
