#pragma once

// The tracer of opentelemetry-cpp.

#include <memory>
#include <string>

#include <opentelemetry/context/propagation/text_map_propagator.h>
#include <opentelemetry/context/runtime_context.h>
#include <opentelemetry/trace/context.h>
#include <opentelemetry/trace/propagation/http_trace_context.h>
#include <opentelemetry/trace/provider.h>
#include <opentelemetry/trace/scope.h>
#include <opentelemetry/trace/tracer.h>

#include "tracing.hpp"

namespace example {

// Spans go to the TracerProvider that the program has set.
class OpenTelemetryTracer : public Tracer {
 public:
  std::unique_ptr<Span> begin(const std::string& name, SpanKind kind, const pgque::Headers& headers) override {
    return std::make_unique<Recorded>(*tracer_, name, kind, headers);
  }

 private:
  class Carrier : public opentelemetry::context::propagation::TextMapCarrier {
   public:
    explicit Carrier(pgque::Headers headers) : headers_{std::move(headers)} {}
    opentelemetry::nostd::string_view Get(opentelemetry::nostd::string_view key) const noexcept override {
      const auto found = headers_.find(std::string{key.data(), key.size()});
      return found == headers_.end() ? "" : opentelemetry::nostd::string_view{found->second};
    }
    void Set(opentelemetry::nostd::string_view key, opentelemetry::nostd::string_view value) noexcept override {
      headers_[std::string{key.data(), key.size()}] = std::string{value.data(), value.size()};
    }
    pgque::Headers& headers() { return headers_; }

   private:
    pgque::Headers headers_;
  };

  class Recorded : public Span {
   public:
    Recorded(opentelemetry::trace::Tracer& tracer, const std::string& name, SpanKind kind,
             const pgque::Headers& headers)
        : span_{tracer.StartSpan(name, options(kind, headers))}, scope_{span_} {}
    ~Recorded() override { span_->End(); }
    void set(const std::string& name, const std::string& value) override { span_->SetAttribute(name, value); }
    void fail(const std::string& what) override { span_->SetStatus(opentelemetry::trace::StatusCode::kError, what); }
    void inject(pgque::Headers& headers) const override {
      Carrier carrier{headers};
      carrier.headers().erase("tracestate");
      opentelemetry::trace::propagation::HttpTraceContext{}.Inject(
          carrier, opentelemetry::context::RuntimeContext::GetCurrent());
      headers = carrier.headers();
    }

   private:
    static opentelemetry::trace::StartSpanOptions options(SpanKind kind, const pgque::Headers& headers) {
      namespace trace = opentelemetry::trace;
      trace::StartSpanOptions options;
      options.kind = kind == SpanKind::producer   ? trace::SpanKind::kProducer
                     : kind == SpanKind::consumer ? trace::SpanKind::kConsumer
                                                  : trace::SpanKind::kInternal;
      auto current = opentelemetry::context::RuntimeContext::GetCurrent();
      const bool has_current = trace::GetSpan(current)->GetContext().IsValid();
      if (kind == SpanKind::consumer || !has_current) {
        options.parent = trace::propagation::HttpTraceContext{}.Extract(Carrier{headers}, current);
      }
      return options;
    }

    const opentelemetry::nostd::shared_ptr<opentelemetry::trace::Span> span_;
    const opentelemetry::trace::Scope scope_;
  };

  const opentelemetry::nostd::shared_ptr<opentelemetry::trace::Tracer> tracer_ =
      opentelemetry::trace::Provider::GetTracerProvider()->GetTracer("pgque");
};

}  // namespace example
