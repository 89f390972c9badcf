#pragma once

// What all examples share: the DSN of the database and a temporary queue.

#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>

#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

namespace example {

inline std::string dsn() {
  const char* value = std::getenv("PGQUE_TEST_DSN");
  if (!value) throw std::runtime_error{"set PGQUE_TEST_DSN to a database with PgQue, or use scripts/with-postgres"};
  return value;
}

// Queues are created once, by an administrator or a migration, not by every service that uses them.
inline void create_queue(const std::string& name) {
  pqxx::connection connection{dsn()};
  pqxx::nontransaction{connection}.exec("select pgque.create_queue(" + connection.quote(name) + ")");
}

// A queue for one run of one example.
class TemporaryQueue {
 public:
  explicit TemporaryQueue(const std::string& prefix)
      : name_{prefix + '_' + std::to_string(std::random_device{}() % 1000000)} {
    create_queue(name_);
  }
  TemporaryQueue(const TemporaryQueue&) = delete;
  TemporaryQueue& operator=(const TemporaryQueue&) = delete;
  ~TemporaryQueue() {
    try {
      pqxx::connection connection{dsn()};
      pqxx::nontransaction{connection}.exec("select pgque.drop_queue(" + connection.quote(name_) + ", true)");
    } catch (const std::exception&) {
      // The queue stays if the database is gone, which an example cannot change.
    }
  }
  const std::string& name() const { return name_; }

 private:
  std::string name_;
};

}  // namespace example
