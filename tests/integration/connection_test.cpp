// Connecting, what the session is like, and losing the connection.

#include <cstdlib>
#include <functional>
#include <future>
#include <stdexcept>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <pgque/pqxx.hpp>

#include "hang_up.hpp"
#include "messages.hpp"
#include "support.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// A port of this machine where a server listens and never answers, or where none listens.
class Port {
 public:
  enum class Kind { silent, closed };

  explicit Port(Kind kind) : socket_{::socket(AF_INET, SOCK_STREAM, 0)} {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(socket_, generic, size) != 0 || ::getsockname(socket_, generic, &size) != 0 ||
        (kind == Kind::silent && ::listen(socket_, 16) != 0)) {
      throw std::runtime_error{"cannot make a socket"};
    }
    number_ = ntohs(address.sin_port);
  }
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  ~Port() { ::close(socket_); }

  std::string dsn(const std::string& more = {}) const {
    return "host=127.0.0.1 port=" + std::to_string(number_) + " dbname=pgque user=u password=hunter2 " + more;
  }

 private:
  int socket_;
  int number_ = 0;
};

class Environment {
 public:
  Environment(const char* name, const char* value) : name_{name} { ::setenv(name, value, 1); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { ::unsetenv(name_); }

 private:
  const char* name_;
};

std::chrono::milliseconds time_of(const std::function<void()>& run) {
  const auto begin = Clock::now();
  run();
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
}

// These need no database.

TEST(ConnectTest, AServerThatIsNotThereFailsTheConstructorAtOnce) {
  const Port port{Port::Kind::closed};
  const auto time = time_of([&] {
    const auto error = thrown<ConnectionError>([&] { Client{port.dsn()}; });
    EXPECT_EQ(error.operation(), "connect");
    EXPECT_THAT(error.what(), HasSubstr("refused"));
    EXPECT_THAT(error.what(), Not(HasSubstr("hunter2")));
    EXPECT_TRUE(error.retryable());
    EXPECT_FALSE(error.outcome_unknown());
  });
  EXPECT_LT(time, 4s);
}

class SilentServerTest : public testing::Test {
 protected:
  // That connecting takes about two seconds.
  void expect_timeout(const std::string& dsn, std::chrono::seconds option) {
    ClientOptions options;
    options.connect_timeout = option;
    const auto time = time_of([&] {
      const auto error = thrown<ConnectionError>([&] { Client{dsn, options}; });
      EXPECT_THAT(error.what(), HasSubstr("timeout"));
      EXPECT_THAT(error.what(), Not(HasSubstr("hunter2")));
    });
    EXPECT_GT(time, 1s);
    EXPECT_LT(time, 8s);
  }
  const Port port{Port::Kind::silent};
};

// Both wait at the same time, because libpq waits for two seconds at least.
TEST_F(SilentServerTest, ConnectingFailsAfterTheConnectTimeoutAndTheDsnsComesFirst) {
  auto option = std::async(std::launch::async, [&] { expect_timeout(port.dsn(), 2s); });
  expect_timeout(port.dsn("connect_timeout=2"), 600s);
  option.get();
}

TEST_F(SilentServerTest, TheEnvironmentsConnectTimeoutComesFirst) {
  const Environment environment{"PGCONNECT_TIMEOUT", "2"};
  expect_timeout(port.dsn(), 600s);
}

TEST(ConnectTest, AConnectTimeoutOutOfRangeIsRefused) {
  for (const auto timeout : {std::chrono::seconds{-1}, std::chrono::seconds::max(), std::chrono::seconds::min()}) {
    ClientOptions options;
    options.connect_timeout = timeout;
    EXPECT_THAT(thrown<std::invalid_argument>([&] { Client{"", options}; }).what(), HasSubstr("connect_timeout"));
  }
}

class MalformedDsnTest : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(By, MalformedDsnTest,
                         testing::Values("postgresql://user:hunter2@localhost:notaport/db",
                                         "postgresql://user:hunter2@[::1/db",
                                         "postgresql://user:hunter2%zz@localhost/db",
                                         "postgresql://user:hunter2@localhost/db?nonsense=hunter2",
                                         "postgresql://user@localhost/db?password=hunter2&x",
                                         "host=localhost password=hunter2 nonsense", "host=localhost nonsense=hunter2",
                                         "password='hunter2", "hunter2", "hunter2://user@localhost", "=hunter2",
                                         std::string{"password=hunter2\0 host=localhost", 32}));

TEST_P(MalformedDsnTest, FailsWithoutShowingThePassword) {
  const auto expect_refused = [](const std::function<void()>& construct) {
    const auto error = thrown<ConnectionError>(construct);
    EXPECT_EQ(error.operation(), "connect");
    EXPECT_THAT(error.what(), Not(HasSubstr("hunter2")));
  };
  expect_refused([] { Client{GetParam()}; });
  expect_refused([] { Ticker{GetParam()}.start(); });
  ConsumerOptions options;
  options.queue = "q";
  options.name = "c";
  expect_refused([&] { Consumer{GetParam(), options}.start(); });
}

TEST(ConnectTest, ADsnThatIsMalformedIsSaidToBe) {
  EXPECT_THAT(thrown<ConnectionError>([] { Client{"hunter2"}; }).what(), HasSubstr("dsn"));
}

class ConnectionTest : public DatabaseTest {
 protected:
  // What the session of the client says to this.
  static std::string ask(Client& client, const std::string& statement) {
    pqxx::nontransaction tx{native(client)};
    return tx.exec(statement)[0][0].as<std::string>();
  }
  static std::string backend_of(Client& client) { return ask(client, "select pg_backend_pid()"); }
  bool backend_is_gone(const std::string& pid) {
    return wait_until([&] { return sql().number("select count(*) from pg_stat_activity where pid = " + pid) == 0; });
  }
  // Ends the session behind the client's back.
  void kill(PqxxConnection& connection) {
    const auto pid = std::to_string(connection.backendpid());
    // With a timeout of its own, pg_terminate_backend looks only every 100 ms whether the session has ended.
    ASSERT_EQ(sql().value("select pg_terminate_backend(" + pid + ")"), "t");
    ASSERT_TRUE(backend_is_gone(pid));
    ASSERT_TRUE(wait_hung_up(connection.sock()));
  }
  void kill(Client& client) { kill(native(client)); }
};

TEST_F(ConnectionTest, IsOpenUntilClosed) {
  Client client{dsn(), client_options()};
  EXPECT_TRUE(client.is_open());
  const auto pid = backend_of(client);
  client.close();
  EXPECT_FALSE(client.is_open());
  EXPECT_TRUE(backend_is_gone(pid));
}

TEST_F(ConnectionTest, IsClosedByTheDestructor) {
  std::string pid;
  {
    Client client{dsn(), client_options()};
    pid = backend_of(client);
  }
  EXPECT_TRUE(backend_is_gone(pid));
}

TEST_F(ConnectionTest, ADatabaseThatDoesNotExistFailsTheConstructor) {
  const auto error = thrown<ConnectionError>([] {
    Client{dsn_with({{"dbname", "no such db"}, {"password", "hunter2"}})};
  });
  EXPECT_THAT(error.what(), Not(HasSubstr("hunter2")));
  EXPECT_FALSE(error.outcome_unknown());
}

TEST_F(ConnectionTest, ARoleThatDoesNotExistFailsTheConstructor) {
  const auto error = thrown<ConnectionError>([] {
    Client{dsn_with({{"user", "no such role"}, {"password", "hunter2"}})};
  });
  EXPECT_THAT(error.what(), HasSubstr("no such role"));
  EXPECT_THAT(error.what(), Not(HasSubstr("hunter2")));
}

TEST_F(ConnectionTest, AConnectTimeoutOfZeroWaitsForever) {
  ClientOptions options;
  options.connect_timeout = 0s;
  EXPECT_TRUE((Client{dsn(), options}.is_open()));
}

TEST_F(ConnectionTest, CallsItselfPgque) {
  Client client{dsn(), client_options()};
  EXPECT_THAT(ask(client, "select current_setting('application_name')"), testing::StartsWith("pgque"));
}

TEST_F(ConnectionTest, CallsItselfWhatTheDsnSays) {
  Client client{dsn_with({{"application_name", "billing 'x' \\y"}}), client_options()};
  EXPECT_EQ(ask(client, "select current_setting('application_name')"), "billing 'x' \\y");
}

TEST_F(ConnectionTest, CallsItselfWhatTheEnvironmentSays) {
  const Environment environment{"PGAPPNAME", "from the environment"};
  Client client{dsn(), client_options()};
  EXPECT_EQ(ask(client, "select current_setting('application_name')"), "from the environment");
}

TEST_F(ConnectionTest, SpeaksUtf8WhateverTheDsnSays) {
  Client client{dsn_with({{"client_encoding", "LATIN1"}}), client_options()};
  EXPECT_EQ(ask(client, "show client_encoding"), "UTF8");
  client.subscribe(queue(), consumer_name());
  client.send(queue(), text("日本語"));
  queue().tick();
  Client another{dsn(), client_options()};  // the same session would turn back what it had garbled
  EXPECT_THAT(payloads_of(another.receive(queue(), consumer_name())), testing::ElementsAre("日本語"));
}

TEST_F(ConnectionTest, HasKeepalivesUnlessTheDsnSetsThem) {
  const auto idle_seconds = [](Client& client) {
    int value = 0;
    socklen_t size = sizeof value;
    return ::getsockopt(native(client).sock(), IPPROTO_TCP, TCP_KEEPIDLE, &value, &size) == 0 ? value : -1;
  };
  Client client{dsn(), client_options()};
  if (idle_seconds(client) < 0) GTEST_SKIP() << "not a TCP connection";
  EXPECT_EQ(idle_seconds(client), 30);
  Client set{dsn_with({{"keepalives_idle", "77"}}), client_options()};
  EXPECT_EQ(idle_seconds(set), 77);
}

TEST_F(ConnectionTest, ThatIsLostIsAConnectionErrorNowAndForEver) {
  Client client{dsn(), client_options()};
  client.send(queue(), "1");
  kill(client);
  const auto first = thrown<ConnectionError>([&] { client.send(queue(), "2"); });
  EXPECT_EQ(first.sqlstate(), "08006");
  EXPECT_FALSE(client.is_open());
  for (const auto& verb : verbs()) {
    const auto later = thrown<ConnectionError>([&] { verb.call(client, queue().name(), "c"); });
    EXPECT_FALSE(later.outcome_unknown()) << verb.name;  // it was not even tried
    EXPECT_EQ(later.sqlstate(), "08003") << verb.name;
  }
  thrown<ConnectionError>([&] { client.begin(); });
  // Without a check, libpqxx 6 would connect again at the third attempt, without anything that belongs to the session.
  for (int i = 0; i < 4; ++i) EXPECT_ANY_THROW(ask(client, "select 1"));
  EXPECT_FALSE(client.is_open());
  EXPECT_NO_THROW(client.close());
  thrown<std::logic_error>([&] { client.send(queue(), "3"); });
}

// An idle client learns of the loss before it sends anything.
TEST_F(ConnectionTest, ThatIsLostBeforeACallHasACertainOutcomeInEveryVerb) {
  for (const bool used_before : {false, true}) {
    for (const auto& verb : verbs()) {
      SCOPED_TRACE(verb.name);
      Client client{dsn(), client_options()};
      if (used_before) client.send(queue(), "1");
      kill(client);
      const auto error = thrown<ConnectionError>([&] { verb.call(client, queue().name(), consumer_name()); });
      EXPECT_FALSE(error.outcome_unknown());
      EXPECT_TRUE(error.retryable());
      EXPECT_THAT(error.what(), HasSubstr("the connection was lost before the call"));
      EXPECT_FALSE(client.is_open());
    }
  }
}

TEST_F(ConnectionTest, ThatIsLostInsideATransactionHasACertainOutcomeInEveryVerb) {
  for (const auto& verb : verbs()) {
    SCOPED_TRACE(verb.name);
    Client client{dsn(), client_options()};
    {
      auto tx = client.begin();
      tx.send(queue(), "1");
      kill(client);
      const auto error = thrown<ConnectionError>([&] { verb.call(tx, queue().name(), consumer_name()); });
      EXPECT_FALSE(error.outcome_unknown());
      EXPECT_TRUE(error.retryable());
      thrown<std::logic_error>([&] { tx.commit(); });
    }
    EXPECT_FALSE(client.is_open());
  }
}

TEST_F(ConnectionTest, ThatIsLostBeforeTheCommitHasACertainOutcome) {
  Client client{dsn(), client_options()};
  auto tx = client.begin();
  tx.send(queue(), "1");
  kill(client);
  const auto error = thrown<ConnectionError>([&] { tx.commit(); });
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_TRUE(error.retryable());
  EXPECT_EQ(error.operation(), "commit");
  thrown<std::logic_error>([&] { tx.commit(); });
  EXPECT_NO_THROW(tx.rollback());
  EXPECT_FALSE(client.is_open());
}

TEST_F(ConnectionTest, ThatIsLostBeforeATransactionFailsItsBeginOrItsFirstCall) {
  Client client{dsn(), client_options()};
  kill(client);
  const auto error = thrown<ConnectionError>([&] {
    auto tx = client.begin();
    tx.send(queue(), "1");
  });
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_FALSE(client.is_open());
}

TEST_F(ConnectionTest, ThatIsLostUnderATransactionOfTheCaller) {
  Sql own;
  {
    pqxx::work work{own.connection()};
    Transaction tx{work};
    kill(own.connection());
    const auto error = thrown<ConnectionError>([&] { tx.send(queue(), "1"); });
    EXPECT_FALSE(error.outcome_unknown());
    EXPECT_TRUE(error.retryable());
  }
  Sql another;
  pqxx::nontransaction autocommit{another.connection()};
  Transaction tx{autocommit};
  kill(another.connection());
  const auto error = thrown<ConnectionError>([&] { tx.send(queue(), "1"); });
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_TRUE(error.retryable());
  // The same when libpq knows of the loss, too.
  EXPECT_THROW(autocommit.exec("select 1"), pqxx::broken_connection);
  ASSERT_FALSE(another.connection().is_open());
  EXPECT_FALSE(thrown<ConnectionError>([&] { tx.send(queue(), "1"); }).outcome_unknown());
}

TEST_F(ConnectionTest, ThatIsBorrowedAndLostIsAConnectionError) {
  Sql own;
  auto client = borrow(own.connection());
  kill(own.connection());
  EXPECT_FALSE(thrown<ConnectionError>([&] { client.send(queue(), "1"); }).outcome_unknown());
  EXPECT_FALSE(client.is_open());
  thrown<ConnectionError>([&] { client.send(queue(), "1"); });
}

}  // namespace
}  // namespace pgque::test
