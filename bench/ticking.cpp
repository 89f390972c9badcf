// How long ticks wait while a ticker brings many retries back.

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <pgque/ticker.hpp>

#include "queue.hpp"
#include "raw.hpp"
#include "workload.hpp"

namespace pgque::bench {

namespace {

// A queue that gets a tick at each call of ticker().
class TickedQueue {
 public:
  explicit TickedQueue(const std::string& dsn) : queue_{dsn} {
    queue_.subscribe("c");
    for (const std::string setting : {"'ticker_max_lag', '1 ms'", "'ticker_idle_period', '1 ms'"}) {
      sql()("select pgque.set_queue_config('" + queue_.name() + "', " + setting + ")");
    }
  }
  Raw& sql() noexcept { return queue_.sql(); }

  // As if the consumer had nacked so many messages.
  void put_up_for_retry(std::int64_t count) {
    sql()(
        "insert into pgque.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_owner, ev_retry, ev_type, "
        "ev_data) select now(), queue_id, i, now(), sub_id, 1, 't', '{}' from pgque.queue join pgque.subscription on "
        "sub_queue = queue_id, generate_series(1, " +
        std::to_string(count) + ") i where queue_name = '" + queue_.name() + '\'');
  }
  std::int64_t last_tick() { return sql().number("select max(tick_id)" + of_ticks()); }
  // Between this tick and the latest one: all seconds, and how many of them passed without a tick at most.
  std::pair<double, double> seconds_since(std::int64_t tick) {
    const auto microseconds = [&](const std::string& aggregate) {
      return sql().number("select (extract(epoch from " + aggregate +
                          "(gap)) * 1000000)::int8 from (select tick_time - lag(tick_time) over (order by tick_id) as "
                          "gap" +
                          of_ticks() + " and tick_id >= " + std::to_string(tick) + ") gaps");
    };
    return {static_cast<double>(microseconds("sum")) / 1e6, static_cast<double>(microseconds("max")) / 1e6};
  }

 private:
  std::string of_ticks() const {
    return " from pgque.tick where tick_queue = (select queue_id from pgque.queue where queue_name = '" +
           queue_.name() + "')";
  }
  Queue queue_;
};

struct Taken {
  std::vector<double> seconds;
  std::vector<double> gaps;
  void add(TickedQueue& queue, std::int64_t since) {
    const auto [all, longest] = queue.seconds_since(since);
    seconds.push_back(all);
    gaps.push_back(longest);
  }
  std::string text() const { return millis(median(seconds)) + ", longest gap " + millis(median(gaps)); }
};

void await(const std::function<bool()>& condition, const std::string& what) {
  const auto deadline = Clock::now() + std::chrono::seconds{60};
  while (!condition()) {
    require(Clock::now() < deadline, "timed out waiting for " + what);
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
}

// Runs a ticker beside; raw libpq calls the same functions one after another.
void retries_beside_ticks(const std::string& name, const Setting& setting, Report& report) {
  const auto count = setting.size<std::int64_t>(2'000, 30);
  TickedQueue queue{setting.dsn};
  Taken ours;
  Taken theirs;
  for (int pair = 0; pair < setting.pairs(9); ++pair) {
    {
      TickerOptions options;
      options.tick_period = options.retry_period = std::chrono::milliseconds{10};
      Ticker ticker{setting.dsn, options};
      std::thread thread{[&] { ticker.start(); }};
      try {
        await([&] { return ticker.stats().maintenance > 0; }, "the ticker");
        const auto before = queue.last_tick();
        queue.put_up_for_retry(count);
        await([&] { return ticker.stats().retries == static_cast<std::uint64_t>(count); }, "the retries");
        const auto after = queue.last_tick();
        await([&] { return queue.last_tick() > after; }, "a tick");
        ours.add(queue, before);
      } catch (...) {
        ticker.stop();
        thread.join();
        throw;
      }
      ticker.stop();
      thread.join();
    }
    Raw raw{setting.dsn};
    require(raw.number("select pgque.ticker()") != 0, "no tick");
    const auto before = queue.last_tick();
    queue.put_up_for_retry(count);
    std::int64_t back = 0;
    while (const auto some = raw.number("select pgque.maint_retry_events()")) back += some;
    require(back == count, std::to_string(back) + " retries came back");
    require(raw.number("select pgque.ticker()") != 0, "no tick");
    theirs.add(queue, before);
  }
  report.add({name, ours.text(), theirs.text()});
}

}  // namespace

std::vector<Workload> ticking_workloads() {
  return {{"2000 due retries beside ticks", retries_beside_ticks}};
}

}  // namespace pgque::bench
