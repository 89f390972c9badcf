// The producer's machine with a buffer, a clock that the test moves, and a server that does anything, as
// src/producer/loop.cpp carries its steps out.

#include "producer/machine.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "producer/send_buffer.hpp"
#include "properties.hpp"

namespace pgque::test {
namespace {

using detail::Backoff;
using detail::ProducerAction;
using detail::ProducerMachine;
using detail::SendBatch;
using detail::SendBatches;
using detail::SendBuffer;
using std::chrono::milliseconds;
using Clock = ProducerMachine::Clock;

constexpr auto never = ProducerMachine::never;
constexpr auto begin = Clock::time_point{std::chrono::seconds{1000}};

enum class Answer { sent, refused, in_doubt, kept };

// After how many milliseconds an event comes, and of which kind it is.
using Arrival = std::tuple<int, int>;
// What becomes of an attempt to send or to connect, and how many milliseconds it takes.
using Attempt = std::tuple<int, int>;

struct Settings {
  std::size_t batch_messages;
  milliseconds linger;
  milliseconds delivery_timeout;
  milliseconds drain_timeout;
  milliseconds initial;
  milliseconds close_after;  // the last event has come
};

class Simulation {
 public:
  Simulation(const Settings& settings, std::vector<Arrival> arrivals, std::vector<Attempt> attempts)
      : settings_{settings},
        arrivals_{std::move(arrivals)},
        attempts_{std::move(attempts)},
        buffer_{{settings.batch_messages, 1000, settings.linger, 1000, 100'000}},
        machine_{Backoff{{settings.initial, 8 * settings.initial}, 1}, settings.delivery_timeout} {}

  // Until everything that comes has come, then close().
  void run() {
    for (int step = 0; !ended_; ++step) {
      RC_ASSERT(step < 20'000);  // it goes round without getting on
      arrive();
      const auto next = machine_.next({now_, buffer_.due(), buffer_.oldest(), drain_end_});
      carry_out(next);
    }
    RC_ASSERT(buffer_.messages() == 0u);
    RC_ASSERT(std::count(outcomes_.begin(), outcomes_.end(), Outcome::none) == 0);
  }

 private:
  enum class Outcome { none, answered, expired, abandoned };

  // What has come until now is in the buffer. The last to come is close().
  void arrive() {
    while (next_arrival_ < arrivals_.size() && arrival_time() <= now_) {
      const auto [delay, kind] = arrivals_[next_arrival_++];
      last_arrival_ += milliseconds{delay};
      buffer_.add("q", kind == 0 ? "t" : "u", text("x"), {}, {}, now_);
      since_.push_back(now_);
      outcomes_.push_back(Outcome::none);
    }
    if (next_arrival_ == arrivals_.size() && drain_end_ == never && closing_ <= now_) {
      drain_end_ = now_ + settings_.drain_timeout;
      buffer_.flush();
    }
  }
  Clock::time_point arrival_time() const { return last_arrival_ + milliseconds{std::get<0>(arrivals_[next_arrival_])}; }
  Clock::time_point next_event() {
    if (next_arrival_ < arrivals_.size()) return arrival_time();
    if (drain_end_ != never) return never;
    if (closing_ == never) closing_ = now_ + settings_.close_after;
    return closing_;
  }

  Attempt attempt() {
    const auto attempt = attempts_.empty() ? Attempt{0, 1} : attempts_[next_attempt_ % attempts_.size()];
    ++next_attempt_;
    now_ += milliseconds{std::get<1>(attempt)};
    return attempt;
  }

  void carry_out(const ProducerMachine::Step& step) {
    const bool closing = drain_end_ != never;
    switch (step.action) {
      case ProducerAction::pause:
        RC_ASSERT(!connected_);
        [[fallthrough]];
      case ProducerAction::wait:
        RC_ASSERT(step.until > now_);  // or it would not wait at all
        RC_ASSERT(step.action == ProducerAction::pause || connected_);
        // Nothing that is due is left lying.
        RC_ASSERT(!connected_ || buffer_.due() > now_);
        now_ = std::min(step.until, next_event());
        RC_ASSERT(now_ != never);
        break;
      case ProducerAction::connect: {
        RC_ASSERT(!connected_);
        // Not sooner than after the shortest pause.
        RC_ASSERT(now_ - lost_ >= settings_.initial - settings_.initial / 2);
        if (std::get<0>(attempt()) % 2 == 0) {
          machine_.connected();
          connected_ = true;
        } else {
          lose();
        }
        break;
      }
      case ProducerAction::send:
        RC_ASSERT(connected_);
        RC_ASSERT(buffer_.due() <= now_);
        send();
        break;
      case ProducerAction::expire:
        // It looks through the buffer only so often.
        RC_ASSERT(now_ - expired_ >= settings_.delivery_timeout / 10);
        expired_ = now_;
        machine_.expired(now_);
        settle(buffer_.take_older(now_ - settings_.delivery_timeout), Outcome::expired);
        break;
      case ProducerAction::abandon:
        RC_ASSERT(closing && now_ >= drain_end_);
        settle(buffer_.take_older(now_), Outcome::abandoned);
        RC_ASSERT(buffer_.empty());
        break;
      case ProducerAction::stop:
        RC_ASSERT(closing && buffer_.empty());
        RC_ASSERT(now_ <= drain_end_ + longest_attempt);
        ended_ = true;
        break;
    }
  }

  void send() {
    auto taken = buffer_.take(now_);
    const auto begun = now_;
    const auto answer = static_cast<Answer>(std::get<0>(attempt()) % 4);
    if (answer == Answer::kept) {
      buffer_.put_back(std::move(taken));
      lose();
      return;
    }
    if (answer == Answer::in_doubt) {
      lose();
    } else {
      machine_.sent();
    }
    for (const auto& one : taken.front().waiting) {
      // It has not waited for much longer than it may.
      RC_ASSERT(begun - one.since <= settings_.delivery_timeout + tolerance());
      // The events of a kind are sent in their order.
      auto& last = last_sent_[taken.front().type == "t" ? 0 : 1];
      RC_ASSERT(last <= one.number);
      last = one.number;
    }
    settle(std::move(taken), Outcome::answered);
  }

  void settle(SendBatches&& batches, Outcome outcome) {
    // Otherwise the step was for nothing, and would come again at once.
    RC_ASSERT(!batches.empty());
    for (const auto& batch : batches) {
      for (const auto& one : batch.waiting) {
        const auto number = static_cast<std::size_t>(one.number);
        RC_ASSERT(outcomes_[number] == Outcome::none);
        outcomes_[number] = outcome;
        RC_ASSERT(one.since == since_[number]);
        const auto waited = now_ - one.since;
        if (outcome == Outcome::expired) {
          RC_ASSERT(waited >= settings_.delivery_timeout);
          RC_ASSERT(waited <= settings_.delivery_timeout + tolerance());
        }
      }
      buffer_.release(batch);
    }
  }

  // A tenth of the timeout, and an attempt that was under way.
  Clock::duration tolerance() const { return settings_.delivery_timeout / 10 + longest_attempt; }

  void lose() {
    connected_ = false;
    lost_ = now_;
    machine_.disconnected(now_);
  }

  static constexpr milliseconds longest_attempt{60};

  const Settings settings_;
  const std::vector<Arrival> arrivals_;
  const std::vector<Attempt> attempts_;
  SendBuffer buffer_;
  ProducerMachine machine_;
  Clock::time_point now_ = begin;
  Clock::time_point last_arrival_ = begin;
  Clock::time_point closing_ = never;
  Clock::time_point drain_end_ = never;
  Clock::time_point lost_ = begin;
  Clock::time_point expired_{};
  std::size_t next_arrival_ = 0;
  std::size_t next_attempt_ = 0;
  bool connected_ = true;
  bool ended_ = false;
  std::vector<Clock::time_point> since_;
  std::vector<Outcome> outcomes_;
  std::uint64_t last_sent_[2] = {0, 0};
};

RC_GTEST_PROP(ProducerMachineProperties, EveryEventComesToItsEndInTimeAndInOrder, ()) {
  const auto batch_messages = *rc::gen::inRange<std::size_t>(1, 8);
  const auto linger = *rc::gen::inRange(0, 20);
  const auto delivery_timeout = *rc::gen::inRange(1, 300);
  const auto drain_timeout = *rc::gen::inRange(0, 300);
  const auto initial = *rc::gen::inRange(1, 50);
  const auto close_after = *rc::gen::inRange(0, 100);
  const auto arrivals =
      *rc::gen::container<std::vector<Arrival>>(rc::gen::tuple(rc::gen::inRange(0, 30), rc::gen::inRange(0, 2)));
  const auto attempts =
      *rc::gen::container<std::vector<Attempt>>(rc::gen::tuple(rc::gen::inRange(0, 12), rc::gen::inRange(0, 60)));
  Simulation{{batch_messages, milliseconds{linger}, milliseconds{delivery_timeout}, milliseconds{drain_timeout},
              milliseconds{initial}, milliseconds{close_after}},
             arrivals,
             attempts}
      .run();
}

}  // namespace
}  // namespace pgque::test
