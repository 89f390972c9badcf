// A search_path that leads to somebody else's functions and operators first: none of them may run.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/doctor.hpp>
#include <pgque/json.hpp>
#include <pgque/pqxx.hpp>
#include <pgque/ticker.hpp>

#include "database.hpp"
#include "every_statement.hpp"
#include "messages.hpp"
#include "support.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

// What the shadows raise when they run.
constexpr std::string_view shadow_ran = "ZZ666";

// The types of arguments for which there are shadows.
constexpr const char* types =
    "array['boolean', 'integer', 'bigint', 'double precision', 'numeric', 'text', 'name', 'interval', "
    "'timestamp with time zone', 'oid', 'jsonb']";

// In the schema SHADOWS: each of the operators for all pairs of types; each of the functions and aggregates of
// pg_catalog with its own arguments, and with each of the types in place of the first; types, and system views.
constexpr const char* make_shadows = R"sql(
  create schema SHADOWS;
  grant usage on schema SHADOWS to public;
  do $do$
  declare
    body constant text := $body$ begin raise exception 'a shadow ran' using errcode = 'ZZ666'; end $body$;
    types constant text[] := TYPES;
    operators constant text[] := array['=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '||', '->', '->>', '~', '~~'];
    l text; r text; o text; result text; f record; arguments text; n int := 0;
  begin
    foreach l in array types loop
      foreach r in array types loop
        foreach o in array operators loop
          select oprresult::regtype::text into result from pg_operator
          where oprname = o and oprleft = l::regtype and oprright = r::regtype and oprnamespace = 'pg_catalog'::regnamespace;
          if result is null then
            result := case when o in ('||', '->>') then 'text' when o = '->' then 'jsonb'
                           when o not in ('+', '-', '*', '/') then 'boolean'
                           when 'interval' in (l, r) and o = '*' then 'interval' else l end;
          end if;
          if to_regprocedure(format('SHADOWS.%I(%s, %s)', 'shadow_of_' || result, l, r)) is null then
            execute format('create function SHADOWS.%I(%s, %s) returns %s language plpgsql as %L',
                           'shadow_of_' || result, l, r, result, body);
          end if;
          execute format('create operator SHADOWS.%s (leftarg = %s, rightarg = %s, function = SHADOWS.%I)',
                         o, l, r, 'shadow_of_' || result);
        end loop;
      end loop;
    end loop;

    for f in
      select p.oid, proname, prokind, proretset, prorettype::regtype::text as result, pronargs,
             pg_get_function_identity_arguments(p.oid) as arguments,
             array(select format_type(t, null) from unnest(proargtypes) with ordinality as a(t, i) order by i) as list
      from pg_proc p
      where pronamespace = 'pg_catalog'::regnamespace and proname = any (NAMES) and prokind in ('f', 'a')
        and not prorettype = any (array['internal', 'cstring', 'trigger', 'record']::regtype[])
        and not proargtypes::oid[] && array['internal', 'cstring']::regtype[]::oid[] and provariadic = 0
      order by p.oid
    loop
      foreach l in array array[null] || (case when f.pronargs > 0 then types else '{}' end) loop
        arguments := case when l is null then array_to_string(f.list, ', ')
                          else array_to_string(l || f.list[2:], ', ') end;
        -- Only functions in C can have arguments of type "any", and a polymorphic result needs a polymorphic argument.
        continue when arguments like '%"any"%'
          or f.result like 'any%' and arguments not like '%any%' and f.prokind = 'f' and f.pronargs > 0 and l is null;
        result := f.result;
        if l is not null and result like 'any%' then
          result := case when result = 'anyarray' then l || '[]' else l end;
        end if;
        begin
          if f.prokind = 'f' then
            execute format('create function SHADOWS.%I(%s) returns %s %s language plpgsql as %L', f.proname, arguments,
                           case when f.proretset then 'setof' else '' end, result, body);
          else
            n := n + 1;
            execute format('create function SHADOWS.%I(%s) returns %s language plpgsql as %L', 'state_' || n,
                           concat_ws(', ', result, nullif(arguments, '')), result, body);
            execute format('create aggregate SHADOWS.%I(%s) (sfunc = SHADOWS.%I, stype = %s)', f.proname,
                           case when f.pronargs = 0 then '*' else arguments end, 'state_' || n, result);
          end if;
        exception when duplicate_function or invalid_function_definition or datatype_mismatch then
          null;  -- the same arguments came from another function, or they cannot be written in SQL
        end;
      end loop;
    end loop;
    foreach l in array array['text', 'jsonb', 'json', 'int2', 'int4', 'int8', 'bool', 'float8', 'timestamptz', 'name'] loop
      execute format('create domain SHADOWS.%I as pg_catalog.%I', l, l);
    end loop;
    foreach l in array array['pg_settings', 'pg_locks', 'pg_database', 'pg_constraint', 'pg_namespace'] loop
      execute format('create view SHADOWS.%I as select * from pg_catalog.%I', l, l);
    end loop;
  end $do$)sql";

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
  return text;
}

// The statements of a text that are more than settings, savepoints and the like.
std::vector<std::string> queries(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find(';', begin), text.size());
    const auto first = text.find_first_not_of(' ', begin);
    if (first < end && (text.compare(first, 7, "select ") == 0 || text.compare(first, 5, "with ") == 0)) {
      out.push_back(text.substr(first, end - first));
    }
    begin = end + 1;
  }
  return out;
}

// The caller's connection, with such a path.
struct CallersSql : Sql {
  explicit CallersSql(const std::string& path) { (*this)("set search_path = " + path); }
};

// Where pg_catalog is not named, it comes first, and a shadow can only win by a better match. Where it is named last,
// every name that is not qualified leads to a shadow.
class SearchPathTest : public DatabaseTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    std::set<std::string> names;
    static const std::regex call{R"((\w+)\()"};
    for (const auto& statement : every_statement()) {
      for (std::sregex_iterator i{statement.sql.begin(), statement.sql.end(), call}, end; i != end; ++i) {
        names.insert((*i)[1]);
      }
    }
    std::string list;
    for (const auto& name : names) list += (list.empty() ? "" : ", ") + sql().quote(name);
    schema_ = unique_name("shadows");
    sql()(
        replaced(replaced(replaced(make_shadows, "NAMES", "array[" + list + "]"), "TYPES", types), "SHADOWS", schema_));
  }
  void TearDown() override {
    if (!schema_.empty()) {
      sql()("set client_min_messages = warning");
      sql()("drop schema " + schema_ + " cascade");
    }
    DatabaseTest::TearDown();
  }

  const std::string& schema() const { return schema_; }
  std::string path() const { return schema_ + ", " + GetParam(); }
  // A role whose sessions have the path.
  std::string hostile_dsn() { return dsn_of_role_set({{"search_path", path()}}); }

  // The shadows that a query would use, from what PostgreSQL records about the body of a function.
  std::vector<std::string> shadows_in(Sql& hostile, const std::string& query) {
    hostile("prepare probe as " + query);
    const auto parameters = hostile.value(
        "select pg_catalog.array_to_string(parameter_types::pg_catalog.text[], ', ') from "
        "pg_catalog.pg_prepared_statements where name operator(pg_catalog.=) 'probe'");
    hostile("deallocate probe");
    const auto probe = schema_ + ".probe";
    hostile("create function " + probe + "(" + *parameters + ") returns void begin atomic " + query + "; end");
    const auto found = sql()(
        "select pg_describe_object(refclassid, refobjid, 0) from pg_depend where classid = 'pg_proc'::regclass "
        "and objid = " +
        sql().quote(probe) +
        "::regproc and refclassid <> 'pg_namespace'::regclass "
        "and pg_describe_object(refclassid, refobjid, 0) like '%" +
        schema_ + "%' order by 1");
    hostile("drop function " + probe);
    std::vector<std::string> out;
    for (const auto& row : found) out.emplace_back(row[0].c_str());
    return out;
  }

 private:
  std::string schema_;
};

// What shadows would be found and run is proven by statements that are not qualified.
TEST_P(SearchPathTest, ShadowsAreFoundWhereNamesAreNotQualified) {
  CallersSql caller{path()};
  for (const auto* query : {
           "select $1::bigint * interval '1 second'",
           "select array_agg(a) from pg_catalog.unnest($1::pg_catalog.text[]) as a",
           "select count(queue_id) from pgque.queue",
           "select string_agg(queue_name, queue_name) from pgque.queue",
       }) {
    if (std::string_view{GetParam()} == "public" &&
        std::string_view{query}.find("string_agg") != std::string_view::npos) {
      continue;  // an exact match, which pg_catalog wins
    }
    EXPECT_THAT(shadows_in(caller, query), Not(IsEmpty())) << query;
  }
  const auto error = thrown<pqxx::sql_error>([&] { caller("select 2::bigint * interval '1 second'"); });
  EXPECT_EQ(error.sqlstate(), shadow_ran);
}

TEST_P(SearchPathTest, NoStatementUsesAShadow) {
  CallersSql caller{path()};
  std::size_t checked = 0;
  for (const auto& statement : every_statement()) {
    for (const auto& query : queries(statement.sql)) {
      EXPECT_THAT(shadows_in(caller, query), IsEmpty()) << statement.name << ": " << query;
      ++checked;
    }
  }
  EXPECT_GT(checked, 65U);
}

// Each statement is run, with a queue, a consumer and an open batch for its arguments.
TEST_P(SearchPathTest, NoStatementRunsAShadow) {
  Client client{direct_dsn()};
  client.subscribe(queue(), consumer_name());
  client.send_batch(queue(), "t", {Payload{"1"}, Payload{"2"}});
  queue().tick();
  const auto messages = client.receive(queue(), consumer_name());
  ASSERT_EQ(messages.size(), 2U);
  client.nack(messages[0]);
  CallersSql caller{path()};
  const std::map<std::string, std::string> arguments{
      {"integer", "1"},
      {"bigint", to_string(messages[0].batch_id)},
      {"text[]", "array['1', '2']"},
  };
  std::size_t ran = 0;
  for (const auto& statement : every_statement()) {
    for (const auto& query : queries(statement.sql)) {
      caller("prepare probe as " + query);
      const auto parameters = caller(
          "select t from pg_catalog.pg_prepared_statements, pg_catalog.unnest(parameter_types::pg_catalog.text[]) t "
          "where name operator(pg_catalog.=) 'probe'");
      std::string list;
      for (const auto& row : parameters) {
        const std::string type{row[0].c_str()};
        auto value = arguments.count(type) != 0 ? arguments.at(type) : "null";
        if (type == "text") value = caller.quote(list.empty() ? queue().name() : "{1,2}");
        if (type == "text" && list.find(',') == std::string::npos && !list.empty())
          value = caller.quote(consumer_name());
        list += (list.empty() ? "(" : ", ") + value;
      }
      if (!list.empty()) list += ')';
      caller("begin");
      try {
        caller((statement.own_path ? "set local search_path = pg_catalog, pg_temp; execute probe" : "execute probe") +
               list);
        ++ran;
      } catch (const pqxx::sql_error& error) {  // PgQue may refuse these arguments
        EXPECT_NE(error.sqlstate(), shadow_ran) << statement.name << ": " << error.what();
      }
      caller("rollback");
      caller("deallocate probe");
    }
  }
  EXPECT_GT(ran, 40U);
}

// All of it over the caller's connection, whose path is not the library's to set.
TEST_P(SearchPathTest, TheCallersTransactionSendsReceivesAndNacksAsAnyOther) {
  CallersSql caller{path()};
  auto client = borrow(caller.connection());
  client.subscribe(queue(), consumer_name());
  const std::vector<Payload> mixed{text("a"), nlohmann::json{{"b", 1}}, R"({"c": 2})"};
  {
    pqxx::work work{caller.connection()};
    EXPECT_EQ(Transaction{work}.send_batch(queue(), "t", mixed).size(), 3U);
    work.commit();
  }
  queue().tick();
  const auto messages = client.receive(queue(), consumer_name());
  EXPECT_THAT(payloads_of(messages), ElementsAre("a", R"({"b":1})", R"({"c": 2})"));
  client.nack(messages[0]);
  client.nack(messages[1], {std::chrono::seconds{10}, "later"});
  EXPECT_TRUE(client.ack(messages[0].batch_id));
  EXPECT_EQ(queue().retries(), 2);
}

TEST_P(SearchPathTest, TheLibrarysOwnSessionsDoNotRunShadows) {
  const auto dsn = hostile_dsn();
  Client client{dsn, client_options()};
  client.subscribe(queue(), consumer_name());
  for (auto& verb : verbs()) {
    try {
      verb.call(client, queue().name(), consumer_name() + '_' + verb.name);
    } catch (const Error& error) {  // no such batch and so on
      EXPECT_NE(error.sqlstate(), shadow_ran) << verb.name << ": " << error.what();
    }
  }
  Admin admin{dsn, client_options()};
  admin.configure_queue(queue(), {});
  EXPECT_FALSE(admin.queues().empty());
  EXPECT_FALSE(admin.consumers(queue().name()).empty());
  EXPECT_EQ(admin.purge_dead_letters(queue(), std::chrono::hours{1}), 0);
  admin.dead_letters(queue());
  admin.count_dead_letters();
  admin.status();
  admin.bring_retries_back();
  admin.maintain();
  const auto other = unique_name("t");
  admin.create_queue(other);
  admin.drop_queue(other, true);
  diagnose(dsn);
}

TEST_P(SearchPathTest, ATickersDutiesDoNotRunShadows) {
  Client client{direct_dsn()};
  client.subscribe(queue(), consumer_name());
  for (const bool pooled : {false, true}) {
    client.send(queue(), "1");
    queue().tick();
    const auto messages = client.receive(queue(), consumer_name());
    ASSERT_FALSE(messages.empty());
    client.nack(messages[0], {std::chrono::seconds{0}, "again"});
    client.ack(messages[0].batch_id);
    TickerOptions options;
    options.retry_period = options.maintenance_period = options.rotation_period = 1ms;
    options.ticker_max_lag = std::chrono::hours{1};
    options.pooled = pooled;
    Ticker ticker{hostile_dsn(), options};
    Running running{ticker};
    EXPECT_TRUE(wait_until([&] {
      const auto stats = ticker.stats();
      return stats.retries > 0 && stats.maintenance > 1;
    })) << ticker.stats().last_error;
    EXPECT_EQ(ticker.stats().last_error, "") << pooled;
  }
}

INSTANTIATE_TEST_SUITE_P(With, SearchPathTest, testing::Values("public", "pg_catalog, public"), [](const auto& path) {
  return std::string_view{path.param} == "public" ? "PgCatalogFirst" : "PgCatalogLast";
});

}  // namespace
}  // namespace pgque::test
