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

// Makes each of these rows wait until release(), or until this is destroyed.
class HeldStatements {
 public:
  HeldStatements(const std::string& event, const std::string& table, const std::string& condition)
      : trigger_{event, table, condition, "perform pg_advisory_xact_lock_shared(" + key_ + ");"} {}
  HeldStatements(const HeldStatements&) = delete;
  HeldStatements& operator=(const HeldStatements&) = delete;
  ~HeldStatements() { release(); }

  // Whether a statement waits.
  bool waits() {
    return sql_.number(
               "select count(*) from pg_locks where locktype = 'advisory' and not granted and classid = 0 "
               "and objid = " +
               key_) != 0;
  }
  void release() { sql_("select pg_advisory_unlock_all()"); }

 private:
  std::string hold() {
    auto key = sql_.value("select pg_backend_pid()").value();
    sql_("select pg_advisory_lock(" + key + ")");
    return key;
  }

  Sql sql_;
  const std::string key_ = hold();
  const RowTrigger trigger_;
};

}  // namespace pgque::test
