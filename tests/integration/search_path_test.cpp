// A search_path that leads to somebody else's functions and operators first: none of them may run.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <map>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>
#include <pgque/buffered_producer.hpp>
#include <pgque/consumer.hpp>
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
    static const std::regex call{R"((\w+)\s*\()"};
    const auto add_names_in = [&](const std::string& text) {
      for (std::sregex_iterator i{text.begin(), text.end(), call}, end; i != end; ++i) names.insert((*i)[1]);
    };
    for (const auto& statement : every_statement()) add_names_in(statement.sql);
    // What PgQue's functions that run as the caller use.
    for (const auto& row : sql()("select prosrc from pg_proc where pronamespace = 'pgque'::regnamespace and "
                                 "proconfig is null")) {
      add_names_in(row[0].c_str());
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

  std::vector<std::string> queries_of(const NamedSql& statement) {
    const auto events =
        sql().value("select queue_data_pfx from pgque.queue where queue_name = " + sql().quote(queue().name()));
    return queries(replaced(statement.sql, events_of_some_queue, *events));
  }

  struct Uses {
    std::vector<std::string> shadows;
    bool callers_path = false;  // a function of PgQue that has no search_path of its own
  };
  // What a query would use, from what PostgreSQL records about the body of a function.
  Uses uses_of(Sql& hostile, const std::string& query) {
    hostile("prepare probe as " + query);
    const auto parameters = hostile.value(
        "select pg_catalog.array_to_string(parameter_types::pg_catalog.text[], ', ') from "
        "pg_catalog.pg_prepared_statements where name operator(pg_catalog.=) 'probe'");
    hostile("deallocate probe");
    const auto probe = schema_ + ".probe";
    hostile("create function " + probe + "(" + *parameters + ") returns void begin atomic " + query + "; end");
    const auto found = sql()(
        "select pg_describe_object(refclassid, refobjid, 0), exists (select from pg_proc where oid = refobjid and "
        "refclassid = 'pg_proc'::regclass and pronamespace = 'pgque'::regnamespace and proconfig is null) from "
        "pg_depend where classid = 'pg_proc'::regclass and objid = " +
        sql().quote(probe) + "::regproc and refclassid <> 'pg_namespace'::regclass order by 1");
    hostile("drop function " + probe);
    Uses out;
    for (const auto& row : found) {
      const std::string object = row[0].c_str();
      if (object.find(schema_) != std::string::npos) out.shadows.push_back(object);
      out.callers_path |= row[1].as<bool>();
    }
    return out;
  }

 private:
  std::string schema_;
};

// That shadows are found and run is shown by statements that are not qualified.
TEST_P(SearchPathTest, ShadowsAreFoundWhereNamesAreNotQualified) {
  CallersSql caller{path()};
  for (const auto* query : {
           "select $1::bigint * interval '1 second'",
           "select array_agg(a) from pg_catalog.unnest($1::pg_catalog.text[]) as a",
           "select count(queue_id) from pgque.queue",
           "select nextval(queue_event_seq) from pgque.queue",
       }) {
    EXPECT_THAT(uses_of(caller, query).shadows, Not(IsEmpty())) << query;
  }
  const auto error = thrown<pqxx::sql_error>([&] { caller("select 2::bigint * interval '1 second'"); });
  EXPECT_EQ(error.sqlstate(), shadow_ran);
}

TEST_P(SearchPathTest, NoStatementUsesAShadow) {
  CallersSql caller{path()};
  std::size_t checked = 0;
  for (const auto& statement : every_statement()) {
    for (const auto& query : queries_of(statement)) {
      const auto uses = uses_of(caller, query);
      EXPECT_THAT(uses.shadows, IsEmpty()) << statement.name << ": " << query;
      EXPECT_TRUE(statement.own_path || !uses.callers_path) << statement.name << " needs SearchPath::own";
      ++checked;
    }
  }
  EXPECT_GT(checked, 65U);
}

// Each statement is run with arguments that it succeeds with.
TEST_P(SearchPathTest, NoStatementRunsAShadow) {
  Client client{direct_dsn()};
  const auto group = "g_" + consumer_name();
  TestQueue other{sql()};
  client.subscribe(queue(), consumer_name());
  client.subscribe_subconsumer(queue(), group, "w");
  queue().config("max_retries", "0");
  client.send_batch(queue(), "t", {Payload{"1"}, Payload{"2"}, Payload{"3"}});
  queue().tick();
  auto messages = client.receive(queue(), consumer_name());
  ASSERT_EQ(messages.size(), 3U);
  client.nack(messages[0], {std::chrono::seconds{0}, "dead"});
  ASSERT_EQ(client.receive_coop(queue(), group, "w").size(), 3U);
  queue().config("max_retries", "5");
  client.nack(messages[1], {std::chrono::seconds{0}, "due"});
  const auto letter = sql().value("select dl_id from pgque.dead_letter order by dl_id desc limit 1");

  const auto q = sql().quote(queue().name());
  const auto c = sql().quote(consumer_name());
  const auto g = sql().quote(group);
  const auto batch = to_string(messages[0].batch_id);
  const auto id = to_string(messages[2].msg_id);
  const std::string json = "'[1]'";
  const std::map<std::string, std::vector<std::string>> arguments{
      {"send_json", {q, "'t'", json}},
      {"send_text", {q, "'t'", "'a'"}},
      {"send_batch_json", {q, "'t'", "'{1,2}'"}},
      {"send_batch_text", {q, "'t'", "'{a,b}'"}},
      {"send_batch_mixed", {q, "'t'", "'{t,f}'", "'{1,b}'"}},
      {"insert_event_json", {q, "'t'", json, "'key'", "'{}'"}},
      {"insert_event_text", {q, "'t'", "'a'", "'key'", "'{}'"}},
      {"insert_events", {q, "'{t,f}'", "2", "'{1,b,t,t,key,null,null,null}'"}},
      {"subscribe", {q, "'new'"}},
      {"unsubscribe", {q, c}},
      {"receive", {q, c, "10"}},
      {"Cursor::declare", {q, c, "10"}},
      {"receive_first", {q, c, "10"}},
      {"receive_tuned", {q, c, "10", "5", "1"}},
      {"next_batch", {q, c, "1"}},
      {"ripens_in", {q, c, "1"}},
      {"ack", {batch}},
      {"nack", {batch, id, "1", "'why'"}},
      {"nack_many", {batch, "'{" + id + "}'", "'{0}'", "'{1}'", "'{why}'"}},
      {"give_up_many", {batch, "1", "'{" + id + "}'", "'{null}'", "'{1}'", "'{why,t,payload,null,null,null,null}'"}},
      {"may_give_up", {}},
      {"latest_tick", {q}},
      {"is_in_retry_queue", {batch, id}},
      {"nacked", {batch, "0"}},
      {"batch_is_open", {batch, q, c}},
      {"subscribe_subconsumer", {q, g, "'v'", "0"}},
      {"unsubscribe_subconsumer", {q, g, "'w'", "1"}},
      {"touch_subconsumer", {q, g, "'w'"}},
      {"touch_and_find_batch", {q, g, "'w'", batch}},
      {"receive_coop", {q, g, "'w'", "10", "1000000"}},
      {"receive_coop_first", {q, g, "'w'", "1000000", "10"}},
      {"receive_coop_tuned", {q, g, "'w'", "1000000", "10", "5", "1"}},
      {"next_batch_coop", {q, g, "'w'", "1000000", "1"}},
      {"force_next_tick", {q}},
      {"force_tick", {q}},
      {"ticker", {q}},
      {"ticker_of_queue", {q}},
      {"rotate_step1", {q}},
      {"lower_max_lag", {"1"}},
      {"try_lead", {"1", "2"}},
      {"kit_lock", {"1"}},
      {"kit_try_lock", {"2"}},
      {"kit_unlock", {"2"}},
      {"kit_lock_shared", {"3"}},
      {"kit_unlock_shared", {"3"}},
      {"kit_queues", {c}},
      {"kit_bring_retries_back", {q}},
      {"kit_events_table", {q}},
      {"create_queue", {"'new'", "'{ticker_max_lag}'", "'{2 s}'"}},
      {"drop_queue", {sql().quote(other.name()), "1"}},
      {"drop_subconsumers", {q}},
      {"set_queue_config", {q, "'{ticker_max_lag}'", "'{2 s}'"}},
      {"subscribe_at", {q, "'new'", "1"}},
      {"tick_at", {q, "1"}},
      {"queue_info", {q}},
      {"queue_info_limited", {q}},
      {"queue_exists", {q}},
      {"consumer_info", {q, c}},
      {"consumer_info_from_tables", {q, c}},
      {"silent_workers", {"60"}},
      {"worker_sessions", {"'pgque'"}},
      {"unsubscribe_gone", {q, g, "'w'", "0", "'pgque'", "1"}},
      {"batch_info", {batch}},
      {"dead_letters", {q, "10"}},
      {"replay_dead_letter", {*letter}},
      {"replay_dead_letters", {q}},
      {"purge_dead_letters", {q, "0"}},
      {"set_tick_period", {"100"}},
      {"doctor_ticker", {"1", "2"}},
      {"doctor_dead_letters", {"60"}},
      {"notify", {"'pgque'"}},
  };
  CallersSql caller{path()};
  for (const auto& statement : every_statement()) {
    for (const auto& query : queries_of(statement)) {
      std::string list;
      if (query.find('$') != std::string::npos) {
        EXPECT_EQ(arguments.count(statement.name), 1U) << statement.name << " has no arguments here";
        if (arguments.count(statement.name) == 0) continue;
        for (const auto& argument : arguments.at(statement.name)) list += (list.empty() ? "(" : ", ") + argument;
        list += ')';
      }
      caller("prepare probe as " + query);
      caller("begin");
      try {
        caller((statement.own_path ? "set local search_path = pg_catalog, pg_temp; execute probe" : "execute probe") +
               list);
      } catch (const pqxx::sql_error& error) {
        // PgQue may be without it.
        const bool missing = statement.name == "force_tick" && error.sqlstate() == "42883";
        EXPECT_TRUE(missing) << statement.name << list << ": " << error.what();
      }
      caller("rollback");
      caller("deallocate probe");
    }
  }
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
    Transaction{work}.send_batch(queue(), std::vector<Event>{{text("d"), "t", "key"}, {"4", "u"}});
    Transaction{work}.send(queue(), Event{"5", "t", {}, {{"name", "value"}}});
    work.commit();
  }
  queue().tick();
  const auto messages = client.receive(queue(), consumer_name());
  EXPECT_THAT(payloads_of(messages), ElementsAre("a", R"({"b":1})", R"({"c": 2})", "d", "4", "5"));
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
  for (const bool through_pooler : {false, true}) {
    client.send(queue(), "1");
    queue().tick();
    const auto messages = client.receive(queue(), consumer_name());
    ASSERT_FALSE(messages.empty());
    client.nack(messages[0], {std::chrono::seconds{0}, "again"});
    client.ack(messages[0].batch_id);
    // A queue without consumers whose tables are due for rotation.
    TestQueue rotated{sql(), "rotated"};
    const auto of_rotated = " from pgque.queue where queue_name = " + sql().quote(rotated.name());
    const auto table = sql().number("select queue_cur_table" + of_rotated);
    sql()(
        "update pgque.queue set queue_rotation_period = '1 h', queue_switch_time = now() - interval '2 h', "
        "queue_switch_step2 = 1 where queue_name = " +
        sql().quote(rotated.name()));
    TickerOptions options;
    options.retry_period = options.maintenance_period = options.rotation_period = 1ms;
    options.ticker_max_lag = std::chrono::hours{1};
    options.pooled = through_pooler;
    Ticker ticker{hostile_dsn(), options};
    Running running{ticker};
    EXPECT_TRUE(wait_until([&] { return ticker.stats().retries > 0 && ticker.stats().maintenance > 1; }))
        << ticker.stats().last_error;
    EXPECT_TRUE(wait_until([&] {
      return sql().number("select count(*)" + of_rotated + " and queue_cur_table <> " + std::to_string(table) +
                          " and queue_switch_step2 is not null") == 1;
    })) << ticker.stats().last_error;
    EXPECT_EQ(ticker.stats().last_error, "") << through_pooler;
  }
}

// Pages, cursors, savepoints of handlers, nacks of many and heartbeats.
TEST_P(SearchPathTest, ConsumersAndProducersDoNotRunShadows) {
  const auto dsn = hostile_dsn();
  Client client{direct_dsn()};
  client.subscribe(queue(), consumer_name());
  client.subscribe_subconsumer(queue(), "g_" + consumer_name(), "w");
  {
    BufferedProducerOptions options;
    options.pooled = pooled();
    BufferedProducer producer{dsn, options};
    for (int i = 0; i < 5; ++i) producer.send(queue(), Event{nlohmann::json{{"i", i}}, i % 2 == 0 ? "good" : "bad"});
    producer.send(queue(), Event{text("five"), "good"});
    producer.send(queue(), Event{text("six"), "keyed", "key"});
    EXPECT_TRUE(producer.flush(20s));
  }
  queue().tick();
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    LogCapture log;
    ConsumerOptions options;
    options.queue = queue().name();
    options.name = consumer_name();
    options.transaction = mode;
    if (mode == TransactionMode::split) {
      options.name = "g_" + consumer_name();
      options.subconsumer = "w";
      options.dead_interval = 60s;
    }
    // A pooler keeps no session's cursor.
    const bool has_pages = mode == TransactionMode::per_batch || !pooled();
    options.max_messages = has_pages ? std::optional<std::int32_t>{2} : std::nullopt;
    options.poll_interval = 100ms;
    options.until_drained = true;
    options.pooled = pooled();
    options.log = log.sink();
    Consumer consumer{dsn, options};
    consumer.on("good", [](const Message&) {});
    consumer.on("bad", [](const Message&) { throw std::runtime_error{"bad"}; });
    consumer.on("keyed", [](const Message&) {});
    consumer.start();
    EXPECT_EQ(consumer.stats().messages, 5U);
    EXPECT_EQ(consumer.stats().failures, 2U);
    for (const auto& line : log.lines()) EXPECT_THAT(line.sqlstate, Not(shadow_ran)) << line.message;
  }
  EXPECT_EQ(queue().retries(), 4);
}

INSTANTIATE_TEST_SUITE_P(With, SearchPathTest, testing::Values("public", "pg_catalog, public"), [](const auto& path) {
  return std::string_view{path.param} == "public" ? "PgCatalogFirst" : "PgCatalogLast";
});

}  // namespace
}  // namespace pgque::test
