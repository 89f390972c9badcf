#pragma once

// A tracer for where there is no other: it prints a line for each span when that ends.

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>

#include "traceparent.hpp"
#include "tracing.hpp"

namespace example {

class PrintingTracer : public Tracer {
 public:
  std::unique_ptr<Span> begin(const std::string& name, SpanKind kind, const pgque::Headers& headers) override {
    return std::make_unique<Printed>(*this, name, kind, headers);
  }

 private:
  class Printed : public Span {
   public:
    Printed(PrintingTracer& tracer, const std::string& name, SpanKind kind, const pgque::Headers& headers)
        : tracer_{tracer}, outer_{current()}, line_{"name=\"" + name + '"'} {
      const auto header = headers.find("traceparent");
      auto parent = header != headers.end() ? parse_traceparent(header->second) : std::nullopt;
      if (parent && headers.count("tracestate") != 0) state_ = headers.at("tracestate");
      if (outer_ && (kind != SpanKind::consumer || !parent)) {
        parent = outer_->self_;
        state_ = outer_->state_;
      }
      if (parent) {
        parent_id_ = parent->span_id;
        self_ = *parent;
      } else {
        self_.trace_id = tracer_.random_digits() + tracer_.random_digits();
      }
      self_.span_id = tracer_.random_digits();
      set("kind", kind == SpanKind::producer ? "producer" : kind == SpanKind::consumer ? "consumer" : "internal");
      current() = this;
    }
    ~Printed() override {
      current() = outer_;
      tracer_.print("span trace=" + self_.trace_id + " id=" + self_.span_id + " parent=" + parent_id_ + ' ' + line_);
    }
    void set(const std::string& name, const std::string& value) override { line_ += ' ' + name + '=' + value; }
    void fail(const std::string& what) override { set("error", '"' + what + '"'); }
    void inject(pgque::Headers& headers) const override {
      headers["traceparent"] = to_string(self_);
      headers.erase("tracestate");
      if (!state_.empty()) headers["tracestate"] = state_;
    }

   private:
    static Printed*& current() {
      thread_local Printed* span = nullptr;
      return span;
    }

    PrintingTracer& tracer_;
    Printed* const outer_;
    TraceParent self_;
    std::string parent_id_ = "none";
    std::string state_;  // what other tracers add to the trace; it is passed on
    std::string line_;
  };

  std::string random_digits() {
    const std::lock_guard lock{mutex_};
    std::array<char, 17> text{};
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(any_(random_)));
    return text.data();
  }
  void print(const std::string& line) {
    const std::lock_guard lock{mutex_};
    std::puts(line.c_str());
  }

  std::mutex mutex_;
  std::mt19937_64 random_{std::random_device{}()};
  std::uniform_int_distribution<std::uint64_t> any_{1};  // 0 is no span's
};

}  // namespace example
