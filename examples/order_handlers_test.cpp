// The tests of a service's handlers, to be copied: GoogleTest and the library's test kit.
//
//   pgque-test-server --schema pgque.sql ctest

#include "order_handlers.hpp"

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>
#include <pgque/testing.hpp>

namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using pgque::testing::handle;
using pgque::testing::message;

json order(int id, const std::string& product, int quantity) {
  return {{"order_id", id}, {"product", product}, {"quantity", quantity}};
}

// What needs no database is tested without one.

TEST(ThankTest, WritesTheMailWithTheAck) {
  const auto outcome = handle<example::Order>(message("order.paid", order(1, "pen", 3)), example::thank);
  EXPECT_TRUE(outcome.handled()) << outcome.reason();
  EXPECT_EQ(outcome.deferred(), 1);
}

TEST(ThankTest, GivesUpWithoutAProduct) {
  const auto outcome = handle<example::Order>(message("order.paid", order(1, "", 3)), example::thank);
  EXPECT_TRUE(outcome.gave_up());
  EXPECT_EQ(outcome.reason(), "nothing to thank for");
}

TEST(InvoiceTest, GivesUpAnOrderOfNothing) {
  const auto outcome = handle<example::Order>(message("order.created", order(1, "pen", 0)), example::invoice);
  EXPECT_TRUE(outcome.gave_up());
  EXPECT_EQ(outcome.reason(), "an order of nothing");
}

TEST(InvoiceTest, FailsWithAnotherPayload) {
  const auto outcome = handle<example::Order>(message("order.created", json{{"id", 1}}), example::invoice);
  EXPECT_FALSE(outcome.handled());
}

// Everything else is tested on a real queue, with the writes of the service.

class OrderServiceTest : public ::testing::Test {
 protected:
  static std::string dsn() {
    const char* value = std::getenv("PGQUE_TEST_DSN");
    return value == nullptr ? "" : value;
  }
  static pgque::testing::QueueOptions queue_options() {
    pgque::testing::QueueOptions options;
    options.others = {example::audit_queue};
    return options;
  }

  void SetUp() override {
    ASSERT_NE(dsn(), "") << "run it in pgque-test-server, which sets PGQUE_TEST_DSN";
    queue_.emplace(dsn(), queue_options());
    connection_.emplace(dsn());
    pqxx::nontransaction tables{*connection_};
    example::drop_tables(tables);
    example::create_tables(tables);
    tables.exec("insert into example_shop.product values ('pen', 10)");
  }
  void TearDown() override {
    if (!connection_) return;
    pqxx::nontransaction tables{*connection_};
    example::drop_tables(tables);
  }

  pgque::testing::Queue& queue() { return *queue_; }
  pgque::testing::Run deliver() { return queue().deliver({}, example::register_handlers); }
  std::string value(const std::string& sql) {
    const auto rows = pqxx::nontransaction{*connection_}.exec(sql);
    return rows.empty() ? "none" : rows[0][0].c_str();
  }

 private:
  std::optional<pgque::testing::Queue> queue_;
  std::optional<pqxx::connection> connection_;
};

TEST_F(OrderServiceTest, AnOrderIsInvoicedAndAudited) {
  queue().send(order(1, "pen", 3), "order.created");
  const auto run = deliver();
  EXPECT_EQ(run.handled, 1) << run;
  EXPECT_EQ(value("select quantity from example_shop.invoice where order_id operator(pg_catalog.=) 1"), "3");
  EXPECT_EQ(value("select stock from example_shop.product"), "7");
  const auto audited = queue().sent(example::audit_queue);
  ASSERT_EQ(audited.size(), 1U);
  EXPECT_EQ(audited[0].type, "order.invoiced");
  EXPECT_EQ(pgque::payload_as<json>(audited[0]), (json{{"order_id", 1}}));
}

TEST_F(OrderServiceTest, AnOrderForWhatIsNotThereComesAgain) {
  queue().send(order(1, "pen", 11), "order.created");
  const auto run = deliver();
  EXPECT_EQ(run.failed, 1) << run;
  EXPECT_EQ(run.retried, 1);
  EXPECT_EQ(value("select order_id from example_shop.invoice"), "none");
  EXPECT_EQ(value("select stock from example_shop.product"), "10");
  EXPECT_TRUE(queue().sent(example::audit_queue).empty());

  value("update example_shop.product set stock = 20 returning stock");
  EXPECT_EQ(queue().make_retries_due(), 1);
  EXPECT_EQ(deliver().handled, 1);
  EXPECT_EQ(value("select stock from example_shop.product"), "9");
}

TEST_F(OrderServiceTest, AnOrderForWhatWeDoNotSellIsADeadLetter) {
  queue().send(order(1, "yacht", 1), "order.created");
  const auto run = deliver();
  EXPECT_EQ(run.dead_lettered, 1) << run;
  ASSERT_EQ(queue().dead_letters().size(), 1U);
  EXPECT_EQ(queue().dead_letters()[0].reason, "no such product: yacht");
}

TEST_F(OrderServiceTest, TheMailIsWrittenWithTheAck) {
  queue().send(order(1, "pen", 3), "order.paid");
  const auto run = deliver();
  EXPECT_EQ(run.handled, 1) << run;
  EXPECT_EQ(value("select words from example_shop.mail where order_id operator(pg_catalog.=) 1"),
            "Thank you for 3 of pen");
}

}  // namespace
