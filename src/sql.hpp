#pragma once

// Every SQL statement of the library. Calls are positional, because PgQue's argument names differ between functions
// and versions, and every parameter has a cast, because its overloads are chosen by type.

namespace pgque::detail {

enum class Role { none, reader, writer, admin };

struct Statement {
  const char* name;
  Role role;  // what the caller has to be granted
  const char* sql;
};

namespace sql {

// The columns of pgque.message as row.cpp reads them: created_at as its eight bytes, which is exact whatever DateStyle
// and TimeZone are, and costs the server a quarter of what arithmetic on it does.
#define PGQUE_MESSAGE_COLUMNS                                                                                   \
  "msg_id, batch_id, type, payload, retry_count, encode(timestamptz_send(created_at), 'hex'), extra1, extra2, " \
  "extra3, extra4"
// Only the id of a message counts in a nack; PgQue looks the rest up.
#define PGQUE_MESSAGE_OF_ID(id) "row(" id ", null, null, null, null, null, null, null, null, null)::pgque.message"

inline constexpr Statement send_json{"pgque_send_json", Role::writer,
                                     "select pgque.send($1::text, $2::text, $3::text::jsonb)"};
inline constexpr Statement send_text{"pgque_send_text", Role::writer,
                                     "select pgque.send($1::text, $2::text, $3::text)"};
inline constexpr Statement send_batch_json{"pgque_send_batch_json", Role::writer,
                                           "select pgque.send_batch($1::text, $2::text, $3::text[]::jsonb[])"};
inline constexpr Statement send_batch_text{"pgque_send_batch_text", Role::writer,
                                           "select pgque.send_batch($1::text, $2::text, $3::text[])"};
// $3 tells which payloads are to be checked and normalised as JSON.
inline constexpr Statement send_batch_mixed{
    "pgque_send_batch_mixed", Role::writer,
    "select pgque.send_batch($1::text, $2::text, (select array_agg(case when is_json then payload::jsonb::text else "
    "payload end order by i) from unnest($4::text[], $3::text::bool[]) with ordinality as p(payload, is_json, i)))"};

inline constexpr Statement subscribe{"pgque_subscribe", Role::reader, "select pgque.subscribe($1::text, $2::text)"};
inline constexpr Statement unsubscribe{"pgque_unsubscribe", Role::reader,
                                       "select pgque.unsubscribe($1::text, $2::text)"};
inline constexpr Statement receive{"pgque_receive", Role::reader,
                                   "select " PGQUE_MESSAGE_COLUMNS " from pgque.receive($1::text, $2::text, $3::int4)"};
inline constexpr Statement next_batch{"pgque_next_batch", Role::reader, "select pgque.next_batch($1::text, $2::text)"};
inline constexpr Statement ack{"pgque_ack", Role::reader, "select pgque.ack($1::int8)"};
inline constexpr Statement nack{"pgque_nack", Role::reader,
                                "select pgque.nack($1::int8, " PGQUE_MESSAGE_OF_ID("$2::int8") ", "
                                "$3::int8 * interval '1 second', $4::text)"};
inline constexpr Statement nack_many{
    "pgque_nack_many", Role::reader,
    "select pgque.nack($1::int8, " PGQUE_MESSAGE_OF_ID("n.id") ", n.delay * interval '1 second', n.reason) "
    "from unnest($2::text::int8[], $3::text::int8[], $4::text[]) as n(id, delay, reason)"};

inline constexpr Statement subscribe_subconsumer{
    "pgque_subscribe_subconsumer", Role::reader,
    "select pgque.subscribe_subconsumer($1::text, $2::text, $3::text, $4::int4::bool)"};
inline constexpr Statement unsubscribe_subconsumer{
    "pgque_unsubscribe_subconsumer", Role::reader,
    "select pgque.unsubscribe_subconsumer($1::text, $2::text, $3::text, $4::int4)"};
inline constexpr Statement receive_coop{
    "pgque_receive_coop", Role::reader,
    "select " PGQUE_MESSAGE_COLUMNS
    " from pgque.receive_coop($1::text, $2::text, $3::text, $4::int4, $5::int8 * interval '1 microsecond')"};
inline constexpr Statement next_batch_coop{
    "pgque_next_batch_coop", Role::reader,
    "select pgque.next_batch($1::text, $2::text, $3::text, $4::int8 * interval '1 microsecond')"};
inline constexpr Statement touch_subconsumer{"pgque_touch_subconsumer", Role::reader,
                                             "select pgque.touch_subconsumer($1::text, $2::text, $3::text)"};

inline constexpr Statement force_next_tick{"pgque_force_next_tick", Role::admin,
                                           "select pgque.force_next_tick($1::text)"};
inline constexpr Statement force_tick{"pgque_force_tick", Role::admin, "select pgque.force_tick($1::text)"};
inline constexpr Statement ticker{"pgque_ticker", Role::admin, "select pgque.ticker($1::text)"};
inline constexpr Statement ticker_all{"pgque_ticker_all", Role::admin, "select pgque.ticker()"};

inline constexpr Statement maint_retry_events{"pgque_maint_retry_events", Role::admin,
                                              "select pgque.maint_retry_events()"};
inline constexpr Statement maint{"pgque_maint", Role::admin, "select pgque.maint()"};
inline constexpr Statement rotate_step2{"pgque_rotate_step2", Role::admin, "select pgque.maint_rotate_tables_step2()"};
// Lowers ticker_max_lag where it is higher; never raises it.
inline constexpr Statement lower_max_lag{
    "pgque_lower_max_lag", Role::admin,
    "select pgque.set_queue_config(queue_name, 'ticker_max_lag', ($1::int8 * interval '1 millisecond')::text) "
    "from pgque.get_queue_info() where queue_ticker_max_lag > $1::int8 * interval '1 millisecond'"};
// One ticker per database: the lock is per database by nature, the two keys keep it apart from other users' locks.
inline constexpr Statement try_leader_lock{"pgque_try_leader_lock", Role::none,
                                           "select pg_try_advisory_lock($1::int4, $2::int4)::int"};

// For sessions of our own that stay, unless they lead through a pooler, which sees to this by itself. The server looks
// for this client as often as the client looks for the server, if not more often: until it finds it gone, what its
// transaction has locked stays locked. And it does not end a session that waits, for a notification or in split mode
// for handlers, nor, from PostgreSQL 17 on, a transaction that takes long.
inline constexpr const char* last_as_long_as_wanted =
    "select set_config(name, most::text, false) from pg_settings join (values ('tcp_keepalives_idle', 30), "
    "('tcp_keepalives_interval', 10), ('tcp_keepalives_count', 3), ('tcp_user_timeout', 60000)) as v(name, most) "
    "using (name) where setting::int not between 1 and most;"
    "select set_config(name, '0', false) from pg_settings where name in ('idle_session_timeout', "
    "'transaction_timeout');";

}  // namespace sql
}  // namespace pgque::detail
