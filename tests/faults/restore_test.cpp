// A database that was dumped in one cluster and restored into another, whose transaction ids are lower.

#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <pgque/admin.hpp>
#include <pgque/doctor.hpp>

#include "database.hpp"
#include "messages.hpp"
#include "private_server.hpp"
#include "thrown.hpp"

namespace pgque::test {
namespace {

class Restore : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = PrivateServer::missing(); !why.empty()) skip_outside_ci(why);
  }
  static std::vector<std::string> codes(const std::vector<Finding>& findings) {
    std::vector<std::string> codes;
    for (const auto& finding : findings) codes.push_back(finding.code);
    return codes;
  }
};

TEST_F(Restore, IntoAYoungerClusterIsFoundAndMendedAsTheDoctorSays) {
  PrivateServer old;
  old.stop(PrivateServer::Stop::fast);
  old.set_epoch(3);
  old.start();
  {
    Admin{old.dsn()}.create_queue("orders");
    Client client{old.dsn()};
    client.subscribe("orders", "worker");
    EXPECT_TRUE(client.ticker("orders"));
    client.send("orders", "1");
    EXPECT_THAT(codes(diagnose(old.dsn())), testing::Not(testing::Contains("younger_cluster")));
  }
  PrivateServer young;
  const auto file = "/tmp/" + unique_name("pgque_dump") + ".sql";
  old.dump(file);
  young.restore(file, "restored");
  ::unlink(file.c_str());
  const auto dsn = young.dsn() + " dbname=restored";
  {
    Client client{dsn};
    client.force_next_tick("orders");
    const auto error = thrown<Error>([&] { client.ticker("orders"); });
    EXPECT_THAT(error.what(), testing::HasSubstr("Invalid PgQ state"));
  }
  const auto findings = diagnose(dsn);
  const auto found = std::find_if(findings.begin(), findings.end(),
                                  [](const Finding& finding) { return finding.code == "younger_cluster"; });
  ASSERT_NE(found, findings.end()) << testing::PrintToString(codes(findings));
  const std::string command{"run pg_resetwal -e "};
  const auto at = found->remedy.find(command);
  ASSERT_NE(at, std::string::npos) << found->remedy;
  const auto epoch = std::stoll(found->remedy.substr(at + command.size()));
  EXPECT_EQ(epoch, 4);

  young.stop(PrivateServer::Stop::fast);
  young.set_epoch(epoch);
  young.start();
  EXPECT_THAT(codes(diagnose(dsn)), testing::Not(testing::Contains("younger_cluster")));
  Client client{dsn};
  EXPECT_TRUE(client.ticker("orders"));
  std::vector<Message> messages;  // after the first tick's, which has none
  EXPECT_TRUE(wait_until([&] { return !(messages = client.receive("orders", "worker")).empty(); }));
  EXPECT_THAT(payloads_of(messages), testing::ElementsAre("1"));
}

}  // namespace
}  // namespace pgque::test
