// The outbox of the example, and its handler.

#include "outbox.hpp"

#include <cstdlib>
#include <optional>
#include <string>

#include <gtest/gtest.h>
#include <pgque/testing.hpp>

namespace example {
namespace {

class OutboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* dsn = std::getenv("PGQUE_TEST_DSN");
    ASSERT_NE(dsn, nullptr) << "scripts/with-postgres COMMAND sets PGQUE_TEST_DSN";
    queue_.emplace(dsn);
    connection_.emplace(dsn);
    pqxx::nontransaction tables{*connection_};
    create_outbox_tables(tables);
  }
  void TearDown() override {
    if (connection_) pqxx::nontransaction{*connection_}.exec("drop table example_order, example_invoice");
  }
  int count(const std::string& table) {
    return pqxx::nontransaction{*connection_}.exec("select pg_catalog.count(*) from " + table)[0][0].as<int>();
  }
  pgque::testing::Run deliver(pgque::ConsumerOptions options = {}) {
    return queue().deliver(std::move(options), [](pgque::Consumer& c) { c.on("order.created", write_invoice); });
  }
  pgque::testing::Queue& queue() { return *queue_; }
  pqxx::connection& connection() { return *connection_; }

 private:
  std::optional<pgque::testing::Queue> queue_;
  std::optional<pqxx::connection> connection_;
};

TEST_F(OutboxTest, AnOrderAndItsEventAreStoredTogether) {
  place_order(connection(), queue().name(), 1, false);
  EXPECT_EQ(count("example_order"), 1);
  const auto sent = queue().sent(queue().name());
  ASSERT_EQ(sent.size(), 1U);
  EXPECT_EQ(sent[0].type, "order.created");
  EXPECT_EQ(pgque::payload_as<nlohmann::json>(sent[0]), (nlohmann::json{{"order_id", 1}}));
}

TEST_F(OutboxTest, OrNotAtAll) {
  EXPECT_THROW(place_order(connection(), queue().name(), 1, true), std::runtime_error);
  EXPECT_EQ(count("example_order"), 0);
  EXPECT_TRUE(queue().sent(queue().name()).empty());
}

TEST_F(OutboxTest, AnOrderIsInvoicedOnce) {
  place_order(connection(), queue().name(), 1, false);
  const auto run = deliver();
  EXPECT_EQ(run.handled, 1) << run;
  EXPECT_EQ(deliver().handled, 0);
  EXPECT_EQ(count("example_invoice"), 1);
}

TEST_F(OutboxTest, WhatIsNoOrderIsNotInvoiced) {
  queue().send("{}", "order.created");
  const auto run = deliver();
  EXPECT_EQ(run.failed, 1) << run;
  EXPECT_EQ(count("example_invoice"), 0);
}

}  // namespace
}  // namespace example
