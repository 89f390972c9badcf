#pragma once

// A table that handlers write to.

#include <string>
#include <vector>

#include "consumer_fixture.hpp"

namespace pgque::test {

class WritesTest : public ConsumerTest {
 protected:
  void SetUp() override {
    ConsumerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    sql()("create table " + table_ + " (value text not null check (value <> 'forbidden'))");
  }
  void TearDown() override {
    if (!IsSkipped()) Sql{}("drop table if exists " + table_);
    ConsumerTest::TearDown();
  }

  const std::string& table() const { return table_; }
  std::string insert(const std::string& value) const { return "insert into " + table_ + " values ('" + value + "')"; }
  std::vector<std::string> rows() {
    std::vector<std::string> rows;
    for (const auto& row : sql()("select value from " + table_ + " order by value")) rows.emplace_back(row[0].c_str());
    return rows;
  }

 private:
  const std::string table_ = unique_name("pgque_test_writes");
};

}  // namespace pgque::test
