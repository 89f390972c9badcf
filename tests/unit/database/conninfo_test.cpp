#include "database/conninfo.hpp"

#include <clocale>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <pgque/error.hpp>

#include "database/session.hpp"

namespace pgque::test {
namespace {

using detail::complete_conninfo;
using detail::SessionOptions;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;
using Settings = std::map<std::string, std::string>;

// An environment variable for as long as this lives.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_{name} {
    if (const char* const before = std::getenv(name)) before_ = before;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> before_;
};

// What libpq understands: the proof that everything is quoted as it should be.
Settings read(const std::string& conninfo) {
  char* error = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options{
      PQconninfoParse(conninfo.c_str(), &error), PQconninfoFree};
  Settings settings;
  if (!options) {
    ADD_FAILURE() << error;
    PQfreemem(error);
    return settings;
  }
  for (const auto* option = options.get(); option->keyword; ++option) {
    if (option->val) settings.emplace(option->keyword, option->val);
  }
  return settings;
}

class Conninfo : public testing::Test {
 protected:
  static Settings completed(std::string_view dsn, const SessionOptions& options = {}) {
    return read(complete_conninfo(dsn, options));
  }
  // Settings with our defaults, the DSN's own on top.
  static Settings with_defaults(const Settings& own) {
    Settings all{own};
    all.insert({{"fallback_application_name", "pgque"},
                {"connect_timeout", "10"},
                {"keepalives_idle", "30"},
                {"keepalives_interval", "10"},
                {"keepalives_count", "3"},
                {"tcp_user_timeout", "60000"},
                {"client_encoding", "UTF8"}});
    return all;
  }

  Environment no_timeout_{"PGCONNECT_TIMEOUT", nullptr};
};

TEST_F(Conninfo, TakesAUri) {
  EXPECT_EQ(completed("postgresql://app:s%20e@db.example:6432/orders?sslmode=require"),
            with_defaults({{"host", "db.example"},
                           {"port", "6432"},
                           {"dbname", "orders"},
                           {"user", "app"},
                           {"password", "s e"},
                           {"sslmode", "require"}}));
  EXPECT_EQ(completed("postgres://"), with_defaults({}));
}

TEST_F(Conninfo, TakesKeysAndValues) {
  EXPECT_EQ(completed("host=db.example dbname = orders user='app'"),
            with_defaults({{"host", "db.example"}, {"dbname", "orders"}, {"user", "app"}}));
}

TEST_F(Conninfo, TakesNothingAtAll) {
  EXPECT_EQ(completed(""), with_defaults({}));
}

TEST_F(Conninfo, KeepsSeveralHosts) {
  EXPECT_EQ(completed("postgresql://a:1,b:2/x?target_session_attrs=read-write"),
            with_defaults({{"host", "a,b"}, {"port", "1,2"}, {"dbname", "x"}, {"target_session_attrs", "read-write"}}));
}

TEST_F(Conninfo, KeepsSocketsWithoutAPath) {
  EXPECT_EQ(completed("host=@abstract,/run/a@b").at("host"), "@abstract,/run/a@b");
}

TEST_F(Conninfo, QuotesValuesSoThatLibpqReadsThemBack) {
  for (const auto& [dsn, password] :
       std::vector<std::pair<std::string, std::string>>{{R"(password='two words')", "two words"},
                                                        {R"(password='it\'s')", "it's"},
                                                        {R"(password='back\\slash')", R"(back\slash)"},
                                                        {R"(password='\\\'')", R"(\')"},
                                                        {R"(password=' =user x')", " =user x"},
                                                        {R"(password='"')", "\""},
                                                        {R"(password='')", ""},
                                                        {"postgresql://:%27%5C%20%3D@h", "'\\ ="}}) {
    EXPECT_EQ(completed(dsn)["password"], password) << dsn;
    EXPECT_EQ(completed(dsn).count("user"), 0u) << dsn;
  }
}

TEST_F(Conninfo, LeavesTheDsnsOwnSettingsAlone) {
  const Settings own{{"connect_timeout", "3"},  {"keepalives_idle", "1"},  {"keepalives_interval", "2"},
                     {"keepalives_count", "4"}, {"tcp_user_timeout", "5"}, {"fallback_application_name", "mine"}};
  std::string dsn;
  for (const auto& [keyword, value] : own) dsn += keyword + '=' + value + ' ';
  EXPECT_EQ(completed(dsn), with_defaults(own));
}

TEST_F(Conninfo, AlwaysSpeaksUtf8) {
  EXPECT_EQ(completed("client_encoding=LATIN1")["client_encoding"], "UTF8");
  EXPECT_EQ(completed("postgresql://h/?client_encoding=auto")["client_encoding"], "UTF8");
}

TEST_F(Conninfo, NamesTheApplicationUnlessTheUserDoes) {
  SessionOptions options;
  options.application_name = "pgque consumer";
  // As a fallback it gives way to PGAPPNAME too.
  EXPECT_EQ(completed("", options)["fallback_application_name"], "pgque consumer");
  EXPECT_EQ(completed("", options).count("application_name"), 0u);
  EXPECT_EQ(completed("application_name=mine", options)["application_name"], "mine");
}

TEST_F(Conninfo, LimitsConnectingAsTheOptionSays) {
  SessionOptions options;
  options.connect_timeout = std::chrono::seconds{7};
  EXPECT_EQ(completed("", options)["connect_timeout"], "7");
  EXPECT_EQ(completed("connect_timeout=3", options)["connect_timeout"], "3");
  options.connect_timeout = std::chrono::seconds{0};
  EXPECT_EQ(completed("", options)["connect_timeout"], "0");
}

TEST_F(Conninfo, LeavesTheTimeoutToTheEnvironment) {
  const Environment timeout{"PGCONNECT_TIMEOUT", "2"};
  EXPECT_EQ(completed("").count("connect_timeout"), 0u);
  EXPECT_EQ(completed("connect_timeout=3")["connect_timeout"], "3");
}

const std::vector<std::string> malformed{
    "host=a password=geheim hunter2",
    "host=a password=hunter2 user",
    "hunter2",
    "password='hunter2",
    "password='hunter2\\",
    "hunter2=x",
    "postgresql://app:hunter2@[::1/db",
    "postgresql://app:hunter2@[]/db",
    "postgresql://app:hunter2@[::1]x/db",
    "postgresql://app:hunter2%zz@h/db",
    "postgresql://app:hunter2%2@h/db",
    "postgresql://app:hunter2%00@h/db",
    "postgresql://app@h/db?password=hunter2=x",
    "postgresql://app@h/db?hunter2",
    "postgresql://app@h/db?hunter2=x",
    "postgresql://app@h/db?password=hunter2%zz",
    "mysql://app:hunter2@h/db",
    "postgresql://app:hunter2/x@h/db",
    "postgresql://app:x@hunter2@h/db",
    "postgresql://app:x@hunter2@h,i/db",
};

TEST_F(Conninfo, RefusesAMalformedDsnWithoutShowingIt) {
  for (const auto& dsn : malformed) {
    EXPECT_THAT([&] { complete_conninfo(dsn, {}); },
                ThrowsMessage<ConnectionError>(
                    AllOf(StartsWith("connect: dsn: neither a postgresql:// URI nor key=value settings ("),
                          Not(HasSubstr("hunter2")), Not(HasSubstr("geheim")))))
        << dsn;
  }
}

TEST_F(Conninfo, RefusesANulByteInsteadOfStoppingThere) {
  EXPECT_THAT([] { complete_conninfo(std::string_view("host=a\0password=hunter2", 23), {}); },
              ThrowsMessage<ConnectionError>(AllOf(HasSubstr("NUL byte"), Not(HasSubstr("hunter2")))));
}

TEST_F(Conninfo, SaysWhatIsWrongAsFarAsThatIsNoSecret) {
  EXPECT_THAT([] { complete_conninfo("password='x", {}); },
              ThrowsMessage<ConnectionError>(HasSubstr("unterminated quoted string")));
}

std::string refusal_of(const std::string& dsn) {
  try {
    complete_conninfo(dsn, {});
    return "nothing";
  } catch (const ConnectionError& error) {
    return error.what();
  }
}

TEST_F(Conninfo, NamesASettingThatIsNotKnownAndTheNearest) {
  const std::string conect =
      "connect: dsn: libpq knows no setting \"conect_timeout\"; the nearest is \"connect_timeout\"";
  EXPECT_EQ(refusal_of("host=db conect_timeout=3"), conect);
  EXPECT_EQ(refusal_of("host = db conect_timeout = '3 s' user=app"), conect);
  EXPECT_EQ(refusal_of("password=hunter2 conect_timeout=3"), conect);
  EXPECT_EQ(refusal_of(R"(password='it\'s hunter2' conect_timeout=3)"), conect);
  EXPECT_EQ(refusal_of(R"(password=hunter\ two conect_timeout=3)"), conect);
  EXPECT_EQ(refusal_of("postgresql://app:hunter2@db/x?sslmode=require&conect_timeout=3"), conect);
  EXPECT_EQ(refusal_of("Host=db"), "connect: dsn: libpq knows no setting \"Host\"; the nearest is \"host\"");
  EXPECT_EQ(refusal_of("host=db nonsense=hunter2"), "connect: dsn: libpq knows no setting \"nonsense\"");
  EXPECT_EQ(refusal_of("nonsense=hunter2 password=geheim"), "connect: dsn: libpq knows no setting \"nonsense\"");
  EXPECT_EQ(refusal_of("postgres://app:hunter2@db/x?nonsense=hunter2"),
            "connect: dsn: libpq knows no setting \"nonsense\"");
}

// What should have been quoted or escaped.
TEST_F(Conninfo, NamesNoSettingThatMayBeAPieceOfAPassword) {
  for (const auto* dsn :
       {"password=geheim wortlaut=x", "password=geheim wortlaut = x", "sslpassword=geheim wortlaut=x",
        "password=geheim host=db wortlaut=x", "host=/nowhere password='aha'wortlaut=abc", "wort1aut=x", "wortLaut=x",
        "postgresql://app:geheim/x?wortlaut=x@db/x", "postgresql://localhost/db?password=abc&wortlaut=1",
        "postgresql://localhost/db?password=abc&sslmode=prefer&wortlaut=1",
        "postgresql://localhost/db?sslpassword=abc&wortlaut=1", "postgresql://u:abc?wortlaut=x",
        "postgresql://u:abc/db?wortlaut=x", "postgresql://app@db/x?wort%6Caut=x"}) {
    EXPECT_EQ(refusal_of(dsn).find("wort"), std::string::npos) << refusal_of(dsn);
    EXPECT_THAT(refusal_of(dsn), StartsWith("connect: dsn: neither a postgresql:// URI nor key=value settings")) << dsn;
  }
}

TEST_F(Conninfo, NamesNoSettingIfSomethingElseIsWrongFirst) {
  EXPECT_THAT(refusal_of("host nonsense=x"), HasSubstr("missing \"=\""));
  EXPECT_THAT(refusal_of("nonsense='x"), HasSubstr("unterminated quoted string"));
  EXPECT_THAT(refusal_of("postgresql://db/x?nonsense"), HasSubstr("missing key/value separator"));
}

TEST_F(Conninfo, MalformedDsnIsNotWorthRepeating) {
  try {
    complete_conninfo("x", {});
    FAIL();
  } catch (const ConnectionError& error) {
    EXPECT_FALSE(error.retryable());
    EXPECT_FALSE(error.outcome_unknown());
    EXPECT_EQ(error.operation(), "connect");
  }
}

// In a program that calls setlocale(), libpq's messages are translated, and each language has its own quotes.
TEST_F(Conninfo, ShowsNoSecretInAnyLanguage) {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  std::string leak;
  for (const auto* language : {"fr", "de", "es", "it", "ja", "ru", "sv", "zh_CN"}) {
    const Environment chosen{"LANGUAGE", language};
    std::setlocale(LC_ALL, "C");  // makes the C library forget its translations
    if (!std::setlocale(LC_ALL, "C.UTF-8")) GTEST_SKIP() << "no locale C.UTF-8";
    for (const auto& dsn : malformed) {
      try {
        complete_conninfo(dsn, {});
      } catch (const ConnectionError& error) {
        const std::string what = error.what();
        if (what.find("hunter2") != std::string::npos || what.find("geheim") != std::string::npos) leak = what;
      }
    }
  }
  std::setlocale(LC_ALL, before.c_str());
  EXPECT_EQ(leak, "");
}

}  // namespace
}  // namespace pgque::test
