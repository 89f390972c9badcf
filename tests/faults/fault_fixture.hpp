#pragma once

// What the fault tests have in common: a private server, handlers that record deliveries, locks, and what must hold in
// the end after any fault.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"
#include "private_server.hpp"
#include "tcp_proxy.hpp"

namespace pgque {

// For the names of tests.
inline void PrintTo(TransactionMode mode, std::ostream* out) {  // NOLINT(readability-identifier-naming)
  *out << (mode == TransactionMode::per_batch ? "per_batch" : "split");
}

}  // namespace pgque

namespace pgque::test {

// Handlers that record each delivery and, in per_batch mode, write a row for it.
class Work {
 public:
  Work(std::string queue, TransactionMode mode) : queue_{std::move(queue)}, mode_{mode} {}

  // Called by each handler, after the delivery has been recorded and before its row is written.
  std::function<void(const Message&, Context&)> hook{};

  void handle_with(Consumer& consumer);
  const Consumer& consumer() const { return *consumer_; }
  // The rows of per_batch handlers: (queue, payload).
  static void create_table(Sql& sql);

  // How often each payload was delivered.
  std::map<std::string, int> deliveries() const;
  int deliveries_of(const std::string& payload) const;
  // How many payloads there have been, and how many deliveries of them.
  std::size_t seen() const { return deliveries().size(); }
  int total() const;

 private:
  void handle(const Message& message, Context& context);

  const std::string queue_;
  const TransactionMode mode_;
  Consumer* consumer_ = nullptr;
  mutable std::mutex mutex_;
  std::map<std::string, int> deliveries_;
};

// Holds the row of a subscription, as another receive, ack or heartbeat would, for as long as it lives.
class SubscriptionLock {
 public:
  SubscriptionLock(const std::string& queue, const std::string& consumer);

 private:
  pqxx::connection connection_;
  pqxx::work transaction_;
};

// Makes statements wait in the server until it is opened: the end of batches, or the writing of retries.
class Barrier {
 public:
  enum class Where { ack, nack };
  Barrier(Sql& sql, Where where);
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;
  ~Barrier();
  void open();

 private:
  std::string table() const { return where_ == Where::ack ? "pgque.subscription" : "pgque.retry_queue"; }

  Sql& sql_;
  const Where where_;
  std::optional<Sql> holder_;
};

// Runs on this process's private server, as if PGQUE_TEST_DSN named it.
class FaultTest : public ConsumerTest {
 public:
  static PrivateServer& server();

 protected:
  static constexpr int count = 10;  // messages of a batch

  void SetUp() override;
  void TearDown() override;

  // Short pauses after errors: 50, 100, 200, 200 ms, ..., each at least half of that.
  ConsumerOptions options(TransactionMode mode);
  ConsumerOptions worker(const std::string& name);
  // The most attempts that a loop with these pauses can make in that time.
  static int attempts_within(Clock::duration time);

  // The DSN of watched sessions, through the proxy.
  std::string watched_dsn(const TcpProxy& proxy) const {
    return ConsumerTest::watched_dsn() + " port=" + std::to_string(proxy.port());
  }
  using ConsumerTest::watched_dsn;

  // Ends the consumer's sessions and waits until they are gone, but not for the consumer to notice.
  void terminate_sessions(std::int64_t expected = 1, const std::string& condition = "true");

  // True once every batch up to the latest tick has been acknowledged.
  bool drained() { return drained(consumer_name()); }
  bool drained(const std::string& consumer);
  // The same, once the consumer knows it as well and waits for more.
  bool settled(const Consumer& consumer) { return drained() && consumer.stats().state == ConsumerState::waiting; }
  std::int64_t rows(const std::string& payload);
  // After a fault: everything was handled and acknowledged; rows exist exactly once.
  void expect_nothing_lost(const Work& work, TransactionMode mode, int messages = count);
  // The consumer is still good for another batch.
  void expect_works_on(Work& work, TransactionMode mode);
};

// For both transaction modes.
class FaultModes : public FaultTest, public testing::WithParamInterface<TransactionMode> {
 protected:
  TransactionMode mode() const { return GetParam(); }
  ConsumerOptions options() { return FaultTest::options(mode()); }
};

inline const auto both_modes = testing::Values(TransactionMode::per_batch, TransactionMode::split);
inline std::string mode_name(const testing::TestParamInfo<TransactionMode>& info) {
  return testing::PrintToString(info.param);
}

}  // namespace pgque::test
