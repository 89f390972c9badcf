#include <pgque/consumer.hpp>

#include <stdexcept>
#include <utility>

#include "consumer/loop.hpp"

namespace pgque {

namespace {

detail::ConsumerLoop& required(const std::shared_ptr<detail::ConsumerLoop>& loop) {
  if (!loop) throw std::logic_error{"Consumer: use of a moved-from consumer"};
  loop->home().require("Consumer");
  return *loop;
}

}  // namespace

std::string_view to_string(ConsumerState state) noexcept {
  switch (state) {
    case ConsumerState::idle:
      return "idle";
    case ConsumerState::connecting:
      return "connecting";
    case ConsumerState::receiving:
      return "receiving";
    case ConsumerState::handling:
      return "handling";
    case ConsumerState::waiting:
      return "waiting";
    case ConsumerState::backing_off:
      return "backing_off";
    case ConsumerState::paused:
      return "paused";
  }
  return "unknown";
}

Consumer::Consumer(Dsn dsn, ConsumerOptions options)
    : loop_{detail::make_at_home<detail::ConsumerLoop>(std::move(dsn), std::move(options))} {}

Consumer::Consumer(Consumer&&) noexcept = default;

Consumer::~Consumer() {
  if (loop_) loop_->shut_down();
}

Consumer& Consumer::add(const std::string& type, std::function<void(const Message&, Context&)> handler) {
  if (!handler) throw std::invalid_argument{"handler: must not be empty"};
  required(loop_).handlers("Consumer::on()").add(type, std::move(handler));
  return *this;
}

Consumer& Consumer::add_batch(const std::string& type,
                              std::function<void(const std::vector<Message>&, BatchContext&)> handler,
                              OnBatchOptions options) {
  if (!handler) throw std::invalid_argument{"handler: must not be empty"};
  required(loop_).handlers("Consumer::on_batch()").add(type, std::move(handler), options);
  return *this;
}

void Consumer::start() {
  start_within({});
}

void Consumer::start_within(const detail::RunWithin& within) {
  required(loop_);
  // This keeps everything alive if a handler destroys the consumer.
  const auto loop = loop_;
  loop->start(within);
}

void Consumer::stop() noexcept {
  if (loop_) loop_->stop();
}

void Consumer::stop_now() noexcept {
  if (loop_) loop_->stop_now();
}

void Consumer::pause() {
  required(loop_).pause();
}

void Consumer::resume() {
  required(loop_).resume();
}

ConsumerStats Consumer::stats() const {
  return required(loop_).stats();
}

}  // namespace pgque
