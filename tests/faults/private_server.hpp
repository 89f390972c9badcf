#pragma once

// A throwaway PostgreSQL server that a test may stop, crash and start again.

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "process.hpp"

namespace pgque::test {

struct ServerOptions {
  int max_connections = 40;
  // Further lines of postgresql.conf.
  std::vector<std::string> settings{};
};

class PrivateServer {
 public:
  enum class Stop {
    fast,      // sessions are ended, transactions rolled back
    immediate  // as if it had crashed; recovery at the next start
  };

  friend void PrintTo(Stop how, std::ostream* out) { *out << (how == Stop::fast ? "fast" : "immediate"); }

  // Why there cannot be one; empty if there can.
  static std::string missing();

  // Makes a cluster, starts it and installs PgQue: the file named by PGQUE_SQL, or else the stand-in. Where the
  // environment variable PGQUE_TEST_CLUSTER names a directory made by save_as(), takes a copy of that.
  explicit PrivateServer(const ServerOptions& options = {});
  PrivateServer(const PrivateServer&) = delete;
  PrivateServer& operator=(const PrivateServer&) = delete;
  ~PrivateServer();

  // Start and stop return when it is done.
  void start();
  void stop(Stop how);
  void restart(Stop how) {
    stop(how);
    start();
  }
  bool running() const noexcept { return running_; }
  // Raises the upper half of all transaction ids to come. The server has to be stopped.
  void set_epoch(std::int64_t epoch);
  // What pg_dump says about the database, and a new database made from that.
  void dump(const std::string& file) const;
  void restore(const std::string& file, const std::string& database) const;
  // Keeps the stopped cluster to be copied.
  void save_as(const std::string& directory);

  int port() const noexcept { return port_; }
  // A superuser's, over TCP without TLS; of another port, say a proxy's, if given.
  std::string dsn() const { return dsn(port_); }
  std::string dsn(int port) const;

 private:
  std::string path(const std::string& name) const { return directory_ + '/' + name; }
  void control(const std::vector<std::string>& arguments);
  void make_cluster();
  void start_somewhere(const ServerOptions& options);
  void install(const std::string& schema);
  // One of PostgreSQL's programs that connect to the server.
  void client(const std::string& program, const std::vector<std::string>& arguments) const;

  std::string programs_;
  std::string directory_;
  std::string password_;
  int port_ = 0;
  bool running_ = false;
  std::unique_ptr<Process> reaper_;
};

}  // namespace pgque::test
