#pragma once

// Every SQL text of src/database/sql.hpp, by its name there. The build lists the constants, so that none can be missed.

#include <string>
#include <vector>

#include "database/sql.hpp"

namespace pgque::test {

struct NamedSql {
  std::string name;
  std::string sql;
  bool own_path = false;  // run with SearchPath::own
};

// Where a statement names the table of a queue's events.
inline constexpr const char* events_of_some_queue = "pgque.event_1";

inline std::vector<NamedSql> every_statement() {
  namespace sql = pgque::detail::sql;
  return {
#define PGQUE_STATEMENT(name) {#name, sql::name.sql, sql::name.path == pgque::detail::SearchPath::own},
#define PGQUE_TEXT(name) {#name, sql::name},
#include "every_statement.inc"
#undef PGQUE_STATEMENT
#undef PGQUE_TEXT
      {"oldest_waiting", sql::oldest_waiting("pgque.retry_queue", 1, 1)},
      {"events_ahead_of_tick", sql::events_ahead_of_tick("pgque.retry_queue", 1, 1, 1, 1)},
      {"count_unticked", sql::count_unticked("pgque.retry_queue", 1, 1, 10)},
      {"events_since", sql::events_since("pgque.retry_queue", "1:1:")},
      {"take_turn", sql::take_turn(sql::duties_lock_object)},
      {"Cursor::declare", sql::batch_cursor.declare(true, sql::receive.sql)},
      {"Cursor::fetch", sql::batch_cursor.fetch(1)},
      {"Cursor::close", sql::batch_cursor.close()},
      {"set_milliseconds", sql::set_milliseconds(true, "statement_timeout", 1)},
      {"make_immediate", sql::make_immediate("public.a")},
      {"oldest_waiting", sql::oldest_waiting(events_of_some_queue, 1, 1)},
      {"events_ahead_of_tick", sql::events_ahead_of_tick(events_of_some_queue, 1, 1, 1, 1)},
      {"count_unticked", sql::count_unticked(events_of_some_queue, 1, 1, 10)},
      {"events_since", sql::events_since(events_of_some_queue, "1:1:")},
  };
}

}  // namespace pgque::test
