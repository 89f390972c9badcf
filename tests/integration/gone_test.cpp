// Workers of cooperative consumers that are gone.

#include <future>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/consumer.hpp>
#include <pqxx/pqxx>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class GoneTest : public ConsumerTest {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    admin_.emplace(dsn(), client_options());
  }
  void TearDown() override {
    admin_.reset();
    ConsumerTest::TearDown();
  }
  Admin& admin() { return *admin_; }
  void subscribe(const std::string& name) { client().subscribe_subconsumer(queue(), group_name(), name); }
  void silence(const std::string& name, const std::string& time) {
    sql()("update pgque.subscription set sub_active = now() - interval '" + time + "' where sub_queue = " + queue_id() +
          " and sub_consumer = (select co_id from pgque.consumer where co_name = " +
          sql().quote(group_name() + '.' + name) + ")");
  }
  std::vector<std::string> gone() {
    std::vector<std::string> names;
    for (const auto& worker : admin().gone_subconsumers(24h)) {
      if (worker.queue == queue().name()) names.push_back(worker.consumer.substr(group_name().size() + 1));
    }
    return names;
  }
  bool remove(const std::string& name) { return admin().unsubscribe_gone(queue(), group_name(), name, 24h); }
  bool is_registered(const std::string& name) { return sql().value(of_worker("sub_role", name)) == "coop_member"; }

 private:
  std::optional<Admin> admin_;
};

TEST_F(GoneTest, AWorkerWithoutASignOfLifeForThatLongIsGone) {
  subscribe("w1");
  subscribe("w2");
  subscribe("w3");
  silence("w1", "25 hours");
  silence("w2", "23 hours");
  silence("w3", "30 days");
  EXPECT_THAT(gone(), ElementsAre("w3", "w1"));
  EXPECT_FALSE(remove("w2"));
  EXPECT_TRUE(remove("w1"));
  EXPECT_TRUE(remove("w3"));
  EXPECT_FALSE(remove("w3"));
  EXPECT_THAT(gone(), IsEmpty());
  EXPECT_FALSE(is_registered("w1"));
  EXPECT_TRUE(is_registered("w2"));
  // A normal consumer may be silent for as long as it likes.
  sql()("update pgque.subscription set sub_active = now() - interval '2 days' where sub_queue = " + queue_id());
  EXPECT_THAT(gone(), ElementsAre("w2"));
}

TEST_F(GoneTest, AWorkerWithASessionIsNotGoneHoweverSilent) {
  subscribe("w1");
  subscribe("w10");
  Consumer consumer{dsn(), worker("w1")};
  consumer.on("t", [](const Message&) {});
  {
    Running running{consumer};
    ASSERT_TRUE(wait_state(consumer, ConsumerState::waiting));
    silence("w1", "2 days");
    silence("w10", "2 days");
    EXPECT_THAT(gone(), ElementsAre("w10"));
    EXPECT_FALSE(remove("w1"));
    EXPECT_TRUE(is_registered("w1"));
  }
  ASSERT_TRUE(wait_until([&] { return gone().size() == 2; }));
  EXPECT_TRUE(remove("w1"));
}

TEST_F(GoneTest, AWorkerThatPollsIsNotGone) {
  subscribe("w1");
  subscribe("w2");
  silence("w1", "2 days");
  silence("w2", "2 days");
  EXPECT_THAT(client().receive_coop(queue(), group_name(), "w1"), IsEmpty());
  EXPECT_THAT(gone(), ElementsAre("w2"));
  EXPECT_FALSE(remove("w1"));
  EXPECT_TRUE(client().touch_subconsumer(queue(), group_name(), "w2"));
  EXPECT_FALSE(remove("w2"));
}

TEST_F(GoneTest, ItsOpenBatchComesBackToTheGroup) {
  subscribe("w1");
  subscribe("w2");
  const auto id = publish("1");
  ASSERT_THAT(client().receive_coop(queue(), group_name(), "w2"), SizeIs(1));
  silence("w2", "2 days");
  EXPECT_TRUE(remove("w2"));
  EXPECT_EQ(queue().retries(), 1);
  queue().expire_retries();
  queue().tick();
  const auto again = client().receive_coop(queue(), group_name(), "w1");
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0].msg_id, id);
  EXPECT_EQ(again[0].retry_count, 1);
}

// PgQue would make a normal consumer of the group, and the next worker would be refused.
TEST_F(GoneTest, TheLastWorkerOfAGroupStays) {
  subscribe("w1");
  subscribe("w2");
  silence("w1", "2 days");
  silence("w2", "3 days");
  EXPECT_THAT(gone(), ElementsAre("w2", "w1"));
  EXPECT_TRUE(remove("w2"));
  EXPECT_FALSE(remove("w1"));
  EXPECT_EQ(admin().consumer(queue(), group_name()).role, ConsumerRole::group);
}

TEST_F(GoneTest, AWorkerThatComesBackMeanwhileStaysWithItsBatch) {
  subscribe("w1");
  subscribe("w2");
  publish("1");
  silence("w2", "2 days");
  const auto name = unique_name("pgque_gone");
  Sql back;
  std::optional<pqxx::work> receiving{std::in_place, back.connection()};
  receiving->exec("select pgque.receive_coop(" + sql().quote(queue().name()) + ", " + sql().quote(group_name()) +
                  ", 'w2', null)");
  auto removed = std::async(std::launch::async, [&] {
    return Admin{dsn_with({{"application_name", name}}), client_options()}.unsubscribe_gone(queue(), group_name(), "w2",
                                                                                            24h);
  });
  EXPECT_TRUE(wait_until([&] {
    return sql().number("select count(*) from pg_stat_activity where application_name = '" + name +
                        "' and wait_event_type = 'Lock'") == 1;
  }));
  receiving->commit();
  EXPECT_FALSE(removed.get());
  EXPECT_TRUE(is_registered("w2"));
  EXPECT_EQ(queue().retries(), 0);
}

TEST_F(GoneTest, ATimeThatALivingWorkerMayBeSilentForIsRefused) {
  EXPECT_THROW(admin().gone_subconsumers(59s), std::invalid_argument);
  EXPECT_THROW(admin().unsubscribe_gone(queue(), group_name(), "w1", 59s), std::invalid_argument);
  EXPECT_THROW(admin().gone_subconsumers(std::chrono::seconds::max()), std::invalid_argument);
}

// Events that no tick has yet.
class UntickedTest : public GoneTest {
 protected:
  std::int64_t unticked() { return admin().unticked_events().at(queue().name()); }
};

TEST_F(UntickedTest, EachEventWithoutATickIsCountedAlsoTheFirstOfTheQueue) {
  EXPECT_EQ(unticked(), 0);
  client().send(queue(), "1", "t");
  EXPECT_EQ(unticked(), 1);
  client().send_batch(queue(), "t", {"2", "3"});
  EXPECT_EQ(unticked(), 3);
  client().begin().send(queue(), "4", "t");  // rolled back
  EXPECT_EQ(unticked(), 3);
  queue().tick();
  EXPECT_EQ(unticked(), 0);
}

TEST_F(UntickedTest, AnEventThatWasBeingSentAtTheTickIsCounted) {
  auto sending = client().begin();
  sending.send(queue(), "1", "t");
  Client other{dsn(), client_options()};
  other.send(queue(), "2", "t");
  queue().tick();
  EXPECT_EQ(unticked(), 0);
  sending.commit();
  EXPECT_EQ(unticked(), 1);
  queue().tick();
  EXPECT_EQ(unticked(), 0);
}

}  // namespace
}  // namespace pgque::test
