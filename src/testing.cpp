#include <pgque/testing.hpp>

#include <atomic>
#include <ostream>
#include <stdexcept>
#include <utility>

#include "access.hpp"
#include "consumer/loop.hpp"
#include "support/event_checks.hpp"
#include "support/headers.hpp"
#include "support/text.hpp"
#include "testing/bare_call.hpp"
#include "testing/queue.hpp"

namespace pgque::testing {

namespace {

detail::QueueUnderTest& required(const std::unique_ptr<detail::QueueUnderTest>& queue) {
  if (!queue) throw std::logic_error{"pgque::testing::Queue: use of a moved-from object"};
  queue->require_home();
  return *queue;
}

std::unique_ptr<detail::QueueUnderTest> make_queue(const Dsn& dsn, const QueueOptions& options) {
  auto session = std::make_unique<detail::TestSession>(dsn);
  auto client = detail::Access::make_client(session->shared(), {});
  return std::make_unique<detail::QueueUnderTest>(dsn, options, std::move(session), std::move(client));
}

}  // namespace

NotDrained::NotDrained(const std::string& text, Run run)
    : std::runtime_error{text}, run_{std::make_shared<const Run>(std::move(run))} {}
NotDrained::~NotDrained() = default;

std::ostream& operator<<(std::ostream& out, const Run& run) {
  out << run.handled << " handled, " << run.failed << " failed, " << run.unknown << " unknown, " << run.retried
      << " retried, " << run.dead_lettered << " dead-lettered, " << run.batches << " batches, " << run.postponed
      << " postponed, " << run.abandoned << " abandoned";
  for (const auto& line : run.log) {
    if (line.level >= LogLevel::warning) out << "\n  " << to_string(line.event) << ": " << line.message;
  }
  return out;
}

Queue::Queue(const Dsn& dsn, const QueueOptions& options) : queue_{make_queue(dsn, options)} {}
Queue::Queue(Queue&&) noexcept = default;
Queue::~Queue() = default;

const std::string& Queue::name() const {
  return required(queue_).name();
}
EventId Queue::send(const Payload& payload, std::string_view type) {
  return required(queue_).client().send(name(), payload, type);
}
EventId Queue::send(const Event& event) {
  return required(queue_).client().send(name(), event);
}
void Queue::tick() {
  required(queue_).tick();
}
Run Queue::deliver(ConsumerOptions options, const std::function<void(Consumer&)>& register_handlers,
                   const DeliverOptions& deliver_options) {
  return required(queue_).deliver(std::move(options), register_handlers, deliver_options);
}
std::int64_t Queue::make_retries_due() {
  return required(queue_).make_retries_due();
}
std::vector<DeadLetter> Queue::dead_letters() {
  return required(queue_).dead_letters();
}
std::vector<Message> Queue::sent(std::string_view queue) {
  return required(queue_).sent(queue);
}

std::vector<std::string> sweep(const Dsn& dsn, std::chrono::seconds older_than, std::string_view prefix) {
  return detail::sweep(dsn, older_than, prefix);
}

Message message(std::string_view type, const Payload& payload) {
  return message(Event{payload, std::string{type}});
}

Message message(const Event& event) {
  static std::atomic<std::int64_t> last_id{0};
  detail::check_event(event);
  Message message;
  message.msg_id = EventId{++last_id};
  message.batch_id = BatchId{1};
  message.type = event.type.empty() ? "default" : event.type;
  message.payload = event.payload.text();
  message.created_at = std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  message.extra1 = event.key;
  if (!event.headers.empty()) message.extra4 = detail::write_headers(event.headers);
  return message;
}

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  if (outcome.handled()) return out << "handled, with " << outcome.deferred() << " callbacks for the ack";
  return out << (outcome.gave_up()     ? "gave up: "
                 : outcome.postponed() ? "postponed: "
                                       : "failed: ")
             << outcome.reason();
}

Consumer unconnected_consumer() {
  ConsumerOptions options;
  options.queue = options.name = "pgque_testing";
  return Consumer{{}, std::move(options)};
}

Outcome handle_with(const Consumer& consumer, const Message& message) {
  const auto& handlers = detail::Access::loop(consumer)->handlers("pgque::testing::handle()");
  return detail::TestAccess::call(*handlers.find(message), message);
}

}  // namespace pgque::testing
