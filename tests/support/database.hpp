#pragma once

// The live database, and queues in it for single tests.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

namespace pgque::test {

// How the library under test connects: PGQUE_TEST_DSN, or with PGQUE_TEST_POOLED_DSN set, through that pooler. Empty if
// there is no database.
std::string dsn();
// Whether that leads through a pooler in transaction mode, and the options for it.
bool pooled();
ClientOptions client_options();
// PGQUE_TEST_DSN, always past the pooler.
std::string direct_dsn();
// A DSN with other or more settings: dsn_with({{"user", "x"}}). Values of any kind; they are quoted as needed.
std::string dsn_with(const std::vector<std::pair<std::string, std::string>>& settings, const std::string& base = dsn());

// A connection beside those of the library, for looking at what happened and for making things happen.
class Sql {
 public:
  Sql() : Sql{direct_dsn()} {}
  explicit Sql(const std::string& dsn) : dsn_{dsn} { reconnect(); }

  // A new connection, for when the server has ended the old one.
  void reconnect() { connection_.emplace(dsn_); }

  // Each statement is committed at once.
  pqxx::result operator()(const std::string& statement);
  // The first column of the first row; empty for NULL or no row.
  std::optional<std::string> value(const std::string& statement);
  std::int64_t number(const std::string& statement);
  std::string quote(std::string_view text) { return connection().quote(std::string{text}); }
  pqxx::connection& connection() { return *connection_; }

 private:
  const std::string dsn_;
  std::optional<pqxx::connection> connection_;
};

// A queue with a unique name that no ticker ticks: only tick() does. Dropped in the destructor, its consumers and
// cooperative members included.
class TestQueue {
 public:
  explicit TestQueue(Sql& sql, const std::string& prefix = "t");
  TestQueue(const TestQueue&) = delete;
  TestQueue& operator=(const TestQueue&) = delete;
  ~TestQueue();

  const std::string& name() const { return name_; }
  operator const std::string&() const { return name_; }  // NOLINT(google-explicit-constructor)
  operator std::string_view() const { return name_; }    // NOLINT(google-explicit-constructor)

  // Makes what was committed before visible to consumers.
  void tick();
  // A tick without events.
  void empty_tick() { tick(); }
  void config(const std::string& parameter, const std::string& value);
  // Moves due retries back, over all queues, and ticks.
  void bring_retries_back();
  // Makes all pending retries of this queue due, then brings them back.
  void expire_retries();

  std::int64_t retries();       // rows in the retry queue
  std::int64_t dead_letters();  // rows in the dead letters
  // Reasons of the dead letters, oldest id first.
  std::vector<std::optional<std::string>> dead_letter_reasons();

 private:
  Sql& sql_;
  std::string name_;
};

// Why there is no database to test with; empty if there is one.
std::string missing_database();

// A test with a database and one queue. Without PGQUE_TEST_DSN it is skipped, but fails in CI.
class DatabaseTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  Sql& sql() { return *sql_; }
  TestQueue& queue() { return *queue_; }
  // A role that has been granted these roles and no others, and a DSN for it. Dropped after the test.
  std::string dsn_of_role_with(const std::vector<std::string>& roles);
  // A role that may call everything, and whose sessions begin with these settings; a pooler would not pass them on from
  // a DSN. Dropped after the test.
  std::string dsn_of_role_set(const std::vector<std::pair<std::string, std::string>>& settings);
  // A consumer name for this test alone.
  std::string consumer_name() const { return "c_" + queue_->name(); }

 private:
  std::optional<Sql> sql_;
  std::optional<TestQueue> queue_;
  std::vector<std::string> roles_;
};

// A name that nothing else in the database has.
std::string unique_name(const std::string& prefix);

}  // namespace pgque::test
