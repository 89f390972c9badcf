#include <pgque/buffered_producer.hpp>

#include <stdexcept>
#include <utility>

#include "producer/loop.hpp"

namespace pgque {

namespace {

detail::ProducerLoop& required(const std::unique_ptr<detail::ProducerLoop>& loop) {
  if (!loop) throw std::logic_error{"BufferedProducer: use of a moved-from producer"};
  loop->home().require("BufferedProducer");
  return *loop;
}

}  // namespace

std::string_view to_string(ProducerState state) noexcept {
  switch (state) {
    case ProducerState::waiting:
      return "waiting";
    case ProducerState::sending:
      return "sending";
    case ProducerState::connecting:
      return "connecting";
    case ProducerState::backing_off:
      return "backing_off";
    case ProducerState::closed:
      return "closed";
  }
  return "unknown";
}

BufferedProducer::BufferedProducer(Dsn dsn, BufferedProducerOptions options)
    : loop_{std::make_unique<detail::ProducerLoop>(std::move(dsn), std::move(options))} {}

BufferedProducer::BufferedProducer(BufferedProducer&&) noexcept = default;

BufferedProducer::~BufferedProducer() {
  // In a child process there is no thread to wait for.
  if (loop_ && !loop_->home().is_this()) detail::keep_for_ever(loop_.release());
}

std::future<EventId> BufferedProducer::send(std::string_view queue, Payload payload, std::string_view type) {
  return required(loop_).send(queue, std::move(payload), type);
}

std::future<EventId> BufferedProducer::send(std::string_view queue, Event event) {
  return required(loop_).send(queue, std::move(event));
}

bool BufferedProducer::flush(std::chrono::milliseconds timeout) {
  return required(loop_).flush(timeout);
}

bool BufferedProducer::close() noexcept {
  if (!loop_) return true;
  return loop_->home().is_this() && loop_->close();
}

BufferedProducerStats BufferedProducer::stats() const {
  return required(loop_).stats();
}

}  // namespace pgque
