// How soon an idle consumer wakes up, and how soon it stops.

#include <atomic>
#include <memory>
#include <thread>

#include <poll.h>

#include <pgque/pgque.hpp>

#include "queue.hpp"
#include "raw.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

void wait_for(const std::function<bool()>& condition, const std::string& what) {
  const auto deadline = Clock::now() + std::chrono::seconds{20};
  while (!condition()) {
    require(Clock::now() < deadline, "timed out waiting for " + what);
    std::this_thread::sleep_for(std::chrono::microseconds{200});
  }
}

// How many messages reached the handler, and when the last one did.
struct Arrivals {
  std::atomic<std::int64_t> count{0};
  std::atomic<Clock::rep> last{0};
  void operator()() {
    last = Clock::now().time_since_epoch().count();
    ++count;
  }
};

// Waits for messages of a queue.
class Waiter {
 public:
  virtual ~Waiter() = default;
  virtual bool waiting() const = 0;
  Arrivals arrivals;
};

class PgqueWaiter final : public Waiter {
 public:
  PgqueWaiter(const std::string& dsn, const std::string& queue) : consumer_{dsn, options(queue)} {
    consumer_.on("t", [this](const Message&) { arrivals(); });
    thread_ = std::thread{[this] { consumer_.start(); }};
  }
  ~PgqueWaiter() override {
    consumer_.stop();
    thread_.join();
  }
  bool waiting() const override { return consumer_.stats().state == ConsumerState::waiting; }

 private:
  static ConsumerOptions options(const std::string& queue) {
    ConsumerOptions options;
    options.queue = queue;
    options.name = "c";
    return options;
  }
  Consumer consumer_;
  std::thread thread_;
};

class RawWaiter final : public Waiter {
 public:
  RawWaiter(const std::string& dsn, std::string queue) : connection_{dsn}, queue_{std::move(queue)} {
    connection_("listen \"pgque_" + queue_ + '"');
    thread_ = std::thread{[this] { run(); }};
  }
  ~RawWaiter() override {
    quit_ = true;
    thread_.join();
  }
  bool waiting() const override { return waiting_; }

 private:
  void run() {
    while (!quit_) {
      ::PQconsumeInput(connection_.get());
      bool notified = false;
      while (auto* const notification = ::PQnotifies(connection_.get())) {
        ::PQfreemem(notification);
        notified = true;
      }
      if (notified) {
        waiting_ = false;
        receive();
        continue;
      }
      waiting_ = true;
      pollfd descriptor{::PQsocket(connection_.get()), POLLIN, 0};
      ::poll(&descriptor, 1, 100);
    }
  }
  void receive() {
    for (;;) {
      connection_("begin");
      const auto messages = connection_.receive(queue_, "c");
      for (std::size_t i = 0; i < messages.size(); ++i) arrivals();
      if (!messages.empty()) connection_.ack(messages.front().batch_id);
      connection_("commit");
      if (messages.empty()) return;
    }
  }

  RawConsumer connection_;
  const std::string queue_;
  std::atomic<bool> waiting_{false};
  std::atomic<bool> quit_{false};
  std::thread thread_;
};

// Seconds from the moment the tick's COMMIT is sent until the handler runs.
double wake(Queue& queue, Waiter& waiter) {
  wait_for([&] { return waiter.waiting(); }, "an idle consumer");
  const auto before = waiter.arrivals.count.load();
  auto& sql = queue.sql();
  sql("select pgque.send('" + queue.name() + "', 't', '{}'::text)");
  sql("select pgque.force_next_tick('" + queue.name() + "')");
  sql("begin");
  require(sql.number("select pgque.ticker('" + queue.name() + "')") != 0, "no tick");
  const auto begin = Clock::now();
  sql("commit");
  wait_for([&] { return waiter.arrivals.count > before; }, "a message");
  require(waiter.arrivals.count == before + 1, "a message came twice");
  return std::chrono::duration<double>(Clock::time_point{Clock::duration{waiter.arrivals.last.load()}} - begin).count();
}

std::string median_and_tail(const std::vector<double>& values) {
  return millis(median(values)) + ", p99 " + millis(quantile(values, 0.99));
}

void wake_up(const std::string& name, const Setting& setting, Report& report) {
  Queue ours{setting.dsn};
  Queue theirs{setting.dsn};
  ours.subscribe("c");
  theirs.subscribe("c");
  PgqueWaiter pgque{setting.dsn, ours.name()};
  RawWaiter raw{setting.dsn, theirs.name()};
  const int samples = setting.scale == Scale::full ? 1000 : setting.scale == Scale::quick ? 300 : 5;
  std::vector<double> seconds;
  std::vector<double> raw_seconds;
  std::vector<double> ratios;
  wake(ours, pgque);
  wake(theirs, raw);
  for (int i = 0; i < samples; ++i) {
    seconds.push_back(wake(ours, pgque));
    raw_seconds.push_back(wake(theirs, raw));
    ratios.push_back(raw_seconds.back() / seconds.back());
  }
  report.add({name, median_and_tail(seconds), median_and_tail(raw_seconds),
              fixed(median(ratios), 2) + " (" + fixed(quantile(ratios, 0.25), 2) + "-" +
                  fixed(quantile(ratios, 0.75), 2) + ")",
              "-", "-", "below 1, p99 5 ms"});
  for (int percent = 0; percent < 100; ++percent) {
    const double part = percent / 100.0;
    report.point("wake_up",
                 {static_cast<double>(percent), quantile(seconds, part) * 1e3, quantile(raw_seconds, part) * 1e3});
  }
}

// Seconds from stop() of a waiting consumer until its start() has returned.
void stop(const std::string& name, const Setting& setting, Report& report) {
  Queue queue{setting.dsn};
  queue.subscribe("c");
  const int samples = setting.scale == Scale::full ? 100 : setting.scale == Scale::quick ? 30 : 3;
  std::vector<double> seconds;
  for (int i = 0; i < samples; ++i) {
    ConsumerOptions options;
    options.queue = queue.name();
    options.name = "c";
    Consumer consumer{setting.dsn, options};
    consumer.on("*", [](const Message&) {});
    Clock::time_point end;
    std::thread thread{[&] {
      consumer.start();
      end = Clock::now();
    }};
    wait_for([&] { return consumer.stats().state == ConsumerState::waiting; }, "an idle consumer");
    const auto begin = Clock::now();
    consumer.stop();
    thread.join();
    seconds.push_back(std::chrono::duration<double>(end - begin).count());
  }
  report.add({name, median_and_tail(seconds)});
}

}  // namespace

std::vector<Workload> latency_workloads() {
  return {{"wake-up after a tick", wake_up}, {"stop() of an idle consumer", stop}};
}

}  // namespace pgque::bench
