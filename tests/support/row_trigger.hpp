#pragma once

// Triggers that disturb statements of the server: slow ones and failing ones.

#include <chrono>
#include <string>

#include "database.hpp"

namespace pgque::test {

// Runs a statement of PL/pgSQL before each row that is written to a table, where the condition holds, until it is
// destroyed.
class RowTrigger {
 public:
  RowTrigger(const std::string& event, const std::string& table, const std::string& condition,
             const std::string& statement)
      : table_{table} {
    sql_("create function " + name_ + "() returns trigger language plpgsql as $$ begin if " + condition + " then " +
         statement + " end if; return new; end $$");
    sql_("create trigger " + name_ + " before " + event + " on " + table_ + " for each row execute function " + name_ +
         "()");
  }
  RowTrigger(const RowTrigger&) = delete;
  RowTrigger& operator=(const RowTrigger&) = delete;
  ~RowTrigger() {
    sql_("drop trigger " + name_ + " on " + table_);
    sql_("drop function " + name_);
  }

 private:
  Sql sql_;
  const std::string table_;
  const std::string name_ = unique_name("pgque_test_trigger");
};

// Makes each of these rows take so long.
class SlowStatements : public RowTrigger {
 public:
  SlowStatements(const std::string& event, const std::string& table, const std::string& condition,
                 std::chrono::milliseconds time)
      : RowTrigger{event, table, condition,
                   "perform pg_sleep(" + std::to_string(static_cast<double>(time.count()) / 1000) + ");"} {}
};

}  // namespace pgque::test
