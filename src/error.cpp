#include <pgque/error.hpp>

#include <utility>

namespace pgque {

namespace {

std::string compose(const Error::Facts& facts) {
  std::string out = facts.operation;
  if (!facts.server_message.empty()) out += (out.empty() ? "" : ": ") + facts.server_message;
  if (!facts.sqlstate.empty()) out += " [SQLSTATE " + facts.sqlstate + ']';
  if (!facts.advice.empty()) out += (out.empty() ? "" : ": ") + facts.advice;
  return out;
}

}  // namespace

Error::Error(Facts facts)
    : std::runtime_error{compose(facts)}, facts_{std::make_shared<const Facts>(std::move(facts))} {}

// The destructors are defined here so that each class's type information exists once, and the classes can be caught
// across shared libraries.
Error::~Error() = default;
ConnectionError::~ConnectionError() = default;
QueueNotFound::~QueueNotFound() = default;
ConsumerNotFound::~ConsumerNotFound() = default;
BatchNotFound::~BatchNotFound() = default;
BatchOverflow::~BatchOverflow() = default;
PayloadError::~PayloadError() = default;

BatchOverflow::BatchOverflow(Facts facts, std::int32_t limit) : Error{std::move(facts)}, limit_{limit} {}

const std::string& Error::operation() const noexcept {
  return facts_->operation;
}
const std::string& Error::server_message() const noexcept {
  return facts_->server_message;
}
const std::string& Error::sqlstate() const noexcept {
  return facts_->sqlstate;
}
bool Error::retryable() const noexcept {
  return facts_->retryable;
}
bool Error::outcome_unknown() const noexcept {
  return facts_->outcome_unknown;
}

}  // namespace pgque
