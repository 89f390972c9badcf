// The life of a queue under test.

#include <memory>
#include <stdexcept>
#include <utility>

#include <gmock/gmock.h>

#include "kit_fixture.hpp"

namespace kit {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class QueueTest : public KitTest {};

TEST_F(QueueTest, IsThereWithItsConsumerAndGoneAtTheEnd) {
  std::string name;
  {
    Queue one{dsn()};
    const Queue two{dsn()};
    name = one.name();
    EXPECT_THAT(name, StartsWith("pgque_test_"));
    EXPECT_NE(name, two.name());
    EXPECT_TRUE(exists(name));
    EXPECT_EQ(sql().value("select consumer_name from pgque.get_consumer_info(" + sql().quote(name) + ")"), "test");
  }
  EXPECT_FALSE(exists(name));
}

TEST_F(QueueTest, HasTheNamesAndSettingsOfItsOptions) {
  QueueOptions options;
  options.prefix = "kit";
  options.consumer = "billing";
  options.settings.max_retries = 2;
  const Queue queue{dsn(), options};
  EXPECT_THAT(queue.name(), StartsWith("kit_"));
  const auto info = pgque::Admin{dsn()}.consumer(queue.name(), "billing");
  EXPECT_EQ(info.role, pgque::ConsumerRole::normal);
  EXPECT_EQ(sql().number("select queue_max_retries from pgque.queue where queue_name = " + sql().quote(queue.name())),
            2);
}

TEST_F(QueueTest, GoesWithItsGroupsRetriesAndDeadLetters) {
  std::string name;
  {
    QueueOptions options;
    options.settings.max_retries = 0;
    Queue queue{dsn(), options};
    name = queue.name();
    queue.send("1", "dead");
    queue.deliver({},
                  [](pgque::Consumer& c) { c.on("*", [](const pgque::Message&) { throw std::runtime_error{"no"}; }); });
    EXPECT_EQ(number_of("pgque.dead_letter", "dl_queue_id", name), 1);
    pgque::Admin{dsn()}.configure_queue(name, [] {
      pgque::QueueSettings settings;
      settings.max_retries = 5;
      return settings;
    }());
    queue.send("2", "retried");
    pgque::ConsumerOptions worker;
    worker.name = "group";
    worker.subconsumer = "w";
    queue.deliver(worker,
                  [](pgque::Consumer& c) { c.on("*", [](const pgque::Message&) { throw std::runtime_error{"no"}; }); });
    EXPECT_EQ(number_of("pgque.retry_queue", "ev_queue", name), 2);  // of both events
    EXPECT_EQ(number_of("pgque.subscription", "sub_queue", name), 3);
  }
  EXPECT_FALSE(exists(name));
}

TEST_F(QueueTest, ThatTheTestHasDroppedItselfIsNoError) {
  ::testing::internal::CaptureStderr();
  {
    const Queue queue{dsn()};
    pgque::Admin{dsn()}.drop_queue(queue.name(), true);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(QueueTest, OthersAreMadeAndGoWithTheirLastUser) {
  QueueOptions options;
  options.others = {other_name()};
  auto one = std::make_unique<Queue>(dsn(), options);
  auto two = std::make_unique<Queue>(dsn(), options);
  EXPECT_TRUE(exists(other_name()));
  one.reset();
  EXPECT_TRUE(exists(other_name())) << "somebody uses it";
  two.reset();
  EXPECT_FALSE(exists(other_name()));
}

TEST_F(QueueTest, OthersThatWereThereStay) {
  pgque::Client{dsn()}.subscribe(queue().name(), "its_own");
  QueueOptions options;
  options.others = {queue().name()};
  { const Queue under_test{dsn(), options}; }
  EXPECT_TRUE(exists(queue().name()));
  EXPECT_EQ(number_of("pgque.subscription", "sub_queue", queue().name()), 1);
}

TEST_F(QueueTest, NeedsNoMoreThanTheRoleOfAnAdministrator) {
  const auto admin = dsn_of_role_with({"pgque_admin"});
  QueueOptions options;
  options.others = {other_name()};
  Queue queue{admin, options};
  queue.send("1");
  int calls = 0;
  const auto handlers = [&](pgque::Consumer& c) {
    c.on("*", [&](const pgque::Message& message, pgque::Context& context) {
      if (++calls == 1) throw std::runtime_error{"first"};
      pgque::Transaction{context.transaction()}.send(other_name(), message);
    });
  };
  EXPECT_EQ(queue.deliver({}, handlers).failed, 1);
  EXPECT_EQ(queue.make_retries_due(), 1);
  EXPECT_EQ(queue.deliver({}, handlers).handled, 1);
  EXPECT_EQ(queue.sent(other_name()).size(), 1U);
  EXPECT_TRUE(queue.dead_letters().empty());
  EXPECT_TRUE(pgque::testing::sweep(admin, std::chrono::hours{24 * 365 * 50}).empty());
}

TEST_F(QueueTest, WithoutThatRoleItSaysSo) {
  try {
    const Queue queue{dsn_of_role_with({"pgque_reader", "pgque_writer"})};
    FAIL();
  } catch (const pgque::Error& error) {
    EXPECT_EQ(error.sqlstate(), "42501");
    EXPECT_THAT(error.what(), HasSubstr("pgque_admin"));
  }
}

TEST_F(QueueTest, RefusesWrongOptions) {
  const auto with = [](const auto& change) {
    QueueOptions options;
    change(options);
    const Queue queue{dsn(), options};
  };
  EXPECT_THROW(with([](QueueOptions& options) { options.prefix.clear(); }), std::invalid_argument);
  EXPECT_THROW(with([](QueueOptions& options) { options.prefix = std::string(36, 'p'); }), std::invalid_argument);
  EXPECT_THROW(with([](QueueOptions& options) { options.consumer.clear(); }), std::invalid_argument);
  EXPECT_THROW(with([](QueueOptions& options) { options.others = {""}; }), std::invalid_argument);
  EXPECT_NO_THROW(with([](QueueOptions& options) { options.prefix = std::string(35, 'p'); }));
}

TEST_F(QueueTest, ThatWasMovedFromThrows) {
  Queue queue{dsn()};
  const auto name = queue.name();
  Queue moved{std::move(queue)};
  EXPECT_EQ(moved.name(), name);
  EXPECT_THROW(queue.tick(), std::logic_error);  // NOLINT(bugprone-use-after-move)
}

}  // namespace
}  // namespace kit
