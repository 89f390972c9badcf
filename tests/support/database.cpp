#include "database.hpp"

#include <atomic>
#include <cctype>
#include <cstdlib>
#include <random>
#include <stdexcept>

#include <unistd.h>

#include "support.hpp"

namespace pgque::test {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string percent_encoded(const std::string& value) {
  static constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte)) {
      out += c;
    } else {
      out += '%';
      out += digits[byte >> 4];
      out += digits[byte & 0xF];
    }
  }
  return out;
}

std::string conninfo_quoted(const std::string& value) {
  std::string out = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out += '\'';
}

}  // namespace

std::string direct_dsn() {
  return environment("PGQUE_TEST_DSN");
}

bool pooled() {
  return !environment("PGQUE_TEST_POOLED_DSN").empty();
}

std::string dsn() {
  return pooled() ? environment("PGQUE_TEST_POOLED_DSN") : direct_dsn();
}

ClientOptions client_options() {
  ClientOptions options;
  options.pooled = pooled();
  return options;
}

std::string dsn_with(const std::vector<std::pair<std::string, std::string>>& settings, const std::string& base) {
  auto out = base;
  const bool uri = out.find("://") != std::string::npos;
  for (const auto& [key, value] : settings) {
    out += uri ? (out.find('?') == std::string::npos ? "?" : "&") : " ";
    out += key + '=' + (uri ? percent_encoded(value) : conninfo_quoted(value));
  }
  return out;
}

std::string unique_name(const std::string& prefix) {
  static std::atomic<int> counter{0};
  return prefix + '_' + std::to_string(::getpid()) + '_' + std::to_string(std::random_device{}() % 100000) + '_' +
         std::to_string(++counter);
}

pqxx::result Sql::operator()(const std::string& statement) {
  pqxx::nontransaction tx{connection()};
  return tx.exec(statement);
}

std::optional<std::string> Sql::value(const std::string& statement) {
  const auto result = (*this)(statement);
  if (result.empty() || result[0][0].is_null()) return std::nullopt;
  return std::string{result[0][0].c_str()};
}

std::int64_t Sql::number(const std::string& statement) {
  const auto text = value(statement);
  if (!text) throw std::runtime_error{"no number from: " + statement};
  return std::stoll(*text);
}

TestQueue::TestQueue(Sql& sql, const std::string& prefix) : sql_{sql}, name_{unique_name(prefix)} {
  sql_("select pgque.create_queue(" + sql_.quote(name_) + ")");
  // No tick but the forced ones, should a ticker be running in this database.
  config("ticker_max_count", "100000");
  config("ticker_max_lag", "1 day");
  config("ticker_idle_period", "1 day");
  tick();  // a queue with a single tick is ticked at once
}

TestQueue::~TestQueue() {
  try {
    const auto name = sql_.quote(name_);
    const auto consumers =
        sql_("select consumer_name from pgque.get_consumer_info(" + name + ") where consumer_name like '%.%'");
    for (const auto& row : consumers) {
      const std::string consumer = row[0].c_str();
      const auto dot = consumer.find('.');
      sql_("select pgque.unsubscribe_subconsumer(" + name + ", " + sql_.quote(consumer.substr(0, dot)) + ", " +
           sql_.quote(consumer.substr(dot + 1)) + ", 1)");
    }
    sql_("select pgque.drop_queue(" + name + ", true)");
  } catch (const std::exception& error) {
    // A test may have dropped it itself.
    if (std::string{error.what()}.find("No such event queue") == std::string::npos) {
      ADD_FAILURE() << "could not drop queue " << name_ << ": " << error.what();
    }
  }
}

void TestQueue::tick() {
  const auto name = sql_.quote(name_);
  sql_("select pgque.force_next_tick(" + name + ")");
  if (!sql_.value("select pgque.ticker(" + name + ")")) throw std::runtime_error{"ticker made no tick for " + name_};
}

void TestQueue::config(const std::string& parameter, const std::string& value) {
  sql_("select pgque.set_queue_config(" + sql_.quote(name_) + ", " + sql_.quote(parameter) + ", " + sql_.quote(value) +
       ")");
}

void TestQueue::bring_retries_back() {
  while (sql_.number("select pgque.maint_retry_events()") != 0) {
  }
  tick();
}

void TestQueue::expire_retries() {
  sql_(
      "update pgque.retry_queue set ev_retry_after = now() - interval '1 second' where ev_queue in (select queue_id "
      "from pgque.queue where queue_name = " +
      sql_.quote(name_) + ")");
  bring_retries_back();
}

std::int64_t TestQueue::retries() {
  return sql_.number(
      "select count(*) from pgque.retry_queue where ev_queue in (select queue_id from pgque.queue where "
      "queue_name = " +
      sql_.quote(name_) + ")");
}

std::int64_t TestQueue::dead_letters() {
  return sql_.number("select count(*) from pgque.dlq_inspect(" + sql_.quote(name_) + ", null)");
}

std::vector<std::optional<std::string>> TestQueue::dead_letter_reasons() {
  std::vector<std::optional<std::string>> reasons;
  for (const auto& row :
       sql_("select dl_reason from pgque.dlq_inspect(" + sql_.quote(name_) + ", null) order by ev_id")) {
    if (row[0].is_null()) {
      reasons.emplace_back();
    } else {
      reasons.emplace_back(row[0].c_str());
    }
  }
  return reasons;
}

std::string missing_database() {
  return dsn().empty() ? "PGQUE_TEST_DSN is not set; scripts/with-postgres COMMAND sets it" : "";
}

void DatabaseTest::SetUp() {
  if (const auto why = missing_database(); !why.empty()) return skip_outside_ci(why);
  sql_.emplace();
  queue_.emplace(*sql_);
}

void DatabaseTest::TearDown() {
  queue_.reset();
  for (const auto& role : roles_) {
    (*sql_)("drop owned by " + role);
    (*sql_)("drop role " + role);
  }
  sql_.reset();
}

std::string DatabaseTest::dsn_of_role_with(const std::vector<std::string>& roles) {
  const auto role = unique_name("pgque_test_role");
  const auto password = unique_name("secret");
  (*sql_)("create role " + role + " login password '" + password + "'");
  roles_.push_back(role);
  for (const auto& granted : roles) (*sql_)("grant " + granted + " to " + role);
  return dsn_with({{"user", role}, {"password", password}});
}

std::string DatabaseTest::dsn_of_role_set(const std::vector<std::pair<std::string, std::string>>& settings) {
  auto dsn = dsn_of_role_with({"pgque_admin"});
  for (const auto& [name, value] : settings) (*sql_)("alter role " + roles_.back() + " set " + name + " = " + value);
  return dsn;
}

}  // namespace pgque::test
