#pragma once

// What tests of consumers have in common: a subscribed consumer, a producer, and a view of the consumer's sessions.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <pgque/pgque.hpp>

#include "database.hpp"
#include "support.hpp"

namespace pgque::test {

// Collects messages from handlers on any thread.
class Seen {
 public:
  void operator()(const Message& message) {
    const std::lock_guard lock{mutex_};
    messages_.push_back(message);
  }
  // Copies of it fill this collection.
  auto handler() {
    return [this](const Message& message) { (*this)(message); };
  }
  std::vector<Message> messages() const {
    const std::lock_guard lock{mutex_};
    return messages_;
  }
  std::size_t size() const {
    const std::lock_guard lock{mutex_};
    return messages_.size();
  }
  std::vector<std::string> payloads() const {
    std::vector<std::string> payloads;
    for (const auto& message : messages()) payloads.push_back(message.payload.value_or("NULL"));
    return payloads;
  }
  std::vector<EventId> ids() const {
    std::vector<EventId> ids;
    for (const auto& message : messages()) ids.push_back(message.msg_id);
    return ids;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Message> messages_;
};

// A handler, for tests of what a consumer does without messages.
inline void ignore(const Message&) {}

// Keeps handlers waiting until the test opens it, though not for ever.
class Gate {
 public:
  void open() { open_ = true; }
  void pass() {
    ++arrived_;
    wait_until([this] { return open_.load(); });
  }
  int arrived() const { return arrived_; }
  bool wait_arrived(int count = 1) const {
    return wait_until([&] { return arrived_ >= count; });
  }

 private:
  std::atomic<bool> open_{false};
  std::atomic<int> arrived_{0};
};

// The queue has one subscribed consumer, consumer_name(). What its sessions do can be seen, because they have a unique
// application_name.
class ConsumerTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    client_.emplace(dsn(), client_options());
    client_->subscribe(queue(), consumer_name());
  }
  void TearDown() override {
    client_.reset();
    DatabaseTest::TearDown();
  }

  // A consumer that only notifications wake: it polls every 30 s, longer than any test waits.
  ConsumerOptions options() {
    ConsumerOptions options;
    options.queue = queue();
    options.name = consumer_name();
    options.log = log.sink();
    options.pooled = pooled();
    if (options.pooled) options.listen_dsn = direct_dsn();
    return options;
  }
  ConsumerOptions options(TransactionMode mode) {
    auto out = options();
    out.transaction = mode;
    return out;
  }
  // A worker of the cooperative consumer group_name().
  ConsumerOptions worker(const std::string& name) {
    auto out = options();
    out.name = group_name();
    out.subconsumer = name;
    return out;
  }
  std::string group_name() const { return "g" + consumer_name(); }
  // Asks for a column of a worker's subscription.
  std::string of_worker(const std::string& column, const std::string& worker_name) {
    return "select " + column +
           " from pgque.subscription join pgque.queue on queue_id = sub_queue join pgque.consumer "
           "on co_id = sub_consumer where queue_name = " +
           sql().quote(queue().name()) + " and co_name = " + sql().quote(group_name() + '.' + worker_name);
  }

  std::string queue_id() {
    return sql().value("select queue_id from pgque.queue where queue_name = " + sql().quote(queue().name())).value();
  }
  // For triggers: an update of pgque.subscription that ends a batch of the queue.
  std::string end_of_batch() {
    return "old.sub_batch is not null and new.sub_batch is null and new.sub_queue = " + queue_id();
  }

  // Sends and ticks.
  EventId publish(const Payload& payload, const std::string& type = "t") {
    const auto id = client().send(queue(), payload, type);
    queue().tick();
    return id;
  }
  // Sends the payloads 0, 1, 2, ... and ticks.
  std::vector<EventId> publish_numbers(int count, const std::string& type = "t") {
    std::vector<Payload> payloads;
    for (int i = 0; i < count; ++i) payloads.emplace_back(std::to_string(i));
    auto ids = client().send_batch(queue(), type, payloads);
    queue().tick();
    return ids;
  }
  static std::vector<std::string> numbers(int count) {
    std::vector<std::string> out;
    for (int i = 0; i < count; ++i) out.push_back(std::to_string(i));
    return out;
  }

  Client& client() { return *client_; }
  // New connections for the test itself, for when the server has ended the old ones.
  void reconnect() {
    sql().reconnect();
    client_.emplace(dsn(), client_options());
  }

  // For consumers whose sessions the functions below are about.
  std::string watched_dsn(const std::string& base = dsn()) const {
    return dsn_with({{"application_name", application_name_}}, base);
  }
  std::string watched() const {
    return " from pg_stat_activity where datname = current_database() and application_name = '" + application_name_ +
           "' ";
  }
  std::int64_t sessions() { return sql().number("select count(*)" + watched()); }
  // Idle, idle in transaction, active; of the only session.
  std::string session_state() { return sql().value("select state" + watched()).value_or("none"); }
  bool session_waits_for_lock() {
    return sql().number("select count(*)" + watched() + "and wait_event_type = 'Lock'") != 0;
  }
  // The user of a DSN.
  static std::string role_of(const std::string& dsn) { return Sql{dsn}.value("select current_user").value(); }
  // Returns how many there were.
  std::int64_t kill_sessions() { return sql().number("select count(pg_terminate_backend(pid))" + watched()); }

  // Runs the consumer until it has acknowledged that many batches in all.
  static void finish_batches(Consumer& consumer, std::uint64_t batches = 1) {
    Running running{consumer};
    EXPECT_TRUE(wait_until([&] { return consumer.stats().batches >= batches; }))
        << to_string(consumer.stats().state) << ", latest error: " << consumer.stats().last_error;
  }
  static bool wait_batches(const Consumer& consumer, std::uint64_t batches) {
    return wait_until([&] { return consumer.stats().batches >= batches; });
  }
  static bool wait_state(const Consumer& consumer, ConsumerState state) {
    return wait_until([&] { return consumer.stats().state == state; });
  }

  // Prints a measured time and adds it to the test's report.
  static void record(const std::string& what, std::chrono::steady_clock::duration time) {
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(time).count();
    RecordProperty(what + "_us", std::to_string(us));
    std::printf("  %s: %.2f ms\n", what.c_str(), static_cast<double>(us) / 1000);
  }

  LogCapture log;

 private:
  std::optional<Client> client_;
  const std::string application_name_ = unique_name("pgque_test");
};

}  // namespace pgque::test
