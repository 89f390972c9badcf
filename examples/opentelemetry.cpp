// One trace from the producer to the handlers, through a retry, a dead letter and its replay: each event carries a W3C
// `traceparent` in its headers. tracing.hpp connects the library with a tracer. Where there is opentelemetry-cpp, this
// program is built with it as opentelemetry_cpp; the other one prints its spans itself.

#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>

#include <pgque/admin.hpp>
#include <pgque/pgque.hpp>

#ifdef EXAMPLE_WITH_OPENTELEMETRY
#include <opentelemetry/exporters/ostream/span_exporter_factory.h>
#include <opentelemetry/sdk/trace/provider.h>
#include <opentelemetry/sdk/trace/simple_processor_factory.h>
#include <opentelemetry/sdk/trace/tracer_provider_factory.h>
#include "opentelemetry_tracer.hpp"
#else
#include "printing_tracer.hpp"
#endif
#include "setup.hpp"
#include "traceparent.hpp"
#include "tracing.hpp"

using namespace std::chrono_literals;

namespace {

std::shared_ptr<example::Tracer> make_tracer() {
#ifdef EXAMPLE_WITH_OPENTELEMETRY
  namespace sdk = opentelemetry::sdk::trace;
  auto exporter = opentelemetry::exporter::trace::OStreamSpanExporterFactory::Create();
  auto processor = sdk::SimpleSpanProcessorFactory::Create(std::move(exporter));
  const std::shared_ptr<opentelemetry::trace::TracerProvider> provider =
      sdk::TracerProviderFactory::Create(std::move(processor));
  sdk::Provider::SetTracerProvider(provider);
  return std::make_shared<example::OpenTelemetryTracer>();
#else
  return std::make_shared<example::PrintingTracer>();
#endif
}

int run() {
  const auto tracer = make_tracer();
  const example::TemporaryQueue queue{"tracing"};
  pgque::Admin admin{example::dsn()};
  pgque::QueueSettings settings;
  settings.max_retries = 1;
  admin.configure_queue(queue.name(), settings);

  pgque::ClientOptions client_options;
  client_options.on_send = example::trace_sends(tracer);
  pgque::Client client{example::dsn(), client_options};
  client.subscribe(queue.name(), "worker");

  pgque::ConsumerOptions options;
  options.queue = queue.name();
  options.name = "worker";
  options.retry_after = 0s;
  options.log = [](const pgque::LogRecord&) {};  // the spans tell the story here
  options.until_drained = true;
  options.around = example::trace_handlers(tracer);
  pgque::Consumer consumer{example::dsn(), options};
  bool printer_is_down = true;
  int deliveries = 0;
  std::set<std::string> traces;
  const auto note = [&](const pgque::Message& message) {
    ++deliveries;
    const auto parent = example::parse_traceparent(message.header("traceparent").value_or(""));
    traces.insert(parent ? parent->trace_id : "none");
  };
  consumer.on("order.created", [&](const pgque::Message& message) {
    note(message);
    if (printer_is_down) throw std::runtime_error{"the printer is down"};
    client.send(queue.name(), "{}", "invoice.printed");
  });
  consumer.on("invoice.printed", note);

  // Handles everything that there is, retries included. Services leave the ticks to a ticker.
  const auto consume_all = [&] {
    for (int i = 0; i < 2; ++i) {
      admin.bring_retries_back();
      client.force_next_tick(queue.name());
      client.ticker(queue.name());
      consumer.start();
    }
  };

  {
    const auto request = tracer->begin("checkout", example::SpanKind::internal);
    client.send(queue.name(), R"({"order_id": 42})", "order.created");
  }
  consume_all();  // the first attempt and the retry
  const auto dead = admin.dead_letters(queue.name());
  if (dead.size() != 1) throw std::runtime_error{std::to_string(dead.size()) + " dead letters"};
  std::cout << "a dead letter: " << dead.front().reason.value_or("") << '\n' << std::flush;
  printer_is_down = false;
  admin.replay_dead_letter(dead.front().id);
  consume_all();  // the replayed message, and the one that its handler sends

  std::cout << deliveries << " deliveries in " << traces.size() << " trace\n" << std::flush;
  return deliveries == 4 && traces.size() == 1 && traces.count("none") == 0 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::cerr << "opentelemetry: " << error.what() << '\n';
    return 1;
  }
}
