#include <pgque/ticker.hpp>

#include <stdexcept>
#include <utility>

#include "ticker/loop.hpp"

namespace pgque {

namespace {

detail::TickerLoop& required(const std::shared_ptr<detail::TickerLoop>& loop) {
  if (!loop) throw std::logic_error{"Ticker: use of a moved-from ticker"};
  loop->home().require("Ticker");
  return *loop;
}

}  // namespace

Ticker::Ticker(Dsn dsn, TickerOptions options)
    : loop_{detail::make_at_home<detail::TickerLoop>(std::move(dsn), std::move(options))} {}

Ticker::Ticker(Ticker&&) noexcept = default;

Ticker::~Ticker() {
  if (loop_) loop_->shut_down();
}

void Ticker::start() {
  start_within({});
}

void Ticker::start_within(const detail::RunWithin& within) {
  required(loop_);
  const auto loop = loop_;
  loop->start(within);
}

void Ticker::stop() noexcept {
  if (loop_) loop_->stop();
}

void Ticker::stop_now() noexcept {
  if (loop_) loop_->stop_now();
}

TickerStats Ticker::stats() const {
  return required(loop_).stats();
}

}  // namespace pgque
