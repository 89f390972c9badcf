#include "testing/bare_call.hpp"

#include <exception>

#include <pgque/context.hpp>
#include <pgque/retry.hpp>

#include "consumer/claim.hpp"
#include "consumer/handler_call.hpp"
#include "support/stopper.hpp"

namespace pgque::detail {

testing::Outcome TestAccess::call(const Handler& handler, const Message& message) {
  using Kind = testing::Outcome::Kind;
  const Stopper stopper{};
  const Claim claim{};
  const OnSend no_interceptor{};
  HandlerCall call{stopper, claim, no_interceptor};
  Context context{call};
  testing::Outcome outcome;
  const auto failed = [&](Kind kind, const char* reason) {
    outcome.kind_ = kind;
    outcome.reason_ = reason;
  };
  try {
    const HandlerCall::Scope scope{call, &message, 1};
    handler.one(message, context);
    outcome.deferred_ = static_cast<std::int64_t>(call.on_ack().size());
    for (const auto& [queue, event] : call.kept()) outcome.sent_.push_back({queue, event});
  } catch (const NotNow& not_now) {
    failed(Kind::postponed, not_now.what());
    outcome.postponed_for_ = not_now.delay();
  } catch (const RetryAfter& retry) {
    failed(Kind::failed, retry.what());
    outcome.retry_after_ = retry.delay();
  } catch (const GiveUp& give_up) {
    failed(Kind::gave_up, give_up.what());
  } catch (const std::exception& error) {
    failed(Kind::failed, error.what());
  } catch (...) {
    failed(Kind::failed, "an exception that is not a std::exception");
  }
  return outcome;
}

}  // namespace pgque::detail
