#pragma once

// Traces through queues, with any tracer: copy this header, and write a Tracer for yours, such as the one in
// opentelemetry_tracer.hpp.

#include <exception>
#include <memory>
#include <string>
#include <utility>

#include <pgque/pgque.hpp>

namespace example {

// Ends when it is destroyed, on the thread that began it, and not before those that began later.
class Span {
 public:
  Span() = default;
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;
  virtual ~Span() = default;
  virtual void set(const std::string& name, const std::string& value) = 0;
  virtual void fail(const std::string& what) = 0;
  // Writes what makes it the parent of whoever reads these headers.
  virtual void inject(pgque::Headers& headers) const = 0;
};

enum class SpanKind { internal, producer, consumer };

// Is called by several threads at once.
class Tracer {
 public:
  Tracer() = default;
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;
  virtual ~Tracer() = default;
  // Begins a span, which is its thread's current one until it ends. Its parent is, for a consumer, the span that the
  // headers name; otherwise the thread's current one, or if there is none, that of the headers. Without a parent it
  // begins a trace.
  virtual std::unique_ptr<Span> begin(const std::string& name, SpanKind kind, const pgque::Headers& headers = {}) = 0;
};

// For ClientOptions::on_send and BufferedProducerOptions::on_send: each event has a span, and names it in its headers.
inline pgque::OnSend trace_sends(std::shared_ptr<Tracer> tracer) {
  return [tracer = std::move(tracer)](pgque::Event& event) {
    const auto span = tracer->begin("create " + event.type, SpanKind::producer, event.headers);
    span->inject(event.headers);
  };
}

// For ConsumerOptions::around: each call of a handler has a span below that of its message; a call with several
// messages, below that of the first.
inline pgque::Around trace_handlers(std::shared_ptr<Tracer> tracer) {
  return [tracer = std::move(tracer)](const pgque::Message& message, pgque::Context& context,
                                      const std::function<void()>& next) {
    const auto span = tracer->begin("process " + message.type.value_or("NULL"), SpanKind::consumer, message.headers());
    span->set("messaging.system", "pgque");
    span->set("messaging.message.id", to_string(message.msg_id));
    span->set("messaging.batch.message_count", std::to_string(context.message_count()));
    span->set("attempt", std::to_string(context.attempt()));
    try {
      next();
    } catch (const std::exception& error) {
      span->fail(error.what());
      throw;
    } catch (...) {
      span->fail("an exception that is not a std::exception");
      throw;
    }
  };
}

}  // namespace example
