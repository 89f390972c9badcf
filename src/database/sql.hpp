#pragma once

#include <cstdint>
#include <string>

#include "database/statement.hpp"

// Every SQL statement of the library. Calls are positional, because PgQue's argument names differ between functions
// and versions, and every parameter has a cast, because its overloads are chosen by type.
//
// Every function, operator and type is qualified, because these statements also run with a search_path that others
// chose, where an operator or function of somebody else's schema would otherwise run as the caller. IN, BETWEEN, LIKE,
// NULLIF, IS DISTINCT FROM, CASE x WHEN and JOIN USING have operators that cannot be qualified. All qualified operators
// have the same precedence, above that of unqualified comparisons. tests/unit/database/sql_test.cpp checks this.

namespace pgque::detail::sql {

// The columns of pgque.message as row.cpp reads them: created_at as its eight bytes, which do not depend on DateStyle
// and TimeZone, and take the server a quarter of the time of arithmetic.
#define PGQUE_MESSAGE_COLUMNS                                                                                         \
  "msg_id, batch_id, type, payload, retry_count, pg_catalog.encode(pg_catalog.timestamptz_send(created_at), 'hex'), " \
  "extra1, extra2, extra3, extra4"
// Only the id of a message counts in a nack; PgQue looks the rest up.
#define PGQUE_MESSAGE_OF_ID(id) "row(" id ", null, null, null, null, null, null, null, null, null)::pgque.message"

inline constexpr Statement send_json{
    "pgque_send_json", Role::writer,
    "select pgque.send($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text::pg_catalog.jsonb)"};
inline constexpr Statement send_text{
    "pgque_send_text", Role::writer,
    "select pgque.send($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text)"};
inline constexpr Statement send_batch_json{
    "pgque_send_batch_json", Role::writer,
    "select pgque.send_batch($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text[]::pg_catalog.jsonb[])"};
inline constexpr Statement send_batch_text{
    "pgque_send_batch_text", Role::writer,
    "select pgque.send_batch($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text[])"};
// $3 tells which payloads are to be checked and normalised as JSON.
inline constexpr Statement send_batch_mixed{
    "pgque_send_batch_mixed", Role::writer,
    "select pgque.send_batch($1::pg_catalog.text, $2::pg_catalog.text, (select pg_catalog.array_agg(case when is_json "
    "then payload::pg_catalog.jsonb::pg_catalog.text else payload end order by i) from rows from "
    "(pg_catalog.unnest($4::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text::boolean[])) with ordinality as "
    "p(payload, is_json, i)))"};

// An event with extra columns: $4 is extra1, and $5 extra4.
inline constexpr Statement insert_event_json{
    "pgque_insert_event_json", Role::writer,
    "select pgque.insert_event($1::pg_catalog.text, $2::pg_catalog.text, "
    "$3::pg_catalog.text::pg_catalog.jsonb::pg_catalog.text, $4::pg_catalog.text, null::pg_catalog.text, "
    "null::pg_catalog.text, $5::pg_catalog.text)"};
inline constexpr Statement insert_event_text{
    "pgque_insert_event_text", Role::writer,
    "select pgque.insert_event($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, $4::pg_catalog.text, "
    "null::pg_catalog.text, null::pg_catalog.text, $5::pg_catalog.text)"};
// $3 events: $4 has first all their payloads, then all types, all of extra1 and all of extra4. $2 tells which payloads
// are to be checked and normalised as JSON. The sub-selects are not flattened, so the events get their ids in their
// order.
inline constexpr Statement insert_events{
    "pgque_insert_events", Role::writer,
    "select pg_catalog.array_agg(id order by i) from (select i, pgque.insert_event($1::pg_catalog.text, type, case "
    "when "
    "is_json then payload::pg_catalog.jsonb::pg_catalog.text else payload end, extra1, null::pg_catalog.text, "
    "null::pg_catalog.text, extra4) as id from (select * from rows from "
    "(pg_catalog.unnest(($4::pg_catalog.text[])[:$3::integer]), "
    "pg_catalog.unnest(($4::pg_catalog.text[])[$3::integer operator(pg_catalog.+) 1:$3::integer "
    "operator(pg_catalog.*) 2]), "
    "pg_catalog.unnest(($4::pg_catalog.text[])[$3::integer operator(pg_catalog.*) 2 operator(pg_catalog.+) "
    "1:$3::integer "
    "operator(pg_catalog.*) 3]), "
    "pg_catalog.unnest(($4::pg_catalog.text[])[$3::integer operator(pg_catalog.*) 3 operator(pg_catalog.+) 1:]), "
    "pg_catalog.unnest($2::pg_catalog.text::boolean[])) with ordinality as e(payload, type, extra1, extra4, is_json, "
    "i) "
    "order by i offset 0) as sorted offset 0) as inserted"};

inline constexpr Statement subscribe{"pgque_subscribe", Role::reader,
                                     "select pgque.subscribe($1::pg_catalog.text, $2::pg_catalog.text)"};
inline constexpr Statement unsubscribe{"pgque_unsubscribe", Role::reader,
                                       "select pgque.unsubscribe($1::pg_catalog.text, $2::pg_catalog.text)"};
inline constexpr Statement receive{"pgque_receive", Role::reader,
                                   "select " PGQUE_MESSAGE_COLUMNS
                                   " from pgque.receive($1::pg_catalog.text, $2::pg_catalog.text, $3::integer)"};
// How many events the next batch is expected to have: as many as were numbered between its two ticks. That leaves out
// retries, and what was sent before the first tick and committed after it; and force_next_tick() skips numbers. Of the
// subscriptions, `which` may give the batch; the largest counts. Subqueries in place of joins, because they are planned
// in a seventh of the time, at a session's first receives and always without prepared statements.
#define PGQUE_QUEUE_ID "(select queue_id from pgque.queue where queue_name operator(pg_catalog.=) $1::pg_catalog.text)"
#define PGQUE_CONSUMER_ID(name) "(select co_id from pgque.consumer where co_name operator(pg_catalog.=) " name ")"
#define PGQUE_EXPECTED(which)                                                                                    \
  "expected as materialized (select pg_catalog.max((select tick_event_seq from pgque.tick where "                \
  "tick_queue operator(pg_catalog.=) s.sub_queue and tick_id operator(pg_catalog.>=) coalesce(s.sub_next_tick, " \
  "s.sub_last_tick operator(pg_catalog.+) 1) order by tick_id limit 1) operator(pg_catalog.-) (select "          \
  "tick_event_seq from pgque.tick where tick_queue operator(pg_catalog.=) s.sub_queue and "                      \
  "tick_id operator(pg_catalog.=) s.sub_last_tick)) as events from pgque.subscription s where "                  \
  "s.sub_queue operator(pg_catalog.=) " PGQUE_QUEUE_ID " and " which ")"
// The messages of the next batch if it is not expected to have more than $3, and at most one message beyond that; a row
// of NULLs if it is. Both the row and the message beyond tell that the batch is to be read in pages.
#define PGQUE_NO_MESSAGE(last)                                         \
  "select null, null, null, null, null, null, null, null, null, " last \
  " from expected where "                                              \
  "events operator(pg_catalog.>) "
#define PGQUE_OF_CONSUMER "s.sub_consumer operator(pg_catalog.=) " PGQUE_CONSUMER_ID("$2::pg_catalog.text")
inline constexpr Statement receive_first{
    "pgque_receive_first", Role::reader,
    "with " PGQUE_EXPECTED(PGQUE_OF_CONSUMER) " (select " PGQUE_MESSAGE_COLUMNS
                                              " from "
                                              "pgque.receive($1::pg_catalog.text, $2::pg_catalog.text, null::integer) "
                                              "where coalesce((select events from "
                                              "expected), 0) operator(pg_catalog.<=) $3::bigint limit $3::bigint "
                                              "operator(pg_catalog.+) 1) union all " PGQUE_NO_MESSAGE(
                                                  "null") "$3::bigint"};
// Intervals are given in microseconds.
#define PGQUE_INTERVAL(microseconds) \
  microseconds "::bigint::double precision operator(pg_catalog.*) interval '1 microsecond'"
// The tick at which the next batch of the consumer or group begins.
#define PGQUE_PLACE                                                                                          \
  "(select sub_last_tick from pgque.subscription s where s.sub_queue operator(pg_catalog.=) " PGQUE_QUEUE_ID \
  " and " PGQUE_OF_CONSUMER ")"
#define PGQUE_TICKS_AFTER(tick) \
  "from pgque.tick where tick_queue operator(pg_catalog.=) p.tick_queue and tick_id operator(pg_catalog.>) " tick
#define PGQUE_IS_RIPE(lag) "pg_catalog.now() operator(pg_catalog.-) tick_time operator(pg_catalog.>=) (" lag ")"
// What makes next_batch_custom() merge windows until they have `events` numbers, if there are two or more that are
// older than `lag`: one row, or none.
//
// Given a number, next_batch_custom() looks at the newest tick first. If that has fewer numbers it gives nothing, so
// the number is never more than there are, and then it takes the newest. With `lag`, the newest is too young, and to be
// refused then would merge nothing. So the ticks are chosen by their times, in which the newest is not looked at if it
// is more than twice as far away as the one that is wanted, or than half of the way.
#define PGQUE_MERGE(events, lag) \
  "wanted as materialized (select case when " lag " is null then least(" events ", greatest((select tick_event_seq "  \
  PGQUE_TICKS_AFTER("p.tick_id") " order by tick_id desc limit 1) operator(pg_catalog.-) p.tick_event_seq, 0))"       \
  "::integer end as events, case when " lag " is not null then (select case when u.until operator(pg_catalog.=) "     \
  "u.newest then u.until operator(pg_catalog.-) p.tick_time else least(u.until operator(pg_catalog.-) p.tick_time, "  \
  "(u.newest operator(pg_catalog.-) p.tick_time) operator(pg_catalog./) 2 operator(pg_catalog.-) "                    \
  "interval '1 microsecond') end from (select least((select tick_time " PGQUE_TICKS_AFTER("p.tick_id")                \
  " and tick_event_seq operator(pg_catalog.-) p.tick_event_seq operator(pg_catalog.>=) " events " order by tick_id "  \
  "limit 1), (select pg_catalog.max(tick_time) " PGQUE_TICKS_AFTER("p.tick_id") " and "                               \
  PGQUE_IS_RIPE(PGQUE_INTERVAL(lag)) ")) as until, (select tick_time " PGQUE_TICKS_AFTER("p.tick_id")                 \
  " order by tick_id desc limit 1) as newest offset 0) as u) end as span from pgque.tick p where "                             \
  "p.tick_queue operator(pg_catalog.=) " PGQUE_QUEUE_ID " and p.tick_id operator(pg_catalog.=) " PGQUE_PLACE          \
  " and " events " is not null and exists (select from (select tick_time " PGQUE_TICKS_AFTER("p.tick_id")             \
  " order by tick_id offset 1 limit 1) as second where " lag " is null or " PGQUE_IS_RIPE(PGQUE_INTERVAL(lag)) "))"
// Opens the batch: with several windows, or if there is none of that kind, with one, so that nothing is ever late for
// it. Then the number of messages that it is expected to have. Each part runs when the one after it asks for its rows.
#define PGQUE_OPENED(custom, columns, lag, rest)                                                                      \
  "merged as materialized (select batch, since, until from wanted cross join lateral pgque.next_batch_custom(" custom \
  ", " PGQUE_INTERVAL(lag) ", wanted.events, wanted.span" rest ") as b(" columns                                      \
                           ")), "                                                                                     \
                           "single as materialized (select batch, since, until from pgque.next_batch_custom(" custom  \
                           ", " PGQUE_INTERVAL(                                                                       \
                               lag) ", null, null" rest ") as b(" columns                                             \
                                    ") where not exists (select from merged where batch is "                          \
                                    "not null)), opened as materialized (select batch, since, until from merged "     \
                                    "where batch is not null union all "                                              \
                                    "select batch, since, until from single where batch is not null), expected as "   \
                                    "materialized (select batch, "                                                    \
                                    "coalesce((select tick_event_seq from pgque.tick where tick_queue "               \
                                    "operator(pg_catalog.=) " PGQUE_QUEUE_ID                                          \
                                    " and tick_id operator(pg_catalog.=) until) operator(pg_catalog.-) (select "      \
                                    "tick_event_seq from pgque.tick where "                                           \
                                    "tick_queue operator(pg_catalog.=) " PGQUE_QUEUE_ID                               \
                                    " and tick_id operator(pg_catalog.=) since), 0) as events from opened)"
#define PGQUE_ONLY_BATCH(last)                                          \
  "select null, batch, null, null, null, null, null, null, null, " last \
  " from expected where "                                               \
  "events operator(pg_catalog.>) "
// The same as receive_first, but of a batch that is opened first, as $4 (CatchUp::events) and $5 (min_lag) ask for. If
// the batch is to be read in pages, the row of NULLs has its id.
inline constexpr Statement receive_tuned{
    "pgque_receive_tuned", Role::reader,
    "with " PGQUE_MERGE("$4::bigint", "$5::bigint") ", " PGQUE_OPENED(
        "$1::pg_catalog.text, $2::pg_catalog.text", "batch, until, since", "$5",
        "") " (select " PGQUE_MESSAGE_COLUMNS
            " from pgque.receive($1::pg_catalog.text, $2::pg_catalog.text, null::integer) "
            "where coalesce((select events from expected) operator(pg_catalog.<=) $3::bigint, false) limit $3::bigint "
            "operator(pg_catalog.+) 1) union all " PGQUE_ONLY_BATCH("null") "$3::bigint"};
// next_batch() itself has no search_path of its own.
inline constexpr Statement next_batch{
    "pgque_next_batch", Role::reader,
    "select batch_id from pgque.next_batch_custom($1::pg_catalog.text, $2::pg_catalog.text, " PGQUE_INTERVAL(
        "$3") ", null, null)"};
inline constexpr Statement ack{"pgque_ack", Role::reader, "select pgque.ack($1::bigint)"};
inline constexpr Statement nack{"pgque_nack", Role::reader,
    "select pgque.nack($1::bigint, " PGQUE_MESSAGE_OF_ID("$2::bigint") ", $3::bigint operator(pg_catalog.*) interval "
    "'1 second', $4::pg_catalog.text)"};
// The messages, each with how often it was retried already. Where a message has retries left, nack does nothing but
// call event_retry, after having read the batch once more to find that out; without an open batch nack throws the right
// error. The result is the messages that have become dead letters (1), and those for which event_retry says that they
// are in the retry queue already (0).
inline constexpr Statement nack_many{"pgque_nack_many", Role::reader,
    "with most as materialized (select coalesce(q.queue_max_retries, 5) as retries from pgque.subscription s join "
    "pgque.queue q on q.queue_id operator(pg_catalog.=) s.sub_queue where s.sub_batch operator(pg_catalog.=) "
    "$1::bigint), nacked as materialized (select n.id, n.retried operator(pg_catalog.>=) (select retries from most) as "
    "dead, case when n.retried operator(pg_catalog.<) (select retries from most) then "
    "pgque.event_retry($1::bigint, n.id, n.delay) else pgque.nack($1::bigint, " PGQUE_MESSAGE_OF_ID("n.id") ", "
    "n.delay operator(pg_catalog.*) interval '1 second', n.reason) end as stored from rows from "
    "(pg_catalog.unnest($2::pg_catalog.text::bigint[]), pg_catalog.unnest($3::pg_catalog.text::integer[]), "
    "pg_catalog.unnest($4::pg_catalog.text::integer[]), pg_catalog.unnest($5::pg_catalog.text[])) as n(id, retried, "
    "delay, reason)) select id, dead::integer from nacked where dead or stored operator(pg_catalog.=) 0"};
// Makes dead letters of $2 messages of an open batch, whatever retries they have left. $6 has first all reasons, then
// all types, payloads, and each of the four extra columns. The transactions that sent them are not known here.
#define PGQUE_PART(first, last)                                                         \
  "pg_catalog.unnest(($6::pg_catalog.text[])[$2::integer operator(pg_catalog.*) " first \
  " operator(pg_catalog.+) 1:$2::integer operator(pg_catalog.*) " last "])"
inline constexpr Statement give_up_many{"pgque_give_up_many", Role::none,
    "select pgque.event_dead($1::bigint, d.id, d.reason, 'epoch'::timestamp with time zone operator(pg_catalog.+) ("
    PGQUE_INTERVAL("d.time") "), null::pg_catalog.xid8, d.retried, d.type, d.payload, d.extra1, d.extra2, d.extra3, "
    "d.extra4) from rows from (pg_catalog.unnest($3::pg_catalog.text::bigint[]), "
    "pg_catalog.unnest($4::pg_catalog.text::integer[]), pg_catalog.unnest($5::pg_catalog.text::bigint[]), "
    PGQUE_PART("0", "1") ", " PGQUE_PART("1", "2") ", " PGQUE_PART("2", "3") ", " PGQUE_PART("3", "4") ", "
    PGQUE_PART("4", "5") ", " PGQUE_PART("5", "6") ", " PGQUE_PART("6", "7") ") as d(id, retried, time, reason, type, "
    "payload, extra1, extra2, extra3, extra4)"};
inline constexpr Statement may_give_up{
    "pgque_may_give_up", Role::none,
    "select coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pgque.event_dead(bigint, bigint, "
    "pg_catalog.text, timestamp with time zone, pg_catalog.xid8, integer, pg_catalog.text, pg_catalog.text, "
    "pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text)'), 'execute'), false)::integer"};
inline constexpr Statement is_in_retry_queue{
    "pgque_is_in_retry_queue", Role::none,
    "select pg_catalog.count(*) from pgque.subscription join pgque.retry_queue on "
    "ev_owner operator(pg_catalog.=) sub_id where sub_batch operator(pg_catalog.=) $1::bigint and "
    "ev_id operator(pg_catalog.=) $2::bigint"};
// Of the messages of an open batch from $2 on, those that were nacked in it and whose nacks are committed, each with
// how often it had been retried before. A rewound consumer may receive a message in another batch, after other retries.
// Its dead letters are older than this opening of the batch. Of a worker it is not known when that was; then those that
// were given up, before any retry, do not count.
inline constexpr Statement nacked{
    "pgque_nacked", Role::reader,
    "select r.ev_id, r.ev_retry operator(pg_catalog.-) 1 from pgque.subscription s join pgque.retry_queue r on "
    "r.ev_owner operator(pg_catalog.=) s.sub_id where s.sub_batch operator(pg_catalog.=) $1::bigint and "
    "r.ev_id operator(pg_catalog.>=) $2::bigint union all select d.ev_id, coalesce(d.ev_retry, 0) from "
    "pgque.subscription s join pgque.subscription main on main.sub_queue operator(pg_catalog.=) s.sub_queue and "
    "main.sub_id operator(pg_catalog.=) s.sub_id and main.sub_role operator(pg_catalog.<>) 'coop_member' join "
    "pgque.dead_letter d on d.dl_queue_id operator(pg_catalog.=) s.sub_queue and "
    "d.dl_consumer_id operator(pg_catalog.=) main.sub_consumer where s.sub_batch operator(pg_catalog.=) $1::bigint "
    "and d.ev_id operator(pg_catalog.>=) $2::bigint and case when s.sub_role operator(pg_catalog.<>) 'coop_member' "
    "then "
    "d.dl_time operator(pg_catalog.>=) s.sub_active else d.ev_txid is not null end"};
// Whether the batch $1 of the queue $2 is open and belongs to the consumer or, as `consumer.worker`, to the worker.
#define PGQUE_BATCH_IS_OPEN(batch, queue, consumer)                                                                   \
  "select pg_catalog.count(*) from pgque.subscription join pgque.queue on queue_id operator(pg_catalog.=) sub_queue " \
  "join pgque.consumer on co_id operator(pg_catalog.=) sub_consumer where sub_batch operator(pg_catalog.=) " batch    \
  " and queue_name operator(pg_catalog.=) " queue " and co_name operator(pg_catalog.=) " consumer
inline constexpr Statement batch_is_open{
    "pgque_batch_is_open", Role::none, PGQUE_BATCH_IS_OPEN("$1::bigint", "$2::pg_catalog.text", "$3::pg_catalog.text")};

inline constexpr Statement subscribe_subconsumer{
    "pgque_subscribe_subconsumer", Role::reader,
    "select pgque.subscribe_subconsumer($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, "
    "$4::integer::boolean)"};
inline constexpr Statement unsubscribe_subconsumer{
    "pgque_unsubscribe_subconsumer", Role::reader,
    "select pgque.unsubscribe_subconsumer($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, $4::integer)"};
#define PGQUE_WORKER_NAME "$2::pg_catalog.text operator(pg_catalog.||) '.' operator(pg_catalog.||) $3::pg_catalog.text"
#define PGQUE_TOUCH "pgque.touch_subconsumer($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text)"
inline constexpr Statement touch_subconsumer{"pgque_touch_subconsumer", Role::reader, "select " PGQUE_TOUCH};
// The same, and in one round trip with it whether the batch is still the worker's.
inline constexpr Statement touch_and_find_batch{
    "pgque_touch_subconsumer_and_find_batch", Role::reader,
    "select " PGQUE_TOUCH
    ", (" PGQUE_BATCH_IS_OPEN("$4::bigint", "$1::pg_catalog.text", "(" PGQUE_WORKER_NAME ")") ")"};
// PgQue dates the sign of life of a worker that is given a batch to the beginning of the transaction, which may have
// waited long for the group's row: for as long as the handlers of a pgque-py worker run. Another worker would take the
// batch over at once. So the worker is touched after the receive, with the first message, if there is one.
#define PGQUE_TOUCH_FIRST "case when ordinality operator(pg_catalog.=) 1 then " PGQUE_TOUCH " is not null else true end"
#define PGQUE_GROUP_ID                                                                                  \
  "(select g.sub_id from pgque.subscription g where g.sub_queue operator(pg_catalog.=) " PGQUE_QUEUE_ID \
  " and "                                                                                               \
  "g.sub_consumer operator(pg_catalog.=) " PGQUE_CONSUMER_ID("$2::pg_catalog.text") ")"
// From which other worker the batch that begins after the tick `since` was taken over, if it was. PgQue does not tell.
// But each window is handed out anew only once, and this looks at the workers as they were before the statement:
// whoever had the window then has lost it. Without a dead_interval nothing is taken over.
#define PGQUE_TAKEN_FROM(since, dead_interval)                                                    \
  "case when " dead_interval                                                                      \
  "::bigint is not null then (select pg_catalog.min(l.co_name) from pgque.subscription v "        \
  "join pgque.consumer l on l.co_id operator(pg_catalog.=) v.sub_consumer where v.sub_queue "     \
  "operator(pg_catalog.=) " PGQUE_QUEUE_ID " and v.sub_id operator(pg_catalog.=) " PGQUE_GROUP_ID \
  " and v.sub_role operator(pg_catalog.=) "                                                       \
  "'coop_member' and v.sub_batch is not null and v.sub_last_tick operator(pg_catalog.=) " since   \
  " and "                                                                                         \
  "l.co_name operator(pg_catalog.<>) (" PGQUE_WORKER_NAME ")) end"
// Only with the first message, because asking takes time. The function sees the batch that was just opened.
#define PGQUE_FIRST_TAKEN_FROM(dead_interval)                               \
  ", case when ordinality operator(pg_catalog.=) 1 then " PGQUE_TAKEN_FROM( \
      "(select prev_tick_id from pgque.get_batch_info(batch_id))", dead_interval) " end"
inline constexpr Statement receive_coop{
    "pgque_receive_coop", Role::reader,
    "select " PGQUE_MESSAGE_COLUMNS PGQUE_FIRST_TAKEN_FROM("$5") " from "
    "pgque.receive_coop($1::pg_catalog.text, $2::pg_catalog.text, "
    "$3::pg_catalog.text, $4::integer, " PGQUE_INTERVAL("$5") ") with ordinality where " PGQUE_TOUCH_FIRST};
// A worker is given its own batch, that of a silent worker, or the next one of the group.
#define PGQUE_OF_GROUP                                                                                               \
  "s.sub_id operator(pg_catalog.=) " PGQUE_GROUP_ID                                                                  \
  " and (s.sub_role operator(pg_catalog.<>) 'coop_member' or "                                                       \
  "s.sub_batch is not null and ($4::bigint is not null or s.sub_consumer operator(pg_catalog.=) " PGQUE_CONSUMER_ID( \
      "(" PGQUE_WORKER_NAME ")") "))"
inline constexpr Statement receive_coop_first{
    "pgque_receive_coop_first", Role::reader,
    "with " PGQUE_EXPECTED(PGQUE_OF_GROUP) " (select " PGQUE_MESSAGE_COLUMNS PGQUE_FIRST_TAKEN_FROM("$4")
    " from pgque.receive_coop($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, null::integer, "
    PGQUE_INTERVAL("$4") ") with ordinality where coalesce((select events from expected), 0) operator(pg_catalog.<=) "
    "$5::bigint and " PGQUE_TOUCH_FIRST " limit $5::bigint operator(pg_catalog.+) 1) union all "
    PGQUE_NO_MESSAGE("null, null") "$5::bigint"};
inline constexpr Statement receive_coop_tuned{
    "pgque_receive_coop_tuned", Role::reader,
    "with " PGQUE_MERGE("$6::bigint", "$7::bigint") ", "
    PGQUE_OPENED("$1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text", "batch, since, until", "$7", ", "
                 PGQUE_INTERVAL("$4"))
    ", taken as materialized (select " PGQUE_TAKEN_FROM("since", "$4") " as from_worker from opened) (select "
    PGQUE_MESSAGE_COLUMNS ", case when ordinality operator(pg_catalog.=) 1 then (select from_worker from taken) end "
    "from pgque.receive_coop($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, null::integer, "
    PGQUE_INTERVAL("$4") ") with ordinality where "
    "coalesce((select events from expected) operator(pg_catalog.<=) $5::bigint, false) and " PGQUE_TOUCH_FIRST
    " limit $5::bigint operator(pg_catalog.+) 1) union all "
    PGQUE_ONLY_BATCH("null, (select from_worker from taken)") "$5::bigint"};
inline constexpr Statement next_batch_coop{
    "pgque_next_batch_coop", Role::reader,
    "select case when " PGQUE_TOUCH " is not null then batch end, " PGQUE_TAKEN_FROM("since", "$4")
    " from pgque.next_batch_custom($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, "
    PGQUE_INTERVAL("$5") ", null, null, " PGQUE_INTERVAL("$4") ") as b(batch, since) where batch is not null"};

inline constexpr Statement force_next_tick{"pgque_force_next_tick", Role::admin,
                                           "select pgque.force_next_tick($1::pg_catalog.text)"};
inline constexpr Statement force_tick{"pgque_force_tick", Role::admin, "select pgque.force_tick($1::pg_catalog.text)"};
inline constexpr Statement ticker{"pgque_ticker", Role::admin, "select pgque.ticker($1::pg_catalog.text)"};
inline constexpr Statement ticker_all{"pgque_ticker_all", Role::admin, "select pgque.ticker()"};
inline constexpr Statement queue_names{"pgque_queue_names", Role::none, "select queue_name from pgque.queue"};
// Whether the role may tick; NULL if there is no PgQue.
inline constexpr Statement may_tick{
    "pgque_may_tick", Role::admin,
    "select pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pgque.ticker()'), 'execute')::integer"};
// Which queues ticker_all ticks, and the same for one of them; NULL if it has been paused or dropped meanwhile.
#define PGQUE_QUEUES_TO_TICK "from pgque.queue where not queue_ticker_paused and not queue_external_ticker"
inline constexpr Statement queues_to_tick{"pgque_queues_to_tick", Role::none,
                                          "select queue_name " PGQUE_QUEUES_TO_TICK " order by queue_id"};
inline constexpr Statement ticker_of_queue{"pgque_ticker_of_queue", Role::admin,
                                           "select (select pgque.ticker(queue_name) " PGQUE_QUEUES_TO_TICK
                                           " and "
                                           "queue_name operator(pg_catalog.=) $1::pg_catalog.text)"};

inline constexpr Statement maint_retry_events{"pgque_maint_retry_events", Role::admin,
                                              "select pgque.maint_retry_events()", SearchPath::own};
// The index on ev_retry_after tells the earliest retry. Bringing retries back locks the table.
inline constexpr Statement retry_if_due{
    "pgque_retry_if_due", Role::admin,
    "select case when (select pg_catalog.min(ev_retry_after) from "
    "pgque.retry_queue) operator(pg_catalog.<=) pg_catalog.now() then pgque.maint_retry_events() end",
    SearchPath::own};
inline constexpr Statement queues_that_refuse_retries{
    "pgque_queues_that_refuse_retries", Role::none,
    "select pg_catalog.string_agg('queue \"' operator(pg_catalog.||) queue_name operator(pg_catalog.||) '\"', ', ' "
    "order by queue_name) from pgque.queue where queue_disable_insert and exists (select from pgque.retry_queue where "
    "ev_queue operator(pg_catalog.=) queue_id and ev_retry_after operator(pg_catalog.<=) pg_catalog.now())"};
inline constexpr Statement maint{"pgque_maint", Role::admin, "select pgque.maint()"};
// In seconds, because the time after a very long period would be out of range, and fail the statement for all queues.
inline constexpr Statement queues_to_rotate{
    "pgque_queues_to_rotate", Role::none,
    "select queue_name from pgque.queue where queue_switch_step2 is not null and "
    "extract(epoch from queue_rotation_period) operator(pg_catalog.<) (extract(epoch from pg_catalog.now()) "
    "operator(pg_catalog.-) extract(epoch from queue_switch_time)) order by queue_id"};
inline constexpr Statement rotate_step1{"pgque_rotate_step1", Role::admin,
                                        "select pgque.maint_rotate_tables_step1($1::pg_catalog.text)", SearchPath::own};
inline constexpr Statement rotate_step2{"pgque_rotate_step2", Role::admin, "select pgque.maint_rotate_tables_step2()",
                                        SearchPath::own};
// Lowers ticker_max_lag where it is higher; never raises it.
inline constexpr Statement lower_max_lag{
    "pgque_lower_max_lag", Role::admin,
    "select pgque.set_queue_config(queue_name, 'ticker_max_lag', ($1::bigint operator(pg_catalog.*) interval '1 "
    "millisecond')::pg_catalog.text) from pgque.get_queue_info() where "
    "queue_ticker_max_lag operator(pg_catalog.>) ($1::bigint operator(pg_catalog.*) interval '1 millisecond')",
    SearchPath::own};
// "pgqu" and "tick" in ASCII: the advisory lock by which the tickers of a database agree on the active one. Advisory
// locks are per database; the two keys distinguish this one from the locks of other programs.
inline constexpr std::int64_t leader_lock_class = 0x70677175;
inline constexpr std::int64_t leader_lock_object = 0x7469636B;
inline constexpr Statement try_lead{"pgque_try_lead", Role::none,
                                    "select pg_catalog.pg_try_advisory_lock($1::integer, $2::integer)::integer"};
// "duty": what pooled tickers take for their other transactions, so that these never keep a tick waiting.
inline constexpr std::int64_t duties_lock_object = 0x64757479;
// For one transaction. It waits for the transaction of another pooled ticker to end, but not for a session that leads.
inline std::string take_turn(std::int64_t lock_object) {
  return "set local lock_timeout = 100; select pg_catalog.pg_advisory_xact_lock(" + std::to_string(leader_lock_class) +
         ", " + std::to_string(lock_object) + ')';
}

// For statements with SearchPath::own.
inline constexpr const char* set_own_path = "set local search_path = pg_catalog, pg_temp; ";

// For long-lived sessions of this library, unless they go through a pooler, which has its own settings. The server
// then checks whether the client is alive at least as often as the client checks the server, because the locks of a
// vanished client's transaction stay until the server notices. The server also does not end a session that waits for a
// notification or, in split mode, for handlers, nor, from PostgreSQL 17 on, a transaction that takes long.
inline constexpr const char* last_as_long_as_needed =
    "select pg_catalog.set_config(s.name, v.most::pg_catalog.text, false) from pg_catalog.pg_settings s join (values "
    "('tcp_keepalives_idle', 30), ('tcp_keepalives_interval', 10), ('tcp_keepalives_count', 3), ('tcp_user_timeout', "
    "60000)) as v(name, most) on v.name operator(pg_catalog.=) s.name where "
    "s.setting::integer operator(pg_catalog.<) 1 or s.setting::integer operator(pg_catalog.>) v.most;select "
    "pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings where name operator(pg_catalog.=) any "
    "(array['idle_session_timeout', 'transaction_timeout']);";

// Intervals and times are transferred as whole microseconds, which do not depend on IntervalStyle, DateStyle and
// TimeZone. What is beyond 100,000 years, such as infinity, reads as 100,000 years: one odd value must not fail the
// whole statement, and the sum of two of these still fits into 64 bits. NULL stays NULL, which least() and greatest()
// ignore.
#define PGQUE_WITHIN_RANGE(seconds)                                 \
  "case when " seconds " is not null then (least(greatest(" seconds \
  ", '-3155760000000'), 3155760000000) "                            \
  "operator(pg_catalog.*) 1000000)::bigint end"
#define PGQUE_MICROSECONDS(value) PGQUE_WITHIN_RANGE("extract(epoch from " value ")")
// Infinite times cannot be subtracted before PostgreSQL 17, but their seconds can.
#define PGQUE_BETWEEN(begin, end) \
  PGQUE_WITHIN_RANGE("(extract(epoch from " end ") operator(pg_catalog.-) extract(epoch from " begin "))")
#define PGQUE_AGE(time) PGQUE_BETWEEN(time, "pg_catalog.now()")

// The name of the table with a queue's events; NULL if the role may not read it, which PgQue lets every role do.
#define PGQUE_EVENTS_TABLE                                                                    \
  "(select pg_catalog.format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c join " \
  "pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace where "           \
  "c.oid operator(pg_catalog.=) pg_catalog.to_regclass(queue_data_pfx)::pg_catalog.oid and "  \
  "pg_catalog.has_table_privilege(c.oid, 'select'))"
// How old the queue's latest tick is, how old it may become where a ticker is at work and no event waits, how long an
// event may wait, whether the ticker leaves the queue out; and where its events are.
inline constexpr Statement latest_tick{
    "pgque_latest_tick", Role::none,
    "select coalesce(" PGQUE_AGE("t.tick_time") ", 0), coalesce(" PGQUE_MICROSECONDS(
        "greatest(queue_ticker_max_lag, queue_ticker_idle_period)") ", 0), coalesce(" PGQUE_MICROSECONDS(
        "queue_ticker_max_lag") ", 0), queue_ticker_paused::integer, queue_external_ticker::integer, "
    PGQUE_EVENTS_TABLE ", queue_id, coalesce(t.tick_id, 0) from pgque.queue left join lateral (select tick_time, "
    "tick_id from pgque.tick where tick_queue operator(pg_catalog.=) queue_id order by tick_id desc limit 1) t on true "
    "where queue_name operator(pg_catalog.=) $1::pg_catalog.text"};

// In how many microseconds the next tick will be $3 microseconds old. Only for a consumer or group without a batch.
inline constexpr Statement ripens_in{
    "pgque_ripens_in", Role::none,
    "select " PGQUE_BETWEEN("pg_catalog.clock_timestamp()", "tick_time") " operator(pg_catalog.+) $3::bigint from "
    "pgque.tick where tick_queue operator(pg_catalog.=) " PGQUE_QUEUE_ID " and tick_id operator(pg_catalog.>) "
    PGQUE_PLACE " order by tick_id limit 1"};

// The value of a setting that is reset. Under array_nulls = off, it is the text NULL.
#define PGQUE_SETTING_VALUE "case when value operator(pg_catalog.<>) 'NULL' then value end"
// With its settings, so that a setting that the server refuses leaves no queue behind. They are applied to the queue
// that is there by then: each row of `configured` has the one of `created` in it.
inline constexpr Statement create_queue{
    "pgque_create_queue", Role::admin,
    "with created as materialized (select pgque.create_queue($1::pg_catalog.text) as is_new), "
    "configured as materialized (select pgque.set_queue_config($1::pg_catalog.text, name, " PGQUE_SETTING_VALUE
    ") as done "
    "from created cross join rows from (pg_catalog.unnest($2::pg_catalog.text::pg_catalog.text[]), "
    "pg_catalog.unnest($3::pg_catalog.text::pg_catalog.text[])) as setting(name, value)) "
    "select is_new from created where (select pg_catalog.count(done) from configured) is not null"};
inline constexpr Statement drop_queue{"pgque_drop_queue", Role::admin,
                                      "select pgque.drop_queue($1::pg_catalog.text, $2::integer::boolean)"};
// PgQue never drops a queue with cooperative consumers, so their subconsumers are removed first.
inline constexpr Statement drop_subconsumers{
    "pgque_drop_subconsumers", Role::admin,
    "select pg_catalog.count(pgque.unregister_subconsumer(queue_name, c.co_name, pg_catalog.substr(mc.co_name, "
    "pg_catalog.length(c.co_name) operator(pg_catalog.+) 2), 1)) from pgque.queue join pgque.subscription s on "
    "s.sub_queue operator(pg_catalog.=) queue_id and s.sub_role operator(pg_catalog.=) 'coop_main' join "
    "pgque.subscription m on m.sub_queue operator(pg_catalog.=) queue_id and m.sub_id operator(pg_catalog.=) s.sub_id "
    "and m.sub_role operator(pg_catalog.=) 'coop_member' join pgque.consumer c on "
    "c.co_id operator(pg_catalog.=) s.sub_consumer join pgque.consumer mc on "
    "mc.co_id operator(pg_catalog.=) m.sub_consumer where queue_name operator(pg_catalog.=) $1::pg_catalog.text"};
inline constexpr Statement set_queue_config{
    "pgque_set_queue_config", Role::admin,
    "select pgque.set_queue_config($1::pg_catalog.text, name, " PGQUE_SETTING_VALUE
    ") from rows from (pg_catalog.unnest($2::pg_catalog.text::pg_catalog.text[]), "
    "pg_catalog.unnest($3::pg_catalog.text::pg_catalog.text[])) as setting(name, value)"};
inline constexpr Statement subscribe_at{
    "pgque_subscribe_at", Role::reader,
    "select pgque.register_consumer_at($1::pg_catalog.text, $2::pg_catalog.text, $3::bigint)"};

// The latest tick that is not after $2, microseconds since 1970, or else the oldest; the tick before that; the
// queue's id and its events.
inline constexpr Statement tick_at{
    "pgque_tick_at", Role::reader,
    "select t.tick_id, (select b.tick_id from pgque.tick b where b.tick_queue operator(pg_catalog.=) t.tick_queue and "
    "b.tick_id operator(pg_catalog.<) t.tick_id order by b.tick_id desc limit 1), queue_id, " PGQUE_EVENTS_TABLE
    " from pgque.queue join pgque.tick t on t.tick_queue operator(pg_catalog.=) queue_id where "
    "queue_name operator(pg_catalog.=) $1::pg_catalog.text order by "
    PGQUE_MICROSECONDS("t.tick_time") " operator(pg_catalog.<=) $2::bigint desc, case when "
    PGQUE_MICROSECONDS("t.tick_time") " operator(pg_catalog.<=) $2::bigint then t.tick_id else operator(pg_catalog.-) "
    "t.tick_id end desc limit 1"};
// How many events at or after the time, microseconds since 1970, the tick has that the one before it does not have: a
// tick is dated to the beginning of the ticker's transaction.
inline std::string events_ahead_of_tick(const std::string& events, std::int64_t queue_id, std::int64_t before,
                                        std::int64_t tick, std::int64_t time) {
  const auto snapshot = [&](std::int64_t id) {
    return "(select tick_snapshot from pgque.tick where tick_queue operator(pg_catalog.=) " + std::to_string(queue_id) +
           " and tick_id operator(pg_catalog.=) " + std::to_string(id) + ')';
  };
  return "select pg_catalog.count(*) from " + events +
         " where ev_txid operator(pg_catalog.>=) pg_catalog.pg_snapshot_xmin(" + snapshot(before) +
         ") and pg_catalog.pg_visible_in_snapshot(ev_txid, " + snapshot(tick) +
         ") and " PGQUE_MICROSECONDS("ev_time") " operator(pg_catalog.>=) " + std::to_string(time) + "::bigint";
}

// For queues under test (src/testing). Their advisory locks have one key, unlike those of tickers.
inline constexpr Statement kit_lock{"pgque_kit_lock", Role::none, "select pg_catalog.pg_advisory_lock($1::bigint)"};
inline constexpr Statement kit_try_lock{"pgque_kit_try_lock", Role::none,
                                        "select pg_catalog.pg_try_advisory_lock($1::bigint)::integer"};
inline constexpr Statement kit_unlock{"pgque_kit_unlock", Role::none,
                                      "select pg_catalog.pg_advisory_unlock($1::bigint)"};
inline constexpr Statement kit_lock_shared{"pgque_kit_lock_shared", Role::none,
                                           "select pg_catalog.pg_advisory_lock_shared($1::bigint)"};
inline constexpr Statement kit_unlock_shared{"pgque_kit_unlock_shared", Role::none,
                                             "select pg_catalog.pg_advisory_unlock_shared($1::bigint)"};
inline constexpr Statement kit_now{"pgque_kit_now", Role::none,
                                   "select pg_catalog.pg_current_snapshot()::pg_catalog.text, extract(epoch from "
                                   "pg_catalog.clock_timestamp())::bigint"};
// All queues, and when a consumer whose name begins with $1 was subscribed or last active, in seconds since 1970.
inline constexpr Statement kit_queues{
    "pgque_kit_queues", Role::reader,
    "select queue_name, (select extract(epoch from pg_catalog.max(sub_active))::bigint from pgque.subscription join "
    "pgque.consumer on co_id operator(pg_catalog.=) sub_consumer where sub_queue operator(pg_catalog.=) queue_id and "
    "pg_catalog.starts_with(co_name, $1::pg_catalog.text)) from pgque.queue order by queue_name"};
// What pgque.maint_retry_events() does, for one queue, and for retries that are not due as well.
inline constexpr Statement kit_bring_retries_back{
    "pgque_kit_bring_retries_back", Role::admin,
    "with due as (delete from pgque.retry_queue where ev_queue operator(pg_catalog.=) (select queue_id from "
    "pgque.queue where queue_name operator(pg_catalog.=) $1::pg_catalog.text) returning ev_id, ev_time, ev_owner, "
    "ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4) select "
    "pg_catalog.count(pgque.insert_event_raw($1::pg_catalog.text, ev_id, ev_time, ev_owner, ev_retry, ev_type, "
    "ev_data, "
    "ev_extra1, ev_extra2, ev_extra3, ev_extra4)) from due",
    SearchPath::own};
inline constexpr Statement kit_events_table{
    "pgque_kit_events_table", Role::reader,
    "select " PGQUE_EVENTS_TABLE " from pgque.queue where queue_name operator(pg_catalog.=) $1::pg_catalog.text"};
// The events that were committed after the snapshot, without retries, in the columns of PGQUE_MESSAGE_COLUMNS.
inline std::string events_since(const std::string& events, const std::string& snapshot) {
  return "select ev_id, 0, ev_type, ev_data, ev_retry, pg_catalog.encode(pg_catalog.timestamptz_send(ev_time), 'hex'), "
         "ev_extra1, ev_extra2, ev_extra3, ev_extra4 from " +
         events + " where ev_owner is null and not pg_catalog.pg_visible_in_snapshot(ev_txid, '" + snapshot +
         "'::pg_catalog.pg_snapshot) order by ev_id";
}

#define PGQUE_QUEUE_COLUMNS \
  "q.queue_name, q.queue_ntables, q.queue_cur_table, " PGQUE_MICROSECONDS("q.queue_rotation_period") ", " \
  PGQUE_MICROSECONDS("q.queue_switch_time") ", q.queue_ticker_max_count, " \
  PGQUE_MICROSECONDS("q.queue_ticker_max_lag") ", " PGQUE_MICROSECONDS("q.queue_ticker_idle_period") ", " \
  "q.queue_ticker_paused::integer, q.queue_external_ticker::integer, q.queue_disable_insert::integer, " \
  "q.queue_max_retries, "
// What get_queue_info() does not tell: the latest tick t, and the number r of messages in the retry queue.
#define PGQUE_QUEUE_TOTALS ", " PGQUE_MICROSECONDS("t.tick_time") ", t.tick_event_seq, coalesce(r.waiting, 0) "
#define PGQUE_JOIN_QUEUE_TOTALS                                                                                        \
  "left join lateral (select tick_id, tick_time, tick_event_seq from pgque.tick where "                                \
  "tick_queue operator(pg_catalog.=) q.queue_id order by tick_id desc limit 1) t on true left join (select ev_queue, " \
  "pg_catalog.count(*) as waiting from pgque.retry_queue group by ev_queue) r on "                                     \
  "r.ev_queue operator(pg_catalog.=) q.queue_id "
inline constexpr Statement queue_info{"pgque_queue_info", Role::reader,
    "select " PGQUE_QUEUE_COLUMNS "i.last_tick_id, " PGQUE_MICROSECONDS("i.ticker_lag") ", i.ev_new, "
    "case when i.ev_per_sec is not null then least(greatest(i.ev_per_sec operator(pg_catalog.*) 1000, '-1e18'), "
    "1e18)::bigint end" PGQUE_QUEUE_TOTALS "from pgque.get_queue_info() i join pgque.queue q on "
    "q.queue_name operator(pg_catalog.=) i.queue_name " PGQUE_JOIN_QUEUE_TOTALS "where $1::pg_catalog.text is null or "
    "q.queue_name operator(pg_catalog.=) $1::pg_catalog.text order by q.queue_name", SearchPath::own};
// The part of the queue information that every role can read, and that no odd value makes fail.
inline constexpr Statement queue_info_limited{
    "pgque_queue_info_limited", Role::reader,
    "select " PGQUE_QUEUE_COLUMNS "t.tick_id, " PGQUE_AGE(
        "t.tick_time") ", null, null" PGQUE_QUEUE_TOTALS "from pgque.queue q " PGQUE_JOIN_QUEUE_TOTALS
                       "where $1::pg_catalog.text is null or "
                       "q.queue_name operator(pg_catalog.=) $1::pg_catalog.text order by q.queue_name"};
inline constexpr Statement queue_exists{
    "pgque_queue_exists", Role::none,
    "select 1 from pgque.queue where queue_name operator(pg_catalog.=) $1::pg_catalog.text"};
#define PGQUE_JOIN_GROUP                                                                                   \
  "left join pgque.subscription main on s.sub_role operator(pg_catalog.=) 'coop_member' and "              \
  "main.sub_queue operator(pg_catalog.=) s.sub_queue and main.sub_id operator(pg_catalog.=) s.sub_id and " \
  "main.sub_role operator(pg_catalog.=) 'coop_main' left join pgque.consumer g on "                        \
  "g.co_id operator(pg_catalog.=) main.sub_consumer "
inline constexpr Statement consumer_info{"pgque_consumer_info", Role::reader,
    "select i.queue_name, i.consumer_name, s.sub_role, g.co_name, " PGQUE_MICROSECONDS("i.lag") ", "
    PGQUE_MICROSECONDS("i.last_seen") ", i.last_tick, i.current_batch, i.next_tick, i.pending_events, "
    PGQUE_MICROSECONDS("done.tick_time") ", " PGQUE_MICROSECONDS("s.sub_active") " from "
    "pgque.get_consumer_info() i join pgque.queue q on q.queue_name operator(pg_catalog.=) i.queue_name join "
    "pgque.consumer c on c.co_name operator(pg_catalog.=) i.consumer_name join pgque.subscription s on "
    "s.sub_queue operator(pg_catalog.=) q.queue_id and s.sub_consumer operator(pg_catalog.=) c.co_id " PGQUE_JOIN_GROUP
    "left join pgque.tick done on done.tick_queue operator(pg_catalog.=) q.queue_id and "
    "done.tick_id operator(pg_catalog.=) s.sub_last_tick where ($1::pg_catalog.text is null or "
    "i.queue_name operator(pg_catalog.=) $1::pg_catalog.text) and "
    "($2::pg_catalog.text is null or i.consumer_name operator(pg_catalog.=) $2::pg_catalog.text) "
    "order by i.queue_name, i.consumer_name"};
// A subscription, with the tick that its consumer has finished last, and the latest one.
#define PGQUE_SUBSCRIPTIONS                                                                                       \
  "from pgque.queue q join pgque.subscription s on s.sub_queue operator(pg_catalog.=) q.queue_id join "           \
  "pgque.consumer c on c.co_id operator(pg_catalog.=) s.sub_consumer " PGQUE_JOIN_GROUP                           \
  "left join pgque.tick done on done.tick_queue operator(pg_catalog.=) q.queue_id and "                           \
  "done.tick_id operator(pg_catalog.=) s.sub_last_tick left join lateral (select tick_time, tick_event_seq from " \
  "pgque.tick where tick_queue operator(pg_catalog.=) q.queue_id order by tick_id desc limit 1) latest on true "
#define PGQUE_IS_SILENT(seconds)                                                           \
  "s.sub_active operator(pg_catalog.<) (pg_catalog.now() operator(pg_catalog.-) (" seconds \
  "::bigint "                                                                              \
  "operator(pg_catalog.*) interval '1 second'))"
// The same from the tables, for when an odd value makes get_consumer_info() fail.
inline constexpr Statement consumer_info_from_tables{"pgque_consumer_info_from_tables", Role::reader,
    "select q.queue_name, c.co_name, s.sub_role, g.co_name, " PGQUE_AGE("done.tick_time") ", "
    PGQUE_AGE("s.sub_active") ", s.sub_last_tick, s.sub_batch, s.sub_next_tick, "
    "latest.tick_event_seq operator(pg_catalog.-) done.tick_event_seq, " PGQUE_MICROSECONDS("done.tick_time") ", "
    PGQUE_MICROSECONDS("s.sub_active") " " PGQUE_SUBSCRIPTIONS
    "where ($1::pg_catalog.text is null or q.queue_name operator(pg_catalog.=) $1::pg_catalog.text) and "
    "($2::pg_catalog.text is null or c.co_name operator(pg_catalog.=) $2::pg_catalog.text) "
    "order by q.queue_name, c.co_name"};
// The workers that have given no sign of life for $1 seconds, those silent for the longest first.
inline constexpr Statement silent_workers{"pgque_silent_workers", Role::reader,
    "select q.queue_name, c.co_name, s.sub_role, g.co_name, " PGQUE_AGE("done.tick_time") ", "
    PGQUE_AGE("s.sub_active") ", s.sub_last_tick, s.sub_batch, s.sub_next_tick, null::bigint, "
    PGQUE_MICROSECONDS("done.tick_time") ", " PGQUE_MICROSECONDS("s.sub_active") " " PGQUE_SUBSCRIPTIONS
    "where s.sub_role operator(pg_catalog.=) 'coop_member' and " PGQUE_IS_SILENT("$1")
    " order by s.sub_active, 1, 2"};
// The names of the sessions that workers may have.
inline constexpr Statement worker_sessions{
    "pgque_worker_sessions", Role::none,
    "select distinct application_name from pg_catalog.pg_stat_activity where datname operator(pg_catalog.=) "
    "pg_catalog.current_database() and pg_catalog.starts_with(application_name, $1::pg_catalog.text)"};
// Removes the worker $3 of the group $2 if that is silent for $4 seconds, no session has the name $5, or with $6 one
// that begins so, and the group has another worker: without any it would become a normal consumer. Whoever runs this
// has locked the group.
inline constexpr Statement unsubscribe_gone{
    "pgque_unsubscribe_gone", Role::reader,
    "select pgque.unsubscribe_subconsumer($1::pg_catalog.text, $2::pg_catalog.text, $3::pg_catalog.text, 1) from "
    "pgque.subscription s where s.sub_queue operator(pg_catalog.=) " PGQUE_QUEUE_ID
    " and s.sub_id operator(pg_catalog.=) " PGQUE_GROUP_ID " and s.sub_role operator(pg_catalog.=) 'coop_member' and "
    "s.sub_consumer operator(pg_catalog.=) " PGQUE_CONSUMER_ID("(" PGQUE_WORKER_NAME ")") " and "
    PGQUE_IS_SILENT("$4") " and exists (select from pgque.subscription o where "
    "o.sub_queue operator(pg_catalog.=) s.sub_queue and o.sub_id operator(pg_catalog.=) s.sub_id and "
    "o.sub_role operator(pg_catalog.=) 'coop_member' and o.sub_consumer operator(pg_catalog.<>) s.sub_consumer) and "
    "not exists (select from pg_catalog.pg_stat_activity a where a.datname operator(pg_catalog.=) "
    "pg_catalog.current_database() and case when $6::integer operator(pg_catalog.=) 0 then a.application_name "
    "operator(pg_catalog.=) $5::pg_catalog.text else pg_catalog.starts_with(a.application_name, $5::pg_catalog.text) "
    "end)"};
inline constexpr Statement batch_info{"pgque_batch_info", Role::reader,
    "select queue_name, consumer_name, " PGQUE_MICROSECONDS("batch_start") ", " PGQUE_MICROSECONDS("batch_end") ", "
    "prev_tick_id, tick_id, " PGQUE_MICROSECONDS("lag") ", seq_end operator(pg_catalog.-) seq_start from "
    "pgque.get_batch_info($1::bigint) where queue_name is not null"};
inline constexpr Statement server_version{"pgque_server_version", Role::reader, "select pgque.version()"};
inline constexpr Statement status{"pgque_status", Role::admin, "select component, status, detail from pgque.status()"};

inline constexpr Statement dead_letters{"pgque_dead_letters", Role::reader,
    "select d.dl_id, $1::pg_catalog.text, c.co_name, " PGQUE_MICROSECONDS("d.dl_time") ", d.dl_reason, d.ev_id, "
    PGQUE_MICROSECONDS("d.ev_time") ", d.ev_retry, d.ev_type, d.ev_data, d.ev_extra1, d.ev_extra2, d.ev_extra3, "
    "d.ev_extra4 from pgque.dlq_inspect($1::pg_catalog.text, $2::integer) d join pgque.consumer c on "
    "c.co_id operator(pg_catalog.=) d.dl_consumer_id order by d.dl_time desc, d.dl_id desc"};
inline constexpr Statement count_dead_letters{"pgque_count_dead_letters", Role::reader,
    "select queue_name, co_name, pg_catalog.count(*), " PGQUE_MICROSECONDS("pg_catalog.min(dl_time)") ", "
    PGQUE_MICROSECONDS("pg_catalog.max(dl_time)") " from pgque.dead_letter join pgque.queue on "
    "queue_id operator(pg_catalog.=) dl_queue_id join pgque.consumer on co_id operator(pg_catalog.=) dl_consumer_id "
    "group by 1, 2 order by 1, 2"};
// In PgQue 0.2.0, two replays of one dead letter at the same time both send it, and a dead letter that is purged
// meanwhile counts as replayed and as purged. With the lock, the second call finds the dead letter gone.
#define PGQUE_DEAD_LETTER_LOCK "(select pg_catalog.pg_advisory_xact_lock(1885827445, 1919250540) offset 0) as lock"
inline constexpr Statement replay_dead_letter{"pgque_replay_dead_letter", Role::writer,
                                              "select pgque.dlq_replay($1::bigint) from " PGQUE_DEAD_LETTER_LOCK};
inline constexpr Statement replay_dead_letters{
    "pgque_replay_dead_letters", Role::writer,
    "select (r).replayed, (r).failed, (r).first_error from (select pgque.dlq_replay_all($1::pg_catalog.text) as r "
    "from " PGQUE_DEAD_LETTER_LOCK " offset 0) as done"};
inline constexpr Statement purge_dead_letters{
    "pgque_purge_dead_letters", Role::admin,
    "select pgque.dlq_purge($1::pg_catalog.text, $2::bigint operator(pg_catalog.*) interval '1 second') "
    "from " PGQUE_DEAD_LETTER_LOCK};

inline constexpr Statement set_tick_period{"pgque_set_tick_period", Role::admin,
                                           "select pgque.set_tick_period_ms($1::integer)"};
inline constexpr Statement tick_period{"pgque_tick_period", Role::reader, "select tick_period_ms from pgque.config"};

// The queries of diagnose(). Roles are recognised by the functions that they may call, because functions can be granted
// one by one.
inline constexpr Statement doctor_server{
    "pgque_doctor_server", Role::none,
    "select current_user::pg_catalog.text, pg_catalog.current_database()::pg_catalog.text, "
    "pg_catalog.pg_is_in_recovery()::integer, "
    "(pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'on')::integer, "
    "pg_catalog.pg_backend_pid(), (pg_catalog.to_regnamespace('pgque') is not null)::integer, "
    "pg_catalog.current_setting('server_encoding')"};
inline constexpr Statement doctor_install{
    "pgque_doctor_install", Role::none,
    "select (select pg_catalog.string_agg(pg_catalog.replace(f, 'pg_catalog.', ''), ', ') from "
    "pg_catalog.unnest(array['pgque.receive(pg_catalog.text, pg_catalog.text, integer)', "
    "'pgque.receive_coop(pg_catalog.text, pg_catalog.text, pg_catalog.text, integer, interval)', "
    "'pgque.send_batch(pg_catalog.text, pg_catalog.text, pg_catalog.text[])', "
    "'pgque.force_next_tick(pg_catalog.text)', 'pgque.touch_subconsumer(pg_catalog.text, pg_catalog.text, "
    "pg_catalog.text)', 'pgque.dlq_inspect(pg_catalog.text, integer)', 'pgque.maint_rotate_tables_step2()']) f where "
    "pg_catalog.to_regprocedure(f) is null), "
    "coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pgque.receive(pg_catalog.text, "
    "pg_catalog.text, integer)'), 'execute'), false)::integer, "
    "coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pgque.send(pg_catalog.text, "
    "pg_catalog.text, pg_catalog.text)'), 'execute'), false)::integer, "
    "coalesce(pg_catalog.has_function_privilege(pg_catalog.to_regprocedure('pgque.ticker()'), 'execute'), "
    "false)::integer, "
    "(pg_catalog.to_regprocedure('pgque.claim_slot(pg_catalog.text, pg_catalog.text, integer, pg_catalog.text, "
    "interval)') is not null)::integer, "
    "(pg_catalog.to_regprocedure('pgque.subscribe_partitioned(pg_catalog.text, pg_catalog.text, integer)') is not "
    "null)::integer"};
inline constexpr Statement doctor_config{
    "pgque_doctor_config", Role::reader,
    "select pg_catalog.to_jsonb(config) operator(pg_catalog.->>) 'scheduler' from pgque.config"};
// The session that holds the lock of the active ticker, if any; for how long it has been idle, if the role may see
// that; and whether there are sessions of tickers at all. Behind a pooler, a ticker holds the lock only while it ticks.
inline constexpr Statement doctor_ticker{
    "pgque_doctor_ticker", Role::none,
    "select l.pid, a.application_name, case when a.state operator(pg_catalog.=) 'idle' then "
    PGQUE_AGE("a.state_change") " end, exists (select from pg_catalog.pg_stat_activity where "
    "datname operator(pg_catalog.=) pg_catalog.current_database() and "
    "application_name operator(pg_catalog.=) 'pgque ticker')::integer from (select pg_catalog.max(pid) as pid from "
    "pg_catalog.pg_locks where locktype operator(pg_catalog.=) 'advisory' and granted and "
    "classid operator(pg_catalog.=) $1::integer and objid operator(pg_catalog.=) $2::integer and "
    "objsubid operator(pg_catalog.=) 2 and database operator(pg_catalog.=) (select oid from pg_catalog.pg_database "
    "where datname operator(pg_catalog.=) pg_catalog.current_database())) l left join pg_catalog.pg_stat_activity a "
    "on a.pid operator(pg_catalog.=) l.pid"};
// The last three columns tell whether the queue's sequence has gone on since the latest tick, and which table has its
// events; NULL if the role may not read them, which PgQue lets every role do. The sequence has gone on if its last
// value is greater than the tick's: PgQue's ticker compares them so, too. A new sequence's first value is that of the
// tick that create_queue() makes, so neither sees the first event of a queue until a second one is sent.
inline constexpr Statement doctor_queues{"pgque_doctor_queues", Role::none,
    "select queue_name, queue_ticker_paused::integer, queue_external_ticker::integer, queue_disable_insert::integer, "
    PGQUE_MICROSECONDS("queue_ticker_max_lag") ", " PGQUE_MICROSECONDS("queue_ticker_idle_period") ", "
    PGQUE_MICROSECONDS("queue_rotation_period") ", " PGQUE_AGE("queue_switch_time") ", (queue_switch_step2 is "
    "null)::integer, (select pg_catalog.count(*) from (select from pgque.tick where "
    "tick_queue operator(pg_catalog.=) queue_id order by tick_id desc limit 2) as latest_two), coalesce("
    PGQUE_AGE("t.tick_time") ", 0), "
    "coalesce(pg_catalog.pg_snapshot_xmax(t.tick_snapshot)::pg_catalog.text::bigint, 0), "
    "pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::bigint, (select "
    "pg_catalog.count(*) from pgque.subscription where sub_queue operator(pg_catalog.=) queue_id), "
    "coalesce(r.due, 0), coalesce("
    PGQUE_AGE("r.earliest") ", 0), queue_id, coalesce(t.tick_id, 0), "
    "(case when pg_catalog.has_sequence_privilege(pg_catalog.to_regclass(queue_event_seq)::pg_catalog.oid, 'select') "
    "then coalesce(pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(queue_event_seq)) "
    "operator(pg_catalog.>) t.tick_event_seq, false) end)::integer, "
    PGQUE_EVENTS_TABLE " from pgque.queue left join "
    "lateral (select tick_id, tick_time, tick_snapshot, tick_event_seq from pgque.tick where "
    "tick_queue operator(pg_catalog.=) queue_id order by tick_id desc limit 1) t on true left join (select "
    "ev_queue, pg_catalog.count(*) as due, pg_catalog.min(ev_retry_after) as earliest from pgque.retry_queue where "
    "ev_retry_after operator(pg_catalog.<=) pg_catalog.now() group by ev_queue) r on "
    "r.ev_queue operator(pg_catalog.=) queue_id order by queue_name"};
// Selects `column` of the events that the tick does not have, found by the index on the transaction: those of
// transactions that began after it, and those of transactions that were open then. `rest` ends both queries.
inline std::string beyond_tick(const std::string& events, std::int64_t queue_id, std::int64_t tick_id,
                               const std::string& column, const std::string& rest) {
  const auto of_tick = [&](const char* function) {
    return std::string{"select pg_catalog."} + function + "(tick_snapshot) from pgque.tick where " +
           "tick_queue operator(pg_catalog.=) " + std::to_string(queue_id) + " and tick_id operator(pg_catalog.=) " +
           std::to_string(tick_id);
  };
  const auto begin = "(select " + column + " from " + events + " where ev_txid ";
  return begin + "operator(pg_catalog.>=) (" + of_tick("pg_snapshot_xmax") + ")" + rest + ") union all " + begin +
         "operator(pg_catalog.=) any (array(" + of_tick("pg_snapshot_xip") + "))" + rest + ")";
}
// How old the oldest of them is, or nearly the oldest.
inline std::string oldest_waiting(const std::string& events, std::int64_t queue_id, std::int64_t tick_id) {
  return "select " PGQUE_AGE("pg_catalog.min(ev_time)") " from (" +
         beyond_tick(events, queue_id, tick_id, "ev_time", " order by ev_txid limit 1") + ") as waiting";
}
// The queues with their id, their latest tick, how far the sequence of their events has gone on since then, or 0, and
// the table with their events. The sequence counts what was rolled back, too, and does not count a queue's first event.
inline constexpr Statement unticked_queues{
    "pgque_unticked_queues", Role::none,
    "select queue_name, queue_id, t.tick_id, case when "
    "pg_catalog.has_sequence_privilege(pg_catalog.to_regclass(queue_event_seq)::pg_catalog.oid, 'select') then "
    "greatest(pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(queue_event_seq)) operator(pg_catalog.-) "
    "t.tick_event_seq, 0) else 0 end, " PGQUE_EVENTS_TABLE
    " from pgque.queue cross join lateral (select tick_id, tick_event_seq from pgque.tick where "
    "tick_queue operator(pg_catalog.=) queue_id order by tick_id desc limit 1) t order by queue_id"};
// How many events the tick does not have, counted up to `most`, with the queue's id.
inline std::string count_unticked(const std::string& events, std::int64_t queue_id, std::int64_t tick_id,
                                  std::int64_t most) {
  const auto limit = " limit " + std::to_string(most);
  return "select " + std::to_string(queue_id) + ", (select pg_catalog.count(*) from (" +
         beyond_tick(events, queue_id, tick_id, "ev_id", limit) + limit + ") as unticked)";
}
inline constexpr Statement doctor_consumers{
    "pgque_doctor_consumers", Role::none,
    "select q.queue_name, c.co_name, s.sub_role, g.co_name, s.sub_batch, " PGQUE_AGE(
        "s.sub_active") ", coalesce(" PGQUE_BETWEEN("done.tick_time",
                                                    "latest.tick_time") ", 0), s.sub_last_tick " PGQUE_SUBSCRIPTIONS
                                                                        "order by 1, 2"};
inline constexpr Statement doctor_dead_letters{
    "pgque_doctor_dead_letters", Role::reader,
    "select queue_name, pg_catalog.count(*), pg_catalog.count(*) filter (where "
    "dl_time operator(pg_catalog.>) (pg_catalog.now() operator(pg_catalog.-) ($1::bigint operator(pg_catalog.*) "
    "interval '1 second')) and dl_time operator(pg_catalog.<=) pg_catalog.now()) from pgque.dead_letter join "
    "pgque.queue on queue_id operator(pg_catalog.=) dl_queue_id group by 1 order by 1"};
inline constexpr Statement notify{"pgque_notify", Role::none, "select pg_catalog.pg_notify($1::pg_catalog.text, '')"};

// A cursor from which rows are fetched in pages. `hold` lets it outlive the transaction that declared it.
struct Cursor {
  const char* name;

  std::string declare(bool hold, const std::string& select) const {
    return std::string{"declare "} + name + " no scroll cursor " + (hold ? "with hold for " : "for ") + select;
  }
  std::string fetch(std::int64_t rows) const { return "fetch forward " + std::to_string(rows) + " from " + name; }
  std::string close() const { return std::string{"close "} + name; }
};
inline constexpr Cursor batch_cursor{"pgque_batch"};
inline constexpr Cursor dead_letter_cursor{"pgque_dead_letters"};

// A setting in milliseconds, for the session or for the current transaction alone.
inline std::string set_milliseconds(bool local, const char* setting, std::int64_t value) {
  return std::string{local ? "set local " : "set "} + setting + " = " + std::to_string(value) + ';';
}

// For the rest of the transaction, the server's limit.
inline constexpr const char* limit_as_server_does = "set local statement_timeout to default; ";

// The savepoint of a statement that may fail.
inline constexpr const char* set_attempt = "savepoint pgque_attempt";
inline constexpr const char* keep_attempt = "release savepoint pgque_attempt";
inline constexpr const char* undo_attempt = "rollback to savepoint pgque_attempt; release savepoint pgque_attempt";

// The savepoint of a handler. At its end deferred constraints are checked, because it is known only then whose writes
// violate them: at the batch's commit, one bad message would make every attempt fail. What has been checked is not
// checked again. Then all constraints are deferred, also those that are INITIALLY IMMEDIATE.
inline constexpr const char* set_handler = "savepoint pgque_handler";
inline constexpr const char* keep_handler = "release savepoint pgque_handler; ";
inline constexpr const char* check_and_keep_handler =
    "set constraints all immediate; release savepoint pgque_handler; set constraints all deferred; ";
// The same for one handler of many. Until the commit, PostgreSQL keeps what it has checked within a savepoint, and
// looks through all of it at each check; it forgets that when it checks something outside of all savepoints. So this
// handler's constraints are checked twice: within its savepoint, which a violation can be rolled back to, and after its
// release.
inline constexpr int handlers_per_cleanup = 64;
inline constexpr const char* check_twice_and_keep_handler =
    "savepoint pgque_check; set constraints all immediate; rollback to savepoint pgque_check; release savepoint "
    "pgque_handler; set constraints all immediate; set constraints all deferred; ";
inline constexpr const char* undo_handler = "rollback to savepoint pgque_handler; release savepoint pgque_handler";
// How many names of deferrable constraints there are, and those that are INITIALLY IMMEDIATE as a list for SET
// CONSTRAINTS, or NULL. A name means all constraints of this name in the schema, so a name that also belongs to an
// INITIALLY DEFERRED one is left out: these stay deferred until the end of the handler.
inline constexpr const char* deferrable_constraints =
    "select pg_catalog.count(*), pg_catalog.string_agg(name, ', ') filter (where immediate) from (select "
    "pg_catalog.format('%I.%I', n.nspname, c.conname) as name, not pg_catalog.bool_or(c.condeferred) and "
    "pg_catalog.has_schema_privilege(n.oid, 'usage') as immediate from pg_catalog.pg_constraint c join "
    "pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.connamespace where c.condeferrable and not "
    "pg_catalog.pg_is_other_temp_schema(n.oid) group by n.oid, 1) as names";
// In a savepoint, because one of them may have been dropped meanwhile.
inline std::string make_immediate(const std::string& constraints) {
  if (constraints.empty()) return {};
  return "savepoint pgque_constraints; set constraints " + constraints +
         " immediate; release savepoint pgque_constraints; ";
}
inline constexpr const char* undo_make_immediate =
    "rollback to savepoint pgque_constraints; release savepoint pgque_constraints";
// What a handler has set for its transaction outlives its savepoint. The role could let the next handler, and the
// library's statements, do too much or too little, and the encoding could change their texts. The other settings could
// make the library's statements fail, or change what they mean.
inline constexpr const char* reset_role =
    "reset session authorization; reset role; set local client_encoding = 'UTF8'; ";
inline constexpr const char* reset_settings = "set local lock_timeout to default; set local search_path to default; ";

}  // namespace pgque::detail::sql
