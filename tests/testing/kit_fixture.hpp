#pragma once

// What the tests of the kit have in common: the database, and a way to look at it past the kit.

#include <cstdint>
#include <optional>
#include <string>

#include <gtest/gtest.h>
#include <pgque/json.hpp>
#include <pgque/pgque.hpp>
#include <pgque/testing.hpp>

#include "database.hpp"
#include "support.hpp"

namespace kit {

using nlohmann::json;
using pgque::testing::Queue;
using pgque::testing::QueueOptions;

class KitTest : public pgque::test::DatabaseTest {
 protected:
  static std::string dsn() { return pgque::test::direct_dsn(); }
  // For queues that are not the kit's own.
  std::string other_name() const { return "other_of_" + queue_name_; }

  bool exists(const std::string& queue) {
    return sql().number("select count(*) from pgque.queue where queue_name = " + sql().quote(queue)) == 1;
  }
  std::int64_t number_of(const std::string& table, const std::string& queue_column, const std::string& queue) {
    return sql().number("select count(*) from " + table + " where " + queue_column +
                        " = (select queue_id from pgque.queue where queue_name = " + sql().quote(queue) + ")");
  }
  void SetUp() override {
    DatabaseTest::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) queue_name_ = queue().name();
  }

 private:
  std::string queue_name_;
};

}  // namespace kit
