// What fork() makes of the library's objects: the child's copies do nothing, and the parent's go on as if there were no
// child.

#include <csignal>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <pgque/admin.hpp>
#include <pgque/buffered_producer.hpp>
#include <pgque/pqxx.hpp>
#include <pgque/signals.hpp>
#include <pqxx/pqxx>

#include "child_process.hpp"
#include "consumer_fixture.hpp"
#include "messages.hpp"
#include "ticker_fixture.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::IsEmpty;

class ForkTest : public ConsumerTest {
 protected:
  // A child process that ends as a program does: what is left is destroyed, and a leak checker looks.
  static int in_program(const std::function<int()>& body) {
    return in_child([&]() -> int { std::exit(body()); });
  }
  void expect_verbs_refused(Checks& check, Operations& ops) {
    for (const auto& verb : verbs()) {
      check.refused([&] { verb.call(ops, queue(), consumer_name()); });
    }
  }
  std::vector<std::optional<std::string>> received() {
    queue().tick();
    return payloads_of(client().receive(queue(), consumer_name()));
  }
  // Nothing was worth a warning.
  void expect_quiet(const LogCapture& capture) {
    for (const auto& line : capture.lines()) {
      if (line.event == LogEvent::unbounded_batches) continue;  // comes behind a pooler
      EXPECT_LT(line.level, LogLevel::warning) << line.message;
    }
  }
};

TEST_F(ForkTest, AClientIsInertInTheChildAndGoesOnInTheParent) {
  auto own = std::make_unique<Client>(dsn(), client_options());
  own->send(queue(), "1");
  const int failed = in_program([&] {
    Checks check;
    expect_verbs_refused(check, *own);
    check.refused([&] { own->begin(); });
    check.refused([&] { native(*own); });
    check(!own->is_open());
    own->close();
    own.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_TRUE(own->is_open());
  own->send(queue(), "2");
  EXPECT_THAT(received(), ElementsAre("1", "2"));
}

TEST_F(ForkTest, ANewClientInTheChildMayTakeThePlaceOfTheParents) {
  Client own{dsn(), client_options()};
  const int failed = in_program([&] {
    own = Client{dsn(), client_options()};
    own.send(queue(), "1");
    own.close();
    return 0;
  });
  EXPECT_EQ(failed, 0);
  own.send(queue(), "2");
  EXPECT_THAT(received(), ElementsAre("1", "2"));
}

TEST_F(ForkTest, ATransactionIsInertInTheChildAndCommitsInTheParent) {
  Client own{dsn(), client_options()};
  auto transaction = std::make_unique<Transaction>(own.begin());
  transaction->send(queue(), "1");
  const int failed = in_program([&] {
    Checks check;
    expect_verbs_refused(check, *transaction);
    check.refused([&] { transaction->commit(); });
    check.refused([&] { transaction->rollback(); });
    transaction.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  transaction->send(queue(), "2");
  transaction->commit();
  EXPECT_THAT(received(), ElementsAre("1", "2"));
}

TEST_F(ForkTest, ABorrowedConnectionIsNotUsedInTheChild) {
  Sql caller{dsn()};
  auto own = std::make_unique<Client>(borrow(caller.connection()));
  const auto use = [&](Operations& ops, const std::function<void()>& destroy) {
    return in_program([&] {
      Checks check;
      expect_verbs_refused(check, ops);
      destroy();
      return check.result();
    });
  };
  EXPECT_EQ(use(*own, [&] { own.reset(); }), 0);
  own->send(queue(), "1");
  {
    pqxx::work work{caller.connection()};
    auto transaction = std::make_unique<Transaction>(work);
    transaction->send(queue(), "2");
    EXPECT_EQ(use(*transaction, [&] { transaction.reset(); }), 0);
    transaction->send(queue(), "3");
    work.commit();
  }
  EXPECT_THAT(received(), ElementsAre("1", "2", "3"));
}

TEST_F(ForkTest, AnAdminIsInertInTheChildAndGoesOnInTheParent) {
  auto admin = std::make_unique<Admin>(dsn(), client_options());
  const int failed = in_program([&] {
    Checks check;
    check.refused([&] { admin->queue(queue()); });
    check.refused([&] { admin->configure_queue(queue(), {}); });
    check.refused([&] { admin->drop_queue(queue()); });
    check(!admin->is_open());
    admin->close();
    admin.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_TRUE(admin->is_open());
  EXPECT_EQ(admin->queue(queue()).queue, queue().name());
}

TEST_F(ForkTest, AConsumerThatDoesNotRunIsInertInTheChild) {
  publish("1");
  Seen seen;
  auto consumer = std::make_unique<Consumer>(dsn(), options());
  consumer->on("t", seen.handler());
  const int failed = in_program([&] {
    Checks check;
    check.refused([&] { consumer->start(); });
    check.refused([&] { consumer->on("t", seen.handler()); });
    check.refused([&] { consumer->stats(); });
    check.refused([&] { stop_on_signals(*consumer); });
    consumer->stop();
    consumer->stop_now();
    consumer.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  finish_batches(*consumer);  // the child has not stopped it
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
}

TEST_F(ForkTest, ATickerThatDoesNotRunIsInertInTheChild) {
  TickerOptions quiet;
  quiet.log = [](const LogRecord&) {};
  auto ticker = std::make_unique<Ticker>(direct_dsn(), quiet);
  const int failed = in_program([&] {
    Checks check;
    check.refused([&] { ticker->start(); });
    check.refused([&] { ticker->stats(); });
    check.refused([&] { stop_on_signals(*ticker); });
    ticker->stop();
    ticker->stop_now();
    ticker.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  const Running running{*ticker};
  EXPECT_TRUE(wait_until([&] { return ticker->stats().leader; }));
}

TEST_F(ForkTest, ARunningConsumerIsNotDisturbedByWhatTheChildDoesToIt) {
  Seen seen;
  auto consumer = std::make_unique<Consumer>(dsn(), options());
  consumer->on("t", seen.handler());
  const Running running{*consumer};
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  const int failed = in_child([&] {
    Checks check;
    check.refused([&] { consumer->start(); });
    check.refused([&] { consumer->on("t", seen.handler()); });
    check.refused([&] { consumer->stats(); });
    check.refused([&] { stop_on_signals(*consumer); });
    consumer->stop();
    consumer->stop_now();
    consumer.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  publish("1");
  ASSERT_TRUE(wait_batches(*consumer, 1));
  EXPECT_THAT(seen.payloads(), ElementsAre("1"));
  EXPECT_FALSE(running.ended());
  EXPECT_EQ(consumer->stats().reconnects, 0U);
  expect_quiet(log);
}

// Restores the signal's default action for as long as it lives: the parent of this program may have told it to ignore
// the signal.
class DefaultAction {
 public:
  explicit DefaultAction(int signal) : signal_{signal} {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(signal_, &action, &previous_);
  }
  DefaultAction(const DefaultAction&) = delete;
  DefaultAction& operator=(const DefaultAction&) = delete;
  ~DefaultAction() { ::sigaction(signal_, &previous_, nullptr); }

 private:
  const int signal_;
  struct sigaction previous_ {};
};

TEST_F(ForkTest, AChildEndedBySigtermLeavesARunningConsumerAlone) {
  if (thread_sanitizer) GTEST_SKIP() << "ThreadSanitizer may deliver no signal in the child of a process with threads";
  const DefaultAction action{SIGTERM};
  Seen seen;
  std::optional<Consumer> consumer;
  const auto pipe = pipe_made_by([&] { consumer.emplace(dsn(), options()); });
  consumer->on("t", seen.handler());
  stop_on_signals(*consumer);
  const Running running{*consumer};
  ASSERT_TRUE(wait_state(*consumer, ConsumerState::waiting));
  for (int i = 0; i < 3; ++i) {
    const auto child = make_child([]() -> int {
      for (;;) ::pause();
    });
    ASSERT_EQ(::kill(child, SIGTERM), 0);
    EXPECT_EQ(wait_child(child), 128 + SIGTERM);
    EXPECT_EQ(pipe.waiting(), 0);
    publish(std::to_string(i));
    ASSERT_TRUE(wait_batches(*consumer, static_cast<std::uint64_t>(i) + 1));
  }
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_FALSE(running.ended());
  EXPECT_EQ(consumer->stats().reconnects, 0U);
  expect_quiet(log);
}

TEST_F(ForkTest, NewObjectsWorkInTheChildOfARunningConsumer) {
  if (thread_sanitizer) GTEST_SKIP() << "ThreadSanitizer allows no threads in the child of a process with threads";
  const DefaultAction action{SIGTERM};
  const auto name_in_child = consumer_name() + "_child";
  client().subscribe(queue(), name_in_child);
  Seen seen;
  Consumer consumer{dsn(), options()};
  consumer.on("t", seen.handler());
  stop_on_signals(consumer);
  const Running running{consumer};
  publish("1");
  ASSERT_TRUE(wait_batches(consumer, 1));
  ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
  auto with = options();
  with.name = name_in_child;
  with.log = [](const LogRecord&) {};
  const int failed = in_child([&] {
    Checks check;
    Consumer own{dsn(), with};
    int handled = 0;
    own.on("t", [&](const Message&) {
      ++handled;
      ::raise(SIGTERM);
    });
    stop_on_signals(own);
    own.start();  // returns, because the signal stops it
    check(handled == 1);
    check(own.stats().batches == 1);
    struct sigaction after {};
    ::sigaction(SIGTERM, nullptr, &after);
    check(after.sa_handler == SIG_DFL);
    Client{dsn(), client_options()}.send(queue(), "2", "t");
    BufferedProducerOptions producing;
    producing.pooled = pooled();
    BufferedProducer producer{dsn(), producing};
    producer.send(queue(), "3", "t").get();
    check(producer.close());
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  queue().tick();
  ASSERT_TRUE(wait_batches(consumer, 2));
  EXPECT_THAT(seen.payloads(), ElementsAre("1", "2", "3"));
  EXPECT_FALSE(running.ended());
  expect_quiet(log);
}

TEST_F(ForkTest, ARunningTickerIsNotDisturbedByWhatTheChildDoesToIt) {
  queue().config("ticker_max_lag", "1 millisecond");
  queue().config("ticker_idle_period", "1 millisecond");
  LogCapture ticker_log;
  TickerOptions fast;
  fast.tick_period = 5ms;
  fast.log = ticker_log.sink();
  auto ticker = std::make_unique<Ticker>(direct_dsn(), fast);
  const Running running{*ticker};
  ASSERT_TRUE(wait_until([&] { return ticker->stats().leader; }));
  const int failed = in_child([&] {
    Checks check;
    check.refused([&] { ticker->start(); });
    check.refused([&] { ticker->stats(); });
    check.refused([&] { stop_on_signals(*ticker); });
    ticker->stop();
    ticker->stop_now();
    ticker.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  client().send(queue(), "1");
  std::vector<Message> messages;
  EXPECT_TRUE(wait_until([&] {
    messages = client().receive(queue(), consumer_name());
    return !messages.empty();
  }));
  EXPECT_TRUE(ticker->stats().leader);
  EXPECT_EQ(ticker->stats().reconnects, 0U);
  EXPECT_FALSE(running.ended());
  expect_quiet(ticker_log);
}

TEST_F(ForkTest, ABufferedProducerIsInertInTheChildAndSendsInTheParent) {
  BufferedProducerOptions options;
  options.linger = 1h;  // the event waits in the buffer
  options.pooled = pooled();
  options.log = log.sink();
  auto producer = std::make_unique<BufferedProducer>(dsn(), options);
  auto id = producer->send(queue(), "1");
  const int failed = in_child([&] {
    Checks check;
    check.refused([&] { producer->send(queue(), "2"); });
    check.refused([&] { producer->flush(1s); });
    check.refused([&] { producer->stats(); });
    check(!producer->close());
    producer.reset();
    return check.result();
  });
  EXPECT_EQ(failed, 0);
  EXPECT_TRUE(producer->flush(20s));
  EXPECT_NO_THROW(id.get());
  EXPECT_TRUE(producer->close());
  EXPECT_EQ(producer->stats().reconnects, 0U);
  EXPECT_THAT(received(), ElementsAre("1"));
  expect_quiet(log);
}

// Runs a consumer that calls fork() meanwhile. The child, where start() must throw, ends here with status 42.
void start_with_fork(Consumer& consumer) {
  const auto parent = ::getpid();
  try {
    consumer.start();
    if (::getpid() != parent) ::_exit(1);
  } catch (const std::logic_error& error) {
    if (::getpid() == parent) throw;
    const bool says_so = std::string{error.what()}.find("the process before fork()") != std::string::npos;
    ::_exit(says_so ? 42 : 2);
  }
}

// How a handler that called fork() leaves it in the child.
enum class Leaves { returns, throws };

class ForkInAHandlerTest : public ForkTest, public testing::WithParamInterface<std::pair<TransactionMode, Leaves>> {};

TEST_P(ForkInAHandlerTest, EndsStartInTheChildAndNothingInTheParent) {
  const auto [mode, leaves] = GetParam();
  publish_numbers(3);
  Seen seen;
  int status = -1;
  Consumer consumer{dsn(), options(mode)};
  consumer.on("t", [&, mode = mode, leaves = leaves](const Message& message, Context& context) {
    if (mode == TransactionMode::per_batch) context.transaction().exec("select 1");
    if (message.payload == "0") {
      const auto child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        ::alarm(60);
        if (leaves == Leaves::throws) throw std::runtime_error{"in the child"};
        return;
      }
      status = wait_child(child);
    }
    seen(message);
    consumer.stop();
  });
  start_with_fork(consumer);
  EXPECT_EQ(status, 42);
  EXPECT_THAT(seen.payloads(), ElementsAreArray(numbers(3)));
  EXPECT_EQ(consumer.stats().batches, 1U);
  EXPECT_EQ(consumer.stats().failures, 0U);
  EXPECT_THAT(received(), IsEmpty());
  expect_quiet(log);
}

INSTANTIATE_TEST_SUITE_P(ForkTest, ForkInAHandlerTest,
                         testing::Values(std::pair{TransactionMode::per_batch, Leaves::returns},
                                         std::pair{TransactionMode::per_batch, Leaves::throws},
                                         std::pair{TransactionMode::split, Leaves::returns},
                                         std::pair{TransactionMode::split, Leaves::throws}),
                         [](const auto& instance) {
                           return std::string{instance.param.first == TransactionMode::split ? "Split" : "PerBatch"} +
                                  (instance.param.second == Leaves::throws ? "Throws" : "Returns");
                         });

// The child must not go on with the next callback, on the parent's connection.
TEST_F(ForkTest, ACallbackOfOnAckThatReturnsInTheChildEndsStartThere) {
  publish_numbers(2);
  TestQueue audit{sql()};
  client().subscribe(audit, "reader");
  int status = -1;
  Consumer consumer{dsn(), options(TransactionMode::split)};
  consumer.on("t", [&](const Message& message, Context& context) {
    context.on_ack([&](pqxx::transaction_base&) {
      if (status != -1) return;
      const auto child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        ::alarm(60);
        return;
      }
      status = wait_child(child);
    });
    context.on_ack([&, value = *message.payload](pqxx::transaction_base& transaction) {
      Transaction{transaction}.send(audit, value, "t");
      consumer.stop();
    });
  });
  start_with_fork(consumer);
  EXPECT_EQ(status, 42);
  audit.tick();
  std::vector<std::string> sent;
  for (const auto& message : client().receive(audit, "reader")) sent.push_back(*message.payload);
  EXPECT_THAT(sent, ElementsAreArray(numbers(2)));
  EXPECT_EQ(consumer.stats().batches, 1U);
  expect_quiet(log);
}

TEST_F(ForkTest, AHandlersTransactionIsRefusedInTheChild) {
  publish("1");
  int status = -1;
  Consumer consumer{dsn(), options(TransactionMode::per_batch)};
  consumer.on("t", [&](const Message&, Context& context) {
    status = in_child([&] {
      Checks check;
      check.refused([&] { context.transaction(); });
      return check.result();
    });
    context.transaction().exec("select 1");
    consumer.stop();
  });
  consumer.start();
  EXPECT_EQ(status, 0);
  EXPECT_EQ(consumer.stats().batches, 1U);
  expect_quiet(log);
}

TEST_F(ForkTest, AConcurrentHandlerThatReturnsInTheChildEndsTheChild) {
  publish("1");
  int status = -1;
  auto concurrent = options();
  concurrent.concurrency = 2;
  Consumer consumer{dsn(), concurrent};
  consumer.on("t", [&](const Message&) {
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::alarm(60);
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      return;
    }
    status = wait_child(child);
    consumer.stop();
  });
  consumer.start();
  EXPECT_EQ(status, 128 + SIGABRT);
  EXPECT_EQ(consumer.stats().batches, 1U);
  expect_quiet(log);
}

// A log sink that calls fork(), once, on a thread that the library has made. The child has no other thread, so it must
// end when that one does, and must not go on with the work.
class ForkInTheSinkTest : public ForkTest {
 protected:
  LogSink sink_that_forks_at(LogEvent event) {
    return [this, event](const LogRecord& record) {
      if (record.event != event || child_ != 0) return;
      const auto child = ::fork();
      child_ = child == 0 ? -1 : child;
      if (child != 0) return;
      ::alarm(60);
      std::atexit([] { ::_exit(42); });
    };
  }
  void expect_an_end() {
    ASSERT_TRUE(wait_until([&] { return child_ != 0; }));
    EXPECT_EQ(wait_child(child_), 42);
  }

 private:
  std::atomic<pid_t> child_{0};
};

TEST_F(ForkInTheSinkTest, ForATickersDutiesLeavesAChildThatEnds) {
  if (thread_sanitizer) GTEST_SKIP() << "ThreadSanitizer itself crashes in the child when its last thread ends";
  const MaintenanceFunction failing{sql(), queue(), "raise exception 'no'"};
  TickerOptions options;
  options.pooled = pooled();
  options.maintenance_period = 5ms;
  options.log = sink_that_forks_at(LogEvent::failed);
  Ticker ticker{dsn(), options};
  const Running running{ticker};
  expect_an_end();
  EXPECT_TRUE(wait_until([&] { return ticker.stats().maintenance_errors >= 2; })) << "the parent goes on";
}

TEST_F(ForkInTheSinkTest, ForAHeartbeatLeavesAChildThatEnds) {
  if (pooled()) GTEST_SKIP() << "the pooler keeps the connection";
  if (thread_sanitizer) GTEST_SKIP() << "ThreadSanitizer itself crashes in the child when its last thread ends";
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish("1");
  auto cooperative = worker("w1");
  cooperative.dead_interval = 300ms;  // so its heartbeats are 100 ms apart
  cooperative.log = sink_that_forks_at(LogEvent::connection_lost);
  Consumer consumer{watched_dsn(), cooperative};
  const auto heartbeat = watched() + "and query like '%touch%'";
  consumer.on("t", [&](const Message&) {
    ASSERT_TRUE(wait_until([&] { return Sql{}.number("select count(*)" + heartbeat) != 0; }));
    Sql{}("select pg_terminate_backend(pid)" + heartbeat);
    expect_an_end();
  });
  finish_batches(consumer);
}

TEST_F(ForkInTheSinkTest, ForABatchThatIsLostLeavesAChildThatEnds) {
  if (thread_sanitizer) GTEST_SKIP() << "ThreadSanitizer has a thread of its own in the child";
  client().subscribe_subconsumer(queue(), group_name(), "w1");
  publish("1");
  auto cooperative = worker("w1");
  cooperative.dead_interval = 300ms;  // so its heartbeats are 100 ms apart
  cooperative.log = sink_that_forks_at(LogEvent::batch_lost);
  Consumer consumer{dsn(), cooperative};
  consumer.on("t", [&](const Message&) {
    Client thief{dsn(), client_options()};
    std::vector<Message> stolen;
    EXPECT_TRUE(wait_until([&] {  // a heartbeat that has come just now puts it off
      stolen = thief.receive_coop(queue(), group_name(), "thief", {std::nullopt, 1ms});
      return !stolen.empty();
    }));
    EXPECT_TRUE(thief.ack(stolen.at(0).batch_id));
    expect_an_end();
  });
  const Running running{consumer};
  EXPECT_TRUE(wait_until([&] { return consumer.stats().lost == 1; }, 90s));
}

TEST_F(ForkInTheSinkTest, ForAStuckHandlerLeavesAChildThatEnds) {
  if (thread_sanitizer) GTEST_SKIP() << "ThreadSanitizer has a thread of its own in the child";
  publish("1");
  auto watched = options();
  watched.handler_timeout = 20ms;
  watched.log = sink_that_forks_at(LogEvent::handler_stuck);
  Consumer consumer{dsn(), watched};
  consumer.on("t", [&](const Message&) { expect_an_end(); });
  finish_batches(consumer);
  EXPECT_EQ(consumer.stats().stuck, 1U);
}

}  // namespace
}  // namespace pgque::test
