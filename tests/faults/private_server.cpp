#include "private_server.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

namespace pgque::test {

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool executable(const std::string& file) {
  return ::access(file.c_str(), X_OK) == 0;
}

// The directory with initdb, pg_ctl and postgres; empty if there is none.
std::string server_programs() {
  for (const auto* variable : {"PGQUE_TEST_PGBIN", "PGQUE_PG_BIN"}) {
    if (auto directory = environment(variable); !directory.empty()) return directory;
  }
  std::vector<std::pair<int, std::string>> found;
  glob_t matches{};
  if (::glob("/usr/lib/postgresql/*/bin/initdb", 0, nullptr, &matches) == 0) {
    for (std::size_t i = 0; i < matches.gl_pathc; ++i) {
      const std::string file = matches.gl_pathv[i];
      const auto version = file.substr(std::string{"/usr/lib/postgresql/"}.size());
      found.emplace_back(std::atoi(version.c_str()), file.substr(0, file.rfind('/')));
    }
  }
  ::globfree(&matches);
  if (!found.empty()) return std::max_element(found.begin(), found.end())->second;
  try {
    Process config{{"pg_config", "--bindir"}};
    if (config.wait() == 0 && !config.lines().empty() && executable(config.lines().front() + "/initdb")) {
      return config.lines().front();
    }
  } catch (const std::exception&) {
    // Then there is no such directory.
  }
  return {};
}

// Like with-postgres: other users of the machine can reach the port, so it asks for a password they cannot know.
std::string random_password() {
  std::random_device random;
  std::ostringstream out;
  for (int i = 0; i < 4; ++i) out << std::hex << random();
  return out.str();
}

}  // namespace

std::string PrivateServer::missing() {
  const auto programs = server_programs();
  if (programs.empty()) return "no PostgreSQL server programs found (initdb, pg_ctl, postgres)";
  return executable(programs + "/initdb") ? "" : "there is no initdb in " + programs;
}

PrivateServer::PrivateServer(const ServerOptions& options)
    : programs_{server_programs()}, password_{random_password()} {
  if (const auto why = missing(); !why.empty()) throw std::runtime_error{why};
  auto name = (environment("TMPDIR").empty() ? "/tmp" : environment("TMPDIR")) + "/pgque-faults.XXXXXX";
  if (!::mkdtemp(name.data())) throw std::system_error{errno, std::generic_category(), "mkdtemp"};
  directory_ = name;
  const auto user = server_user();
  if (!user.empty()) run({"chown", user, directory_});
  // The reaper outlives this process, even if this process is killed, and then cleans up: its end of the pipe closes.
  reaper_ = std::make_unique<Process>(
      std::vector<std::string>{"/bin/sh", "-c",
                               "exec 3<&0; (trap '' INT TERM HUP; cat <&3 >/dev/null; "
                               "[ ! -e \"$1/data/postmaster.pid\" ] || "
                               "\"$0/pg_ctl\" -D \"$1/data\" -m immediate -w stop; rm -rf \"$1\") >/dev/null 2>&1 &",
                               programs_, directory_},
      ProcessOptions{true});
  reaper_->wait();

  if (const auto saved = environment("PGQUE_TEST_CLUSTER"); !saved.empty()) {
    run({"cp", "-R", "-p", saved + "/data", path("data")});
    std::ifstream{saved + "/password"} >> password_;
    start_somewhere(options);
  } else {
    make_cluster();
    start_somewhere(options);
    const auto schema = environment("PGQUE_SQL");
    install(schema.empty() ? PGQUE_TEST_STANDIN : schema);
  }
}

void PrivateServer::make_cluster() {
  std::ofstream{path("password")} << password_ << '\n';
  ::chmod(path("password").c_str(), 0600);
  if (const auto user = server_user(); !user.empty()) run({"chown", user, path("password")});
  run({programs_ + "/initdb", "--pgdata=" + path("data"), "--username=postgres", "--auth=scram-sha-256",
       "--pwfile=" + path("password"), "--encoding=UTF8", "--locale=C", "--no-sync"},
      {true});
}

void PrivateServer::start_somewhere(const ServerOptions& options) {
  std::random_device random;
  constexpr int attempts = 20;
  for (int attempt = 1; !running_; ++attempt) {
    port_ = static_cast<int>(10240 + random() % 22000);
    {
      // Appended each time: the last setting counts. What has been committed must survive a crash of the server,
      // though not one of the machine, so synchronous_commit stays on.
      std::ofstream config{path("data/postgresql.conf"), std::ios::app};
      config << "listen_addresses = '127.0.0.1'\nport = " << port_ << "\nunix_socket_directories = '" << directory_
             << "'\nmax_connections = " << options.max_connections
             << "\nfsync = off\nshared_buffers = 32MB\nidle_in_transaction_session_timeout = 0\n";
      for (const auto& setting : options.settings) config << setting << '\n';
    }
    try {
      start();
    } catch (const std::exception&) {
      // Only starting the server shows whether the port is free.
      if (attempt == attempts) throw;
    }
  }
}

void PrivateServer::save_as(const std::string& directory) {
  run({"rm", "-rf", directory});
  run({"mkdir", "-p", "-m", "700", directory});
  run({"cp", "-R", "-p", path("data"), directory + "/data"});
  std::ofstream{directory + "/password"} << password_ << '\n';
}

PrivateServer::~PrivateServer() {
  try {
    if (running_) stop(Stop::immediate);
    run({"rm", "-rf", directory_});
  } catch (const std::exception&) {
    // The reaper does it.
  }
}

void PrivateServer::start() {
  control({"-l", path("log"), "-w", "-t", "60", "start"});
  running_ = true;
}

void PrivateServer::stop(Stop how) {
  control({"-m", how == Stop::fast ? "fast" : "immediate", "-w", "-t", "60", "stop"});
  running_ = false;
}

std::string PrivateServer::dsn(int port) const {
  return "host=127.0.0.1 port=" + std::to_string(port) + " user=postgres password=" + password_ +
         " dbname=postgres sslmode=disable gssencmode=disable";
}

void PrivateServer::control(const std::vector<std::string>& arguments) {
  std::vector<std::string> command{programs_ + "/pg_ctl", "-s", "-D", path("data")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  run(command, {true});
}

void PrivateServer::install(const std::string& schema) {
  client("psql", {"-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", schema});
}

void PrivateServer::set_epoch(std::int64_t epoch) {
  run({programs_ + "/pg_resetwal", "-e", std::to_string(epoch), "-D", path("data")}, {true});
}

void PrivateServer::dump(const std::string& file) const {
  client("pg_dump", {"-d", "postgres", "-f", file});
}

void PrivateServer::restore(const std::string& file, const std::string& database) const {
  client("psql", {"-X", "-q", "-d", "postgres", "-c", "create database " + database + " template template0"});
  client("psql", {"-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f", file});
}

void PrivateServer::client(const std::string& program, const std::vector<std::string>& arguments) const {
  std::vector<std::string> command{executable(programs_ + '/' + program) ? programs_ + '/' + program : program,
                                   "-h",
                                   "127.0.0.1",
                                   "-p",
                                   std::to_string(port_),
                                   "-U",
                                   "postgres"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  run(command, {false, {{"PGPASSWORD", password_}, {"PGOPTIONS", "-c client_min_messages=warning"}}});
}

}  // namespace pgque::test
