#include <pgque/ticker.hpp>

#include <stdexcept>
#include <utility>

#include "ticker/loop.hpp"

namespace pgque {

namespace {

detail::TickerLoop& required(const std::shared_ptr<detail::TickerLoop>& loop) {
  if (!loop) throw std::logic_error{"Ticker: use of a moved-from ticker"};
  return *loop;
}

}  // namespace

Ticker::Ticker(Dsn dsn, TickerOptions options)
    : loop_{std::make_shared<detail::TickerLoop>(std::move(dsn), std::move(options))} {}

Ticker::Ticker(Ticker&&) noexcept = default;

Ticker::~Ticker() {
  if (loop_) loop_->shut_down();
}

void Ticker::start() {
  required(loop_);
  const auto loop = loop_;
  loop->start();
}

void Ticker::stop() noexcept {
  if (loop_) loop_->stop();
}

TickerStats Ticker::stats() const {
  return required(loop_).stats();
}

}  // namespace pgque
