#include "database/error_map.hpp"

#include <functional>
#include <new>
#include <string>
#include <typeindex>
#include <typeinfo>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pqxx/except>

namespace pgque::test {
namespace {

using detail::Call;
using detail::FailureContext;
using detail::Role;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::ThrowsMessage;

const Call operation{"receive", "orders", "worker"};
constexpr const char* described = "receive (queue \"orders\", consumer \"worker\")";

// Runs something that throws and keeps the error together with its most derived class.
struct Caught {
  Error error;
  std::type_index type;
};

Caught caught(const std::function<void()>& throwing) {
  try {
    throwing();
  } catch (const Error& error) {
    return {error, typeid(error)};
  }
  throw std::runtime_error{"nothing was thrown"};
}

Caught from_server(const char* sqlstate, const std::string& message, Role role = Role::none) {
  Error::Facts facts;
  facts.operation = described;
  facts.sqlstate = sqlstate;
  facts.server_message = message;
  return caught([&] { detail::throw_server_error(facts, role); });
}

template <class E>
void map(const E& error, bool connection_open = true, bool may_have_committed = false, Role role = Role::none) {
  try {
    throw error;
  } catch (const std::exception& e) {
    detail::throw_mapped(e, FailureContext{operation, role, connection_open, may_have_committed});
  }
}

template <class E>
Caught mapped(const E& error, bool connection_open = true, bool may_have_committed = false, Role role = Role::none) {
  return caught([&] { map(error, connection_open, may_have_committed, role); });
}

// libpqxx as it reports a server's error: its text is everything libpq has to say.
pqxx::sql_error sql_error(const char* sqlstate, const std::string& message) {
  return pqxx::sql_error{"ERROR:  " + message + "\nCONTEXT:  PL/pgSQL function f() line 1 at RAISE\n", "select f()",
                         sqlstate};
}

constexpr const char* no_advice = "";
constexpr const char* subscribe_first = "no such queue, or the consumer is not subscribed to it: call subscribe()";
constexpr const char* not_installed = "PgQue is not installed in this database, or is too old: load pgque.sql";
constexpr const char* unsubscribe_first = "unsubscribe them first, or drop the queue with its consumers";
constexpr const char* go_to_primary = "the server is read-only: connect to the primary";
constexpr const char* set_pooled =
    "a pooler in transaction mode is in between, or somebody discards prepared statements: set `pooled`";

constexpr const char* convert =
    "to let several workers share it, set ConsumerOptions::convert, or run `pgque subscribe QUEUE CONSUMER "
    "--subconsumer NAME --convert`; to go on with one, leave subconsumer empty";
constexpr const char* finish_first =
    "its open batch has to be finished first, by a consumer without subconsumer (until_drained ends it then); or "
    "`pgque "
    "subscribe QUEUE CONSUMER --at TICK` with its last tick, which `pgque consumers --json` shows, gives the batch up, "
    "and its messages are delivered again";
constexpr const char* be_a_worker =
    "set subconsumer to work as one of its workers; or stop these and run `pgque unsubscribe QUEUE CONSUMER --workers "
    "--retry-batch`, which makes it a normal consumer again";
constexpr const char* remove_workers_first = "remove its workers first: `pgque unsubscribe QUEUE CONSUMER --workers`";
constexpr const char* retry_batch =
    "the worker has an open batch: BatchHandling::retry, or --retry-batch, puts its messages up for retry";

struct Row {
  const char* sqlstate;
  const char* message;
  std::type_index type = typeid(Error);
  bool retryable = false;
  const char* advice = no_advice;
};

// Every error text of PgQue, and every other SQLSTATE that its calls are known to end with.
const Row rows[] = {
    // send, send_batch, insert_event, force_next_tick, force_tick, external ticker
    {"P0001", "queue not found: nope", typeid(QueueNotFound)},
    {"P0001", "queue not found: <NULL>", typeid(QueueNotFound)},
    {"P0001", "queue not found: ", typeid(QueueNotFound)},
    {"P0001", "payloads must not be null"},
    {"P0001", "Insert into queue disallowed"},
    // ticker
    {"P0001", "no such queue", typeid(QueueNotFound)},
    {"P0001", "This queue has external tick source."},
    {"P0001", "Ticker has been paused for this queue"},
    {"P0001", "Invalid PgQ state: old xmin=9000000, old xmax=9000000, cur txid=956", typeid(Error), false,
     "the queue's ticks recorded transaction ids that this server has not reached, because the database was restored "
     "into a younger cluster: raise the epoch of its ids with pg_resetwal -e, as pgque doctor says, or drop the queue "
     "and create it again, which loses its events"},
    // maint
    {"P0001", "queue orders maint failure: tick 5 not found", typeid(Error), false,
     "a consumer of that queue stands at a tick that does not exist (sub_last_tick): unsubscribe it, or move it with "
     "register_consumer_at()"},
    {"P0001", "queue k1 is paused (queue_ticker_paused = true)"},
    {"P0001",
     "queue k1 is configured for external ticker; force_tick is meaningless \xE2\x80\x94 push ticks via "
     "pgque.ticker(queue, tick_id, ts, event_seq)"},
    {"P0001",
     "queue k1 is not configured for external ticker (queue_external_ticker = false); use pgque.ticker(queue) instead"},
    {"P0001", "external ticker tick_id must be strictly greater than current max (3 <= 3)"},
    {"P0001", "external ticker event_seq must be >= previous tick (1 < 6003)"},
    {"P0001", "tick_period_ms must be an exact divisor of 1000 between 1 and 1000 (got 300)"},
    // queue administration
    {"P0001", "No such event queue", typeid(QueueNotFound)},
    {"P0001", "Invalid NULL value"},
    {"P0001", "queue name too long: 58 bytes (max 57). pg_notify channel 'pgque_<queue_name>' must fit in 63 bytes."},
    {"P0001", "cannot drop queue, consumers still attached", typeid(Error), false, unsubscribe_first},
    {"P0001", "cannot unregister cooperative main consumer with registered subconsumers", typeid(Error), false,
     remove_workers_first},
    {"P0001", "cannot change parameter \"boguss\""},
    {"P0001", "cannot change parameter \"disable_inserts\""},
    {"P0001", "set_queue_config: ticker_max_count must be > 0, got 0"},
    {"P0001", "set_queue_config: max_retries must be >= 0, got -1"},
    {"P0001", "set_queue_config: ticker_max_lag must be > 0, got 00:00:00"},
    {"P0001", "set_queue_config: ticker_idle_period must be > 0, got 00:00:00"},
    {"P0001", "set_queue_config: rotation_period must be > 0, got 00:00:00"},
    // subscribe, unsubscribe
    {"P0001", "Event queue not created yet", typeid(QueueNotFound)},
    {"P0001", "No ticks for this queue.  Please run ticker on database."},
    {"P0001", "cannot reposition, tick not found: 999"},
    {"P0001", "cannot unregister active cooperative subconsumer without forced batch handling", typeid(Error), false,
     retry_batch},
    // receive, next_batch
    {"P0001", "Not subscriber to queue: nope/c", typeid(ConsumerNotFound), false, subscribe_first},
    {"P0001", "Not subscriber to queue: NULL/NULL", typeid(ConsumerNotFound), false, subscribe_first},
    {"P0001", "pgque.receive: max_return must be >= 1, got 0"},
    {"P0001",
     "consumer g on queue co is a cooperative main consumer; use cooperative receive/next_batch with a subconsumer",
     typeid(Error), false, be_a_worker},
    {"P0001",
     "consumer g.w1 on queue co is a cooperative subconsumer; use receive_coop / next_batch (cooperative form) instead "
     "of the legacy 5-arg next_batch_custom",
     typeid(Error), false, "give the part of the name behind the dot as subconsumer"},
    // nack, event_retry, event_dead
    {"P0001", "batch not found: 999999", typeid(BatchNotFound)},
    {"P0001", "batch not found: <NULL>", typeid(BatchNotFound)},
    {"P0001", "batch not found", typeid(BatchNotFound)},
    {"P0001", "msg_id 1 not found in batch 5"},
    {"P0001", "msg_id <NULL> not found in batch 5"},
    {"P0001", "event not found", typeid(BatchNotFound)},
    // functions older than PgQue, which it keeps
    {"P0001", "Event queue not found", typeid(QueueNotFound)},
    {"P0001", "Cannot find data for batch 7", typeid(BatchNotFound)},
    // cooperative consumers
    {"P0001", "queue name must not be empty"},
    {"P0001", "consumer name must not be empty"},
    {"P0001", "subconsumer name must not be empty"},
    {"P0001", "cooperative consumer name must not contain dot: g.x"},
    {"P0001", "cooperative subconsumer name must not contain dot: w.1"},
    {"P0001", "consumer norm on queue co is already a normal consumer; explicit conversion is required", typeid(Error),
     false, convert},
    {"P0001", "cannot convert active normal consumer act on queue co to cooperative main", typeid(Error), false,
     finish_first},
    {"P0001", "consumer name g.w9 on queue co is already registered incompatibly"},
    {"P0001", "pgque.receive_coop: max_return must be >= 1, got 0"},
    {"P0001", "cannot unregister active cooperative subconsumer co/auto/w4 without batch_handling = 1", typeid(Error),
     false, retry_batch},
    {"P0001", "unsupported batch_handling value: 2"},
    // dead letters, schedulers
    {"P0001", "dead letter entry not found: 3"},
    {"P0001", "dead letter entry not found: <NULL>"},
    {"P0001",
     "pg_cron extension is not installed. PgQue itself works without pg_cron, but pgque.start() schedules cron jobs. "
     "Install pg_cron first, or run pgque.ticker() and pgque.maint() manually."},
    {"P0001",
     "pg_timetable schema/API is not installed. Run pg_timetable against this database first, or use pgque.start() for "
     "pg_cron."},
    // the development version
    {"P0001", "consumer name must not contain the reserved character #: a#b"},
    {"P0001", "consumer a#b is a partition slot consumer; use pgque.receive_partitioned()"},
    {"P0001", "batch 2 belongs to partition slot consumer c#0/2; use pgque.ack_partitioned()"},
    {"P0001", "batch 2 belongs to partition slot consumer c#0/2; retry slot batches via pgque.nack_partitioned()"},
    {"P0001", "idem_key must not be null"},
    {"P0001", "ttl must be a positive interval"},
    {"P0001", "consumer c on queue ps is pinned to n=2; got n=3 (unsubscribe all slots to change the slot count)"},
    {"P0001", "slot 2 out of range for n=2 (valid: 0..1)"},
    {"P0001", "slot 5 out of range for consumer c on queue ps (valid: 0..1)"},
    {"P0001", "slot count n must be >= 1, got 0"},
    {"P0001", "partitioned consumer name must not contain #: c#"},
    {"P0001", "worker id must not be empty"},
    {"P0001", "lease ttl must be >= 1 second, got 00:00:00.5"},
    {"P0001", "consumer nope on queue ps is not a partitioned consumer; call pgque.subscribe_slot() first"},
    {"P0001", "slot 1 of consumer c on queue ps is not subscribed; call pgque.subscribe_slot()"},
    {"P0001", "slot 0 of consumer c on queue ps is not leased; call pgque.claim_slot() first"},
    {"P0001", "lease on slot 0 of consumer c on queue ps is held by worker wA, not wB; fenced"},
    {"P0001", "wrong slot count for consumer c on queue ps: pinned n=2, caller passed n=3"},
    {"P0001", "queue, consumer, slot, and n must not be null"},
    {"P0001", "pgque.receive_partitioned: max must be >= 1, got 0"},
    {"P0001", "slot 0 of consumer c on queue ps has no open batch to nack"},
    // values the server refuses
    {"22003", "integer out of range"},
    {"22003", "value \"99999999999\" is out of range for type integer"},
    {"22007", "invalid input syntax for type interval: \"soon\""},
    {"22021", "invalid byte sequence for encoding \"UTF8\": 0x00"},
    {"22P02", "invalid input syntax for type json"},
    {"22P02", "invalid input syntax for type bigint: \"abc\""},
    {"22P02", "malformed record literal: \"(4009)\""},
    {"22P05", "unsupported Unicode escape sequence"},
    {"2201W", "LIMIT must not be negative"},
    {"23502", "null value in column \"co_name\" of relation \"consumer\" violates not-null constraint"},
    {"23502", "null value in column \"ev_retry_after\" of relation \"retry_queue\" violates not-null constraint"},
    {"2D000", "invalid transaction termination"},
    {"42725", "function pgque.send_batch(unknown, unknown) is not unique"},
    {"54000", "index row size 2728 exceeds btree version 4 maximum 2704 for index \"consumer_name_uq\""},
    // registration races, and a unique violation that is none
    {"23505", "duplicate key value violates unique constraint \"queue_name_uq\"", typeid(Error), true},
    {"23505", "duplicate key value violates unique constraint \"consumer_name_uq\"", typeid(Error), true},
    {"23505", "duplicate key value violates unique constraint \"orders_pkey\""},
    // what may go well another time
    {"40001", "could not serialize access due to concurrent update", typeid(Error), true},
    {"40P01", "deadlock detected", typeid(Error), true},
    {"55P03", "canceling statement due to lock timeout", typeid(Error), true},
    {"57014", "canceling statement due to statement timeout", typeid(Error), true},
    {"57P01", "terminating connection due to administrator command", typeid(Error), true},
    {"57P02", "terminating connection because of crash of another server process", typeid(Error), true},
    {"57P03", "the database system is starting up", typeid(Error), true},
    // prepared statements behind a pooler
    {"26000", "prepared statement \"pgque_receive_0\" does not exist", typeid(Error), true, set_pooled},
    {"42P05", "prepared statement \"pgque_receive_0\" already exists", typeid(Error), true, set_pooled},
    {"53100", "could not extend file \"base/16384/16385\": No space left on device", typeid(Error), true},
    {"53200", "out of memory", typeid(Error), true},
    {"53300", "sorry, too many clients already", typeid(Error), true},
    // read-only servers
    {"25006", "cannot execute nextval() in a read-only transaction", typeid(Error), false, go_to_primary},
    {"25006", "cannot execute SELECT FOR UPDATE in a read-only transaction", typeid(Error), false, go_to_primary},
    // PgQue missing or too old
    {"3F000", "schema \"pgque\" does not exist", typeid(Error), false, not_installed},
    {"42883", "function pgque.send_idem(text, text, text) does not exist", typeid(Error), false, not_installed},
    {"42P01", "relation \"pgque.queue\" does not exist", typeid(Error), false, not_installed},
    {"42704", "type \"pgque.message\" does not exist", typeid(Error), false, not_installed},
    // something else missing
    {"42883", "function audit(text) does not exist"},
    {"42P01", "relation \"audit\" does not exist"},
    // no role to name
    {"42501", "permission denied for function batch_event_sql"},
};

TEST(ServerError, IsClassifiedByStateAndText) {
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string{row.sqlstate} + ' ' + row.message);
    const auto [error, type] = from_server(row.sqlstate, row.message);
    EXPECT_EQ(type.name(), row.type.name());
    EXPECT_EQ(error.sqlstate(), row.sqlstate);
    EXPECT_EQ(error.server_message(), row.message);
    EXPECT_EQ(error.operation(), described);
    EXPECT_EQ(error.retryable(), row.retryable);
    EXPECT_FALSE(error.outcome_unknown());
    auto what = std::string{described} + ": " + row.message + " [SQLSTATE " + row.sqlstate + ']';
    if (*row.advice) what += std::string{": "} + row.advice;
    EXPECT_EQ(error.what(), what);
  }
}

TEST(ServerError, IsClassifiedTheSameWhenItComesThroughLibpqxx) {
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string{row.sqlstate} + ' ' + row.message);
    const auto [error, type] = mapped(sql_error(row.sqlstate, row.message));
    EXPECT_EQ(type.name(), row.type.name());
    EXPECT_EQ(error.sqlstate(), row.sqlstate);
    EXPECT_EQ(error.server_message(), row.message);
    EXPECT_EQ(error.retryable(), row.retryable);
    EXPECT_FALSE(error.outcome_unknown());
  }
}

TEST(ServerError, IsMatchedByTheBeginningOfItsTextOnly) {
  for (const auto* message :
       {"a queue not found: x", "queue not found", "my batch not found: 1", "finish_batch: batch 3 not found",
        "handler said: no such queue", "batch 5: event queue not created yet", "not subscriber to queue", "", "q"}) {
    EXPECT_EQ(from_server("P0001", message).type.name(), std::type_index{typeid(Error)}.name()) << message;
  }
}

TEST(ServerError, IsMatchedInAnyCase) {
  EXPECT_EQ(from_server("P0001", "Queue not found: x").type.name(), std::type_index{typeid(QueueNotFound)}.name());
  EXPECT_EQ(from_server("P0001", "not subscriber to queue: q/c").type.name(),
            std::type_index{typeid(ConsumerNotFound)}.name());
}

TEST(ServerError, IsMatchedOnlyWithPgQuesOwnSqlstate) {
  for (const auto* state : {"P0002", "XX000", "42P01", ""}) {
    EXPECT_EQ(from_server(state, "queue not found: x").type.name(), std::type_index{typeid(Error)}.name()) << state;
  }
}

TEST(ServerError, NamesTheRoleToGrant) {
  const auto message = "permission denied for function f";
  const auto advice = [&](Role role) { return std::string{from_server("42501", message, role).error.what()}; };
  const auto prefix = std::string{described} + ": " + message + " [SQLSTATE 42501]";
  EXPECT_EQ(advice(Role::reader), prefix + ": grant the role pgque_reader to the connecting user");
  EXPECT_EQ(advice(Role::writer), prefix + ": grant the role pgque_writer to the connecting user");
  EXPECT_EQ(advice(Role::admin), prefix + ": grant the role pgque_admin to the connecting user");
  EXPECT_EQ(advice(Role::none), prefix);
}

TEST(ServerError, TellsAReaderHowToPassTextThatCannotBeRead) {
  const auto* const message = "invalid byte sequence for encoding \"UTF8\": 0xe9";
  const auto error = from_server("22021", message, Role::reader).error;
  EXPECT_THAT(error.what(), HasSubstr("set client_encoding to SQL_ASCII"));
  EXPECT_FALSE(error.retryable());
  EXPECT_THAT(from_server("22021", message, Role::writer).error.what(), Not(HasSubstr("SQL_ASCII")));
}

TEST(ServerError, TellsWhatItIsThatCannotBeRead) {
  const auto advice = [](const char* verb, const char* queue) {
    Error::Facts facts;
    facts.operation = Call{verb, queue}.describe();
    facts.sqlstate = "22021";
    facts.server_message = "invalid byte sequence for encoding \"UTF8\": 0xe9";
    return std::string{caught([&] { detail::throw_server_error(facts, Role::reader); }).error.what()};
  };
  for (const auto* const verb :
       {"queue information", "consumer information", "batch information", "count_dead_letters"}) {
    for (const auto* const queue : {"", "orders"}) {
      EXPECT_THAT(advice(verb, queue), HasSubstr("the name of a queue or consumer has bytes")) << verb;
      EXPECT_THAT(advice(verb, queue), Not(HasSubstr("pgque.ack"))) << verb;
    }
  }
  for (const auto* const verb : {"dead_letters", "for_each_dead_letter"}) {
    EXPECT_THAT(advice(verb, "orders"), HasSubstr("pgque.dlq_inspect")) << verb;
    EXPECT_THAT(advice(verb, "orders"), Not(HasSubstr("pgque.ack"))) << verb;
  }
  for (const auto* const verb : {"receive", "receive_coop", "fetch"}) {
    EXPECT_THAT(advice(verb, "orders"), HasSubstr("finish it with pgque.ack")) << verb;
  }
}

TEST(ServerError, IsTransientIfTheSameStatementMaySucceedOnTheSameSession) {
  const auto transient = [](const char* state) { return detail::is_transient(from_server(state, "no").error); };
  for (const auto* const state : {"40001", "40P01", "55P03", "57014", "26000", "53000", "53100", "53200"}) {
    EXPECT_TRUE(transient(state)) << state;
  }
  for (const auto* const state : {"", "P0001", "23505", "57P01", "58030", "42501", "25006", "22P05"}) {
    EXPECT_FALSE(transient(state)) << state;
  }
}

TEST(SqlstateOf, IsThatOfEitherLibrarysExceptions) {
  EXPECT_EQ(detail::sqlstate_of(sql_error("40P01", "deadlock detected")), "40P01");
  EXPECT_EQ(detail::sqlstate_of(from_server("40001", "no").error), "40001");
  EXPECT_EQ(detail::sqlstate_of(std::runtime_error{"no"}), "");
}

TEST(ServerError, NamesNoRoleWhenPrivilegesAreNotTheMatter) {
  EXPECT_THAT(from_server("P0001", "queue not found: x", Role::writer).error.what(), Not(HasSubstr("grant")));
}

TEST(Mapped, KnowsInsufficientPrivilegeWithoutItsSqlstate) {
  // Most versions of libpqxx leave it empty.
  const pqxx::insufficient_privilege raised{"ERROR:  permission denied for function send\n", "select"};
  const auto [error, type] = mapped(raised, true, false, Role::writer);
  EXPECT_EQ(type.name(), std::type_index{typeid(Error)}.name());
  EXPECT_EQ(error.sqlstate(), "42501");
  EXPECT_EQ(error.server_message(), "permission denied for function send");
  EXPECT_THAT(error.what(), HasSubstr("grant the role pgque_writer"));
}

#if PQXX_VERSION_MAJOR < 7
#define PGQUE_TEST_ROLLBACK(type, sqlstate) \
  pqxx::type {                              \
    "ERROR:  no luck\n"                     \
  }
#else
#define PGQUE_TEST_ROLLBACK(type, sqlstate) \
  pqxx::type {                              \
    "ERROR:  no luck\n", "select", sqlstate \
  }
#endif

TEST(Mapped, KnowsRollbacksWhoseSqlstateLibpqxx6Drops) {
  const auto expect = [](const Caught& found, const char* sqlstate, bool retryable) {
    EXPECT_EQ(found.type.name(), std::type_index{typeid(Error)}.name());
    EXPECT_EQ(found.error.sqlstate(), sqlstate);
    EXPECT_EQ(found.error.server_message(), "no luck");
    EXPECT_EQ(found.error.retryable(), retryable) << sqlstate;
  };
  expect(mapped(PGQUE_TEST_ROLLBACK(serialization_failure, "40001")), "40001", true);
  expect(mapped(PGQUE_TEST_ROLLBACK(deadlock_detected, "40P01")), "40P01", true);
  expect(mapped(PGQUE_TEST_ROLLBACK(transaction_rollback, "40000")), "40000", false);
  expect(mapped(PGQUE_TEST_ROLLBACK(statement_completion_unknown, "40003")), "40003", false);
}

TEST(Mapped, LostConnectionInATransactionHadNoEffect) {
  const auto [error, type] = mapped(pqxx::broken_connection{"Lost connection to the database server."}, false, false);
  EXPECT_EQ(type.name(), std::type_index{typeid(ConnectionError)}.name());
  EXPECT_EQ(error.sqlstate(), "08006");
  EXPECT_EQ(error.server_message(), "");
  EXPECT_TRUE(error.retryable());
  EXPECT_FALSE(error.outcome_unknown());
  EXPECT_STREQ(error.what(),
               (std::string{described} +
                " [SQLSTATE 08006]: the connection was lost; nothing of the call or of its transaction was stored")
                   .c_str());
}

TEST(Mapped, LostConnectionInAutocommitLeavesTheOutcomeOpen) {
  const auto [error, type] = mapped(pqxx::broken_connection{"Lost connection to the database server."}, false, true);
  EXPECT_EQ(type.name(), std::type_index{typeid(ConnectionError)}.name());
  EXPECT_FALSE(error.retryable());
  EXPECT_TRUE(error.outcome_unknown());
  EXPECT_THAT(error.what(), HasSubstr("may or may not have taken effect"));
}

TEST(Mapped, LostConnectionDuringCommitLeavesTheOutcomeOpen) {
  for (const bool may_have_committed : {false, true}) {
    const auto [error, type] = mapped(pqxx::in_doubt_error{"Lost connection during COMMIT"}, false, may_have_committed);
    EXPECT_EQ(type.name(), std::type_index{typeid(ConnectionError)}.name());
    EXPECT_EQ(error.sqlstate(), "08007");
    EXPECT_FALSE(error.retryable());
    EXPECT_TRUE(error.outcome_unknown());
    EXPECT_THAT(error.what(), HasSubstr("during the commit"));
  }
}

TEST(Mapped, ConnectionThatIsStillOpenIsNotLost) {
  // libpqxx calls a connection broken whenever the server reports a state of class 08, without closing it.
  for (const bool may_have_committed : {false, true}) {
    const auto [error, type] =
        mapped(pqxx::broken_connection{"ERROR:  bind message supplies 2 parameters, but 3 are needed\n"}, true,
               may_have_committed);
    EXPECT_EQ(type.name(), std::type_index{typeid(Error)}.name());
    EXPECT_EQ(error.server_message(), "bind message supplies 2 parameters, but 3 are needed");
    EXPECT_FALSE(error.outcome_unknown());
  }
}

TEST(Mapped, TooManyConnectionsFromAnOpenConnectionCanBeTriedAgain) {
  const auto [error, type] = mapped(pqxx::too_many_connections{"ERROR:  too many clients already\n"});
  EXPECT_EQ(type.name(), std::type_index{typeid(Error)}.name());
  EXPECT_EQ(error.sqlstate(), "53300");
  EXPECT_EQ(error.server_message(), "too many clients already");
  EXPECT_TRUE(error.retryable());
}

TEST(Mapped, SqlErrorOnALostConnectionIsStillTheServersAnswer) {
  const auto [error, type] = mapped(sql_error("P0001", "queue not found: x"), false, true);
  EXPECT_EQ(type.name(), std::type_index{typeid(QueueNotFound)}.name());
  EXPECT_FALSE(error.outcome_unknown());
}

// The text of the error for a queue that does not exist, among these.
std::string missing_queue(const Call& call, const std::vector<std::string>& queues) {
  try {
    throw sql_error("P0001", "queue not found: x");
  } catch (const std::exception& e) {
    return caught([&] {
             detail::throw_mapped(e, FailureContext{call, Role::none, true, false, [&] { return queues; }});
           })
        .error.what();
  }
}

TEST(Mapped, AMissingQueueIsToBeCreatedOrWasMisspelled) {
  const std::string send = "send (queue \"ordres\"): queue not found: x [SQLSTATE P0001]: ";
  EXPECT_EQ(missing_queue({"send", "ordres"}, {"invoices", "orders"}),
            send + "create it: select pgque.create_queue('ordres'); the nearest existing name is \"orders\"");
  EXPECT_EQ(missing_queue({"send", "ordres"}, {"invoices"}), send + "create it: select pgque.create_queue('ordres')");
  EXPECT_EQ(
      missing_queue({"drop_queue", "ordres"}, {"orders"}),
      "drop_queue (queue \"ordres\"): queue not found: x [SQLSTATE P0001]: the nearest existing name is \"orders\"");
  EXPECT_EQ(missing_queue({"drop_queue", "ordres"}, {}),
            "drop_queue (queue \"ordres\"): queue not found: x [SQLSTATE P0001]");
  EXPECT_EQ(missing_queue({"ticker"}, {"orders"}), "ticker: queue not found: x [SQLSTATE P0001]");
  EXPECT_THAT(missing_queue({"send", "it's"}, {}), HasSubstr("select pgque.create_queue('it''s')"));
}

TEST(Mapped, AMissingQueueWithControlCharactersInItsNameIsNotToBeCreated) {
  for (const auto* name : {"ordres\n", "\tordres", "ord\x1Bres", "ordres\x7F"}) {
    for (const auto* verb : {"send", "drop_queue"}) {
      const auto text = missing_queue({verb, name}, {});
      EXPECT_THAT(text, EndsWith("[SQLSTATE P0001]: the name has control characters")) << verb;
    }
  }
  EXPECT_THAT(missing_queue({"send", "ordres\n"}, {"orders", "or\ndres"}),
              EndsWith(": the name has control characters; the nearest existing name is \"orders\""));
}

TEST(Mapped, AMissingQueueIsNotLookedForWhereNothingCanBeAsked) {
  EXPECT_THAT(mapped(sql_error("P0001", "queue not found: x")).error.what(),
              EndsWith(": create it: select pgque.create_queue('orders')"));
}

TEST(Mapped, WrongUseOfLibpqxxIsALogicError) {
  EXPECT_THAT([] { map(pqxx::usage_error{"Attempt to execute query on finished transaction."}); },
              ThrowsMessage<std::logic_error>(
                  AllOf(StartsWith(described), HasSubstr("Attempt to execute query on finished transaction."))));
}

TEST(Mapped, WrongArgumentIsAnInvalidArgument) {
  EXPECT_THAT(
      [] { map(pqxx::argument_error{"Truncated UTF-8 character."}); },
      ThrowsMessage<std::invalid_argument>(AllOf(StartsWith(described), HasSubstr("Truncated UTF-8 character."))));
}

TEST(Mapped, OwnErrorsPassThroughUntouched) {
  Error::Facts facts;
  facts.operation = "inner";
  facts.sqlstate = "08003";
  const auto [error, type] = mapped(ConnectionError{facts});
  EXPECT_EQ(type.name(), std::type_index{typeid(ConnectionError)}.name());
  EXPECT_STREQ(error.what(), "inner [SQLSTATE 08003]");
}

TEST(Mapped, RunningOutOfMemoryIsNotTheServersDoing) {
  EXPECT_THROW(map(std::bad_alloc{}), std::bad_alloc);
}

TEST(Mapped, FailureOfAnyOtherKindIsAnErrorWithItsText) {
  const auto [error, type] = mapped(std::runtime_error{"no integer where one was expected"});
  EXPECT_EQ(type.name(), std::type_index{typeid(Error)}.name());
  EXPECT_EQ(error.what(), std::string{described} + ": no integer where one was expected");
  EXPECT_EQ(error.sqlstate(), "");
  EXPECT_FALSE(error.retryable());
}

TEST(Mapped, WhatIsNotTheServersIsNotPassedOffAsItsWords) {
  EXPECT_EQ(mapped(std::runtime_error{"no integer where one was expected"}).error.server_message(), "");
}

TEST(PrimaryMessage, IsWithoutSeverityInAnyLanguage) {
  for (const auto* severity : {"ERROR", "FATAL", "PANIC", "FEHLER", "ERREUR", "\xE9\x94\x99\xE8\xAF\xAF",
                               "\xD0\x9E\xD0\xA8\xD0\x98\xD0\x91\xD0\x9A\xD0\x90"}) {
    EXPECT_EQ(detail::primary_message(std::string{severity} + ":  queue not found: a\n"), "queue not found: a");
  }
}

TEST(PrimaryMessage, IsWithoutWhatFollowsIt) {
  for (const auto* rest :
       {"DETAIL:  Token \"hunter2\" is invalid.\nCONTEXT:  JSON data, line 1: hunter2",
        "HINT:  No function matches the given name and argument types.", "CONTEXT:  PL/pgSQL function x",
        "LINE 1: select pgque.send('q', 'hunter2')\n               ^", "LOCATION:  exec_stmt_raise, pl_exec.c:3911",
        "QUERY:  select 'hunter2'"}) {
    EXPECT_EQ(detail::primary_message("ERROR:  it failed\n" + std::string{rest} + '\n'), "it failed") << rest;
  }
}

// libpq translates the words of the following lines in programs that call setlocale(), and the lines may quote
// payloads: `CONTEXT:  JSON data, line 1: ...`.
TEST(PrimaryMessage, IsWithoutWhatFollowsItInAnyLanguage) {
  for (const auto* rest :
       {"DETAIL:  hunter2", "KONTEXT:  hunter2", "ZEILE 1: select 'hunter2'\n               ^",  // German
        "D\xC3\x89TAIL : hunter2", "CONTEXTE : hunter2", "LIGNE 1 : select 'hunter2'",           // French
        "DETTAGLI: hunter2", "CONTESTO: hunter2", "RIGA 1: select 'hunter2'",                    // Italian
        "L\xC3\x8DNEA 1: select 'hunter2'", "CONTEXTO:  hunter2",                                // Spanish
        "\xE8\xA1\x8C 1: select 'hunter2'"}) {                                                   // Japanese
    EXPECT_EQ(detail::primary_message("ERROR:  it failed\n" + std::string{rest} + '\n'), "it failed") << rest;
  }
}

TEST(PrimaryMessage, KeepsColonsAndSpacesOfItsOwn) {
  EXPECT_EQ(detail::primary_message("ERROR:  set_queue_config: max_retries must be >= 0, got -1\n"),
            "set_queue_config: max_retries must be >= 0, got -1");
  EXPECT_EQ(detail::primary_message("ERROR:  No ticks for this queue.  Please run ticker on database.\n"),
            "No ticks for this queue.  Please run ticker on database.");
  EXPECT_EQ(detail::primary_message("ERROR:  note:  this\n"), "note:  this");
}

TEST(PrimaryMessage, KeepsSeveralLines) {
  EXPECT_EQ(detail::primary_message("ERROR:  first line\nsecond line\nthird line\nCONTEXT:  x\n"),
            "first line\nsecond line\nthird line");
}

TEST(PrimaryMessage, IsTheWholeTextWhenItHasNoParts) {
  EXPECT_EQ(detail::primary_message("Lost connection to the database server."),
            "Lost connection to the database server.");
  EXPECT_EQ(detail::primary_message("plain\n"), "plain");
  EXPECT_EQ(detail::primary_message(""), "");
  EXPECT_EQ(detail::primary_message("\n"), "");
}

TEST(Permanent, IsWhatNoRepetitionMends) {
  const struct {
    const char* sqlstate;
    const char* message;
    bool permanent;
  } cases[] = {
      {"P0001", "queue not found: x", true},
      {"P0001", "Not subscriber to queue: q/c", true},
      {"P0001", "consumer g on queue co is a cooperative main consumer", true},
      {"P0001", "batch not found: 1", false},
      {"P0001", "PgQ corruption: Consumer c on queue q does not see tick <NULL>", false},
      {"42501", "permission denied for function receive", true},
      {"3F000", "schema \"pgque\" does not exist", true},
      {"42883", "function pgque.receive(text) does not exist", true},
      {"42P01", "relation \"pgque.queue\" does not exist", true},
      {"42P01", "relation \"pgque.subscription\" does not exist", true},
      {"42P01", "relation \"orders\" does not exist", false},
      {"42P01", "relation \"pgque.event_7\" does not exist", false},  // a queue was dropped under the statement
      {"42704", "type \"pgque.message\" does not exist", true},
      {"25006", "cannot execute nextval() in a read-only transaction", false},
      {"40001", "could not serialize access", false},
      {"40P01", "deadlock detected", false},
      {"53300", "too many clients already", false},
      {"55P03", "lock timeout", false},
      {"57014", "statement timeout", false},
      {"57P01", "terminating connection", false},
      {"26000", "prepared statement does not exist", false},
      {"42P05", "prepared statement already exists", false},
      {"23505", "duplicate key value violates unique constraint \"consumer_name_uq\"", false},
      {"", "", false},
  };
  for (const auto& [sqlstate, message, permanent] : cases) {
    try {
      Error::Facts facts;
      facts.sqlstate = sqlstate;
      facts.server_message = message;
      detail::throw_server_error(facts, Role::none);
    } catch (const Error& error) {  // not sliced: the class counts
      EXPECT_EQ(detail::is_permanent(error), permanent) << sqlstate << ' ' << message;
    }
  }
}

TEST(Permanent, LostConnectionIsNot) {
  Error::Facts facts;
  facts.sqlstate = "08006";
  EXPECT_FALSE(detail::is_permanent(ConnectionError{facts}));
}

}  // namespace
}  // namespace pgque::test
