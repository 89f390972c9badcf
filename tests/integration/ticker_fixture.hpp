#pragma once

// What tests of tickers have in common.

#include <string>

#include <pgque/ticker.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {

constexpr auto promptly = 10s;

// A function that PgQue's maintenance calls for a queue, as long as this lives.
class MaintenanceFunction {
 public:
  MaintenanceFunction(Sql& sql, const TestQueue& queue, const std::string& body)
      : sql_{sql}, name_{"public." + unique_name("extra")}, queue_{sql.quote(queue.name())} {
    sql_("create function " + name_ + "(text) returns integer language plpgsql as $$ begin " + body +
         "; return 0; end $$");
    set("array['" + name_ + "']");
  }
  MaintenanceFunction(const MaintenanceFunction&) = delete;
  MaintenanceFunction& operator=(const MaintenanceFunction&) = delete;
  ~MaintenanceFunction() {
    set("null");
    sql_("drop function " + name_ + "(text)");
  }
  // Whether a session executes pg_sleep() in it.
  bool running() const {
    return sql_.number(
               "select count(*) from pg_stat_activity where datname = current_database() and wait_event = "
               "'PgSleep' and query like '%pgque.maint()%'") != 0;
  }

 private:
  void set(const std::string& value) {
    sql_("update pgque.queue set queue_extra_maint = " + value + " where queue_name = " + queue_);
  }
  Sql& sql_;
  const std::string name_;
  const std::string queue_;
};

class TickerTest : public ConsumerTest {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    let_tick(queue());
  }
  // TestQueue keeps tickers away; from now on they tick it.
  static void let_tick(TestQueue& queue) {
    queue.config("ticker_max_lag", "1 millisecond");
    queue.config("ticker_idle_period", "1 millisecond");
  }
  TickerOptions fast() {
    TickerOptions options;
    options.tick_period = 5ms;
    options.retry_period = 5ms;
    options.standby_period = 5ms;
    options.log = ticker_log.sink();
    return options;
  }
  // It does nothing after its first round.
  TickerOptions once() {
    auto options = fast();
    options.tick_period = options.retry_period = options.maintenance_period = options.rotation_period = 1h;
    return options;
  }
  static bool wait_leader(const Ticker& ticker) {
    return wait_until([&] { return ticker.stats().leader; });
  }
  void make_rotation_due(const TestQueue& of) {
    sql()("update pgque.queue set queue_switch_time = now() - interval '1 day' where queue_name = " +
          sql().quote(of.name()));
  }
  std::string setting(const TestQueue& queue, const std::string& column) {
    return sql()
        .value("select " + column + " from pgque.queue where queue_name = " + sql().quote(queue.name()))
        .value_or("NULL");
  }
  std::int64_t last_tick(const TestQueue& queue) {
    return sql().number("select max(tick_id) from pgque.tick where tick_queue = " + setting(queue, "queue_id"));
  }
  // Whether the queue gets so many ticks from now on.
  bool is_ticked(const TestQueue& queue, int ticks = 3) {
    const auto before = last_tick(queue);
    return wait_until([&] {
      client().send(queue, "1");
      return last_tick(queue) >= before + ticks;
    });
  }
  // The session that ticks is the one that holds the lock of the active ticker. Returns how many there were.
  std::int64_t kill_ticking_session() { return kill_sessions_that("in"); }
  std::int64_t kill_other_sessions() { return kill_sessions_that("not in"); }

  LogCapture ticker_log;

 private:
  std::int64_t kill_sessions_that(const std::string& hold_the_lock) {
    return sql().number("select count(pg_terminate_backend(pid))" + watched() + "and pid " + hold_the_lock +
                        " (select pid from pg_locks where locktype = 'advisory')");
  }
};

}  // namespace pgque::test
