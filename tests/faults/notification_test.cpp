// Too many notifications, false ones, and none.

#include "fault_fixture.hpp"

namespace pgque::test {
namespace {

// Sends notifications to the consumer's channel from a separate session, as fast as the server accepts them.
class Storm {
 public:
  explicit Storm(const std::string& queue) : thread_{[this, queue] { run(queue); }} {}
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;
  ~Storm() {
    quit_ = true;
    thread_.join();
  }
  int sent() const { return sent_; }

 private:
  void run(const std::string& queue) {
    Sql sql;
    // Sends many transactions with a few notifications each, because of equal notifications in one transaction only one
    // is sent, and those of one transaction arrive together.
    const auto statement =
        "select pg_notify('pgque_' || " + sql.quote(queue) + ", i::text) from generate_series(1, 5) as i";
    while (!quit_) {
      sql(statement);
      sent_ += 5;
    }
  }
  std::atomic<bool> quit_{false};
  std::atomic<int> sent_{0};
  std::thread thread_;
};

using Notifications = FaultModes;

TEST_P(Notifications, StormNeitherStarvesNorSpinsTheConsumer) {
  TcpProxy proxy{server().port()};
  Work work{queue(), mode()};
  Consumer consumer{watched_dsn(proxy), options()};
  work.handle_with(consumer);
  Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  proxy.count_requests("pgque_receive");
  {
    const Storm storm{queue()};
    ASSERT_TRUE(wait_until([&] { return storm.sent() >= 500; }));
    const auto begin = Clock::now();
    const auto sent = storm.sent();
    const auto asked = proxy.requests();
    // The storm for a second, and a message in the middle of it.
    ASSERT_TRUE(wait_until([&] { return Clock::now() - begin > 500ms; }));
    const auto published = Clock::now();
    publish("0");
    ASSERT_TRUE(wait_until([&] { return work.total() == 1; }));
    const auto latency = Clock::now() - published;
    EXPECT_LT(latency, 5s);
    ASSERT_TRUE(wait_until([&] { return Clock::now() - begin > 1s; }));
    const auto seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    const auto notifications = (storm.sent() - sent) / seconds;
    const auto receives = (proxy.requests() - asked) / seconds;
    record("latency_in_a_storm", latency);
    RecordProperty("notifications_per_second", std::to_string(notifications));
    RecordProperty("receives_per_second", std::to_string(receives));
    std::printf("  %.0f notifications/s, %.0f receives/s\n", notifications, receives);
    EXPECT_GT(notifications, 10 * receives);
    // A consumer that is woken for nothing again and again polls at most 30 times a second, plus two bursts of ten, the
    // second of them after the message has come.
    EXPECT_LT(receives, 75);
    EXPECT_LT(running.stop_and_join(), 10s);
  }
  EXPECT_FALSE(running.error());
  EXPECT_TRUE(wait_until([&] { return drained(); }));
}

TEST_P(Notifications, ForgedOnesDoNothing) {
  Work work{queue(), mode()};
  Consumer consumer{watched_dsn(), options()};
  work.handle_with(consumer);
  const Running running{consumer};
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  const auto channel = sql().quote("pgque_" + queue().name());
  // Sending a notification needs no privilege.
  Sql forger{dsn_of_role_with({})};
  for (const auto* payload : {"''", "'0'", "'-1'", "'999999999999999999999'", "'not a number'", "repeat('x', 7999)",
                              "E'\\n'", "'100; drop table pgque.queue'"}) {
    forger("select pg_notify(" + channel + ", " + payload + ")");
  }
  // Messages that were not ticked cannot be received, even if a notification comes.
  client().send(queue(), "\"not ticked\"");
  forger("select pg_notify(" + channel + ", '2')");
  publish_numbers(count);
  ASSERT_TRUE(wait_until([&] { return work.seen() == count + 1; }));
  EXPECT_EQ(work.total(), count + 1);
  EXPECT_TRUE(wait_until([&] { return settled(consumer); }));
  EXPECT_EQ(log.count(LogEvent::failed), 0U);
  EXPECT_EQ(log.count(LogEvent::connection_lost), 0U);
  EXPECT_FALSE(running.ended());
}

TEST_P(Notifications, TickerThatStopsAndComesBack) {
  queue().config("ticker_max_lag", "20 milliseconds");
  TickerOptions settings;
  settings.tick_period = 20ms;
  settings.log = log.sink();
  Ticker ticker{dsn(), settings};
  std::optional<Running<Ticker>> ticking{std::in_place, ticker};
  Work work{queue(), mode()};
  Consumer consumer{dsn(), options()};
  work.handle_with(consumer);
  const Running running{consumer};
  client().send(queue(), "0");
  client().send(queue(), "1");
  ASSERT_TRUE(wait_until([&] { return work.seen() == 2 && settled(consumer); }));

  ticking->stop_and_join();
  for (int i = 2; i < count; ++i) client().send(queue(), std::to_string(i));
  // Without a tick there is no message, and the consumer stays idle.
  EXPECT_FALSE(wait_until([&] { return work.seen() > 2; }, 300ms));
  EXPECT_EQ(consumer.stats().state, ConsumerState::waiting);

  ticking.emplace(ticker);
  ASSERT_TRUE(wait_until([&] { return work.seen() == count; }));
  expect_nothing_lost(work, mode());
  EXPECT_EQ(work.total(), count);
}

INSTANTIATE_TEST_SUITE_P(Modes, Notifications, both_modes, mode_name);

}  // namespace
}  // namespace pgque::test
