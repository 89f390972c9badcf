#include "database/session.hpp"

#include <future>
#include <stdexcept>
#include <string>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::Session;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

// Accepts one connection, answers every request with an error, and closes it.
class RefusingServer {
 public:
  explicit RefusingServer(const std::string& message) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (listener_ < 0 || ::bind(listener_, any, size) != 0 || ::listen(listener_, 1) != 0 ||
        ::getsockname(listener_, any, &size) != 0) {
      throw std::runtime_error{"no socket to listen on"};
    }
    port_ = std::to_string(ntohs(address.sin_port));
    std::string fields = "SFATAL" + nul_ + "C28P01" + nul_ + 'M' + message + nul_ + nul_;
    const auto length = static_cast<char>(fields.size() + 4);
    answer_ = "E" + std::string(3, '\0') + length + fields;
    served_ = std::async(std::launch::async, [this] { serve(); });
  }
  RefusingServer(const RefusingServer&) = delete;
  RefusingServer& operator=(const RefusingServer&) = delete;
  ~RefusingServer() {
    ::shutdown(listener_, SHUT_RDWR);  // in case no client has connected
    served_.wait();
    ::close(listener_);
  }
  const std::string& port() const { return port_; }

 private:
  void serve() const {
    const int peer = ::accept(listener_, nullptr, nullptr);
    if (peer < 0) return;
    char request[1024];
    if (::read(peer, request, sizeof request) > 0) {
      [[maybe_unused]] const auto written = ::write(peer, answer_.data(), answer_.size());
    }
    ::close(peer);
  }

  const std::string nul_ = std::string(1, '\0');
  const int listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
  std::string port_;
  std::string answer_;
  std::future<void> served_;
};

constexpr const char* plain = " user=app password=geheim sslmode=disable gssencmode=disable";
constexpr const char* refusal = "password authentication failed for user \"app\"";

// Not ThrowsMessage(): it calls again for its explanation, and the server is there for one connection.
ConnectionError refused(const Dsn& dsn) {
  try {
    Session::connect(dsn, {});
  } catch (const ConnectionError& error) {
    return error;
  }
  throw std::runtime_error{"it was not refused"};
}

TEST(Session, ThrowsWhatTheServerSaysWhenItRefuses) {
  const RefusingServer server{refusal};
  const auto error = refused("host=127.0.0.1 port=" + server.port() + plain);
  EXPECT_EQ(error.operation(), "connect");
  EXPECT_EQ(error.server_message(), refusal);
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_THAT(error.what(), Not(HasSubstr("geheim")));
}

// The next attempt would present the same password again, but a function may return another one.
TEST(Session, TakesAWrongPasswordForPermanentOnlyInAFixedDsn) {
  for (const bool fixed : {true, false}) {
    const RefusingServer server{refusal};
    const auto text = "host=127.0.0.1 port=" + server.port() + plain;
    const auto error = refused(fixed ? Dsn{text} : Dsn{[&] { return text; }});
    EXPECT_EQ(error.sqlstate(), "28P01");
    EXPECT_EQ(error.retryable(), !fixed);
    EXPECT_EQ(detail::is_permanent(error), fixed);
  }
}

TEST(Session, ReportsThatTheFunctionThrewAsAFailedConnect) {
  const auto thrown = refused([]() -> std::string { throw std::runtime_error{"the token service is down"}; });
  EXPECT_STREQ(thrown.what(), "connect: dsn: the function threw an exception: the token service is down");
  EXPECT_TRUE(thrown.retryable());
  const auto number = refused([]() -> std::string { throw 1; });
  EXPECT_STREQ(number.what(), "connect: dsn: the function threw an exception that is not a std::exception");
}

TEST(Session, RefusesAMalformedDsnFromAFunctionWithoutShowingIt) {
  const auto error = refused([] { return "password=geheim nonsense"; });
  EXPECT_THAT(error.what(), AllOf(HasSubstr("dsn: "), Not(HasSubstr("geheim"))));
}

TEST(Session, ThrowsWhenNothingListens) {
  EXPECT_THAT([] { Session::connect(nowhere, {}); },
              ThrowsMessage<ConnectionError>(AllOf(StartsWith("connect: "), HasSubstr("127.0.0.1"), HasSubstr("port 1"),
                                                   Not(HasSubstr("geheim")))));
}

// A name with several addresses, such as localhost, fails at each of them, and the last one is often what matters: the
// first is an IPv6 address where no server listens.
TEST(Session, ThrowsWhatEveryHostSays) {
  const RefusingServer server{refusal};
  const auto error = refused("host=127.0.0.1,127.0.0.1 port=1," + server.port() + plain);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("port 1 "), HasSubstr(refusal)));
}

}  // namespace
}  // namespace pgque::test
