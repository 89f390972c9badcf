#include "fault_fixture.hpp"

#include <cstdlib>

namespace pgque::test {

namespace {

constexpr int barrier_key = 0x66617573;

}  // namespace

void Work::create_table(Sql& sql) {
  sql("create table if not exists public.faults_done (queue text not null, payload text not null)");
  sql("grant insert on public.faults_done to public");
}

void Work::handle_with(Consumer& consumer) {
  consumer_ = &consumer;
  consumer.on("*", [this](const Message& message, Context& context) { handle(message, context); });
}

void Work::handle(const Message& message, Context& context) {
  {
    const std::lock_guard lock{mutex_};
    ++deliveries_[message.payload.value()];
  }
  if (hook) hook(message, context);
  if (mode_ == TransactionMode::split) return;
  auto& transaction = context.transaction();
  transaction.exec("insert into public.faults_done values (" + transaction.quote(queue_) + ", " +
                   transaction.quote(*message.payload) + ")");
}

std::map<std::string, int> Work::deliveries() const {
  const std::lock_guard lock{mutex_};
  return deliveries_;
}

int Work::deliveries_of(const std::string& payload) const {
  const auto all = deliveries();
  const auto found = all.find(payload);
  return found == all.end() ? 0 : found->second;
}

int Work::total() const {
  int total = 0;
  for (const auto& [payload, times] : deliveries()) total += times;
  return total;
}

SubscriptionLock::SubscriptionLock(const std::string& queue, const std::string& consumer)
    : connection_{dsn()}, transaction_{connection_} {
  const auto locked = transaction_.exec(
      "select from pgque.subscription where sub_queue = (select queue_id from pgque.queue where queue_name = " +
      transaction_.quote(queue) + ") and sub_consumer = (select co_id from pgque.consumer where co_name = " +
      transaction_.quote(consumer) + ") for update");
  if (locked.size() != 1) throw std::runtime_error{"no subscription to lock"};
}

Barrier::Barrier(Sql& sql, Where where) : sql_{sql}, where_{where} {
  holder_.emplace();
  (*holder_)("select pg_advisory_lock(" + std::to_string(barrier_key) + ")");
  sql_(
      "create function public.faults_barrier() returns trigger language plpgsql as $$ begin "
      "perform pg_advisory_xact_lock_shared(" +
      std::to_string(barrier_key) + "); return new; end $$");
  sql_(std::string{"create trigger faults_barrier before "} +
       (where_ == Where::ack ? "update on pgque.subscription for each row "
                               "when (old.sub_batch is not null and new.sub_batch is null) "
                             : "insert on pgque.retry_queue for each row ") +
       "execute function public.faults_barrier()");
}

Barrier::~Barrier() {
  try {
    open();
    sql_("drop trigger faults_barrier on " + table());
    sql_("drop function public.faults_barrier()");
  } catch (const std::exception& error) {
    ADD_FAILURE() << error.what();
  }
}

void Barrier::open() {
  holder_.reset();
}

PrivateServer& FaultTest::server() {
  static PrivateServer server;
  return server;
}

void FaultTest::SetUp() {
  if (const auto why = PrivateServer::missing(); !why.empty()) return skip_outside_ci(why);
  if (!server().running()) server().start();
  ::setenv("PGQUE_TEST_DSN", server().dsn().c_str(), 1);
  ConsumerTest::SetUp();
  Work::create_table(sql());
}

void FaultTest::TearDown() {
  if (!IsSkipped() && !HasFatalFailure()) {
    if (!server().running()) server().start();
    reconnect();
  }
  ConsumerTest::TearDown();
}

ConsumerOptions FaultTest::options(TransactionMode mode) {
  auto options = ConsumerTest::options(mode);
  options.reconnect = {50ms, 200ms};
  return options;
}

ConsumerOptions FaultTest::worker(const std::string& name) {
  auto options = ConsumerTest::worker(name);
  options.reconnect = {50ms, 200ms};
  return options;
}

int FaultTest::attempts_within(Clock::duration time) {
  return static_cast<int>(time / 100ms) + 3;
}

void FaultTest::terminate_sessions(std::int64_t expected, const std::string& condition) {
  const auto pids = sql()("select pid" + watched() + "and (" + condition + ")");
  ASSERT_EQ(static_cast<std::int64_t>(pids.size()), expected);
  for (const auto& row : pids) {
    const std::string pid = row[0].c_str();
    sql()("select pg_terminate_backend(" + pid + ")");
    ASSERT_TRUE(
        wait_until([&] { return sql().number("select count(*) from pg_stat_activity where pid = " + pid) == 0; }));
  }
}

bool FaultTest::drained(const std::string& consumer) {
  return sql().number("select count(*) from pgque.get_consumer_info(" + sql().quote(queue()) + ", " +
                      sql().quote(consumer) + ") as c join pgque.get_queue_info(" + sql().quote(queue()) +
                      ") as q using (queue_name) where c.current_batch is null and c.last_tick = q.last_tick_id") == 1;
}

std::int64_t FaultTest::rows(const std::string& payload) {
  return sql().number("select count(*) from public.faults_done where queue = " + sql().quote(queue()) +
                      " and payload = " + sql().quote(payload));
}

void FaultTest::expect_nothing_lost(const Work& work, TransactionMode mode, int messages) {
  EXPECT_TRUE(wait_until([&] { return settled(work.consumer()); }));
  const auto deliveries = work.deliveries();
  EXPECT_EQ(deliveries.size(), static_cast<std::size_t>(messages));
  for (const auto& payload : numbers(messages)) {
    EXPECT_EQ(deliveries.count(payload), 1U) << "message " << payload << " was lost";
    if (mode == TransactionMode::per_batch) {
      EXPECT_EQ(rows(payload), 1) << "of message " << payload;
    }
  }
}

void FaultTest::expect_works_on(Work& work, TransactionMode mode) {
  publish("\"afterwards\"");
  EXPECT_TRUE(wait_until([&] { return work.deliveries_of("\"afterwards\"") == 1 && settled(work.consumer()); }));
  if (mode == TransactionMode::per_batch) {
    EXPECT_EQ(rows("\"afterwards\""), 1);
  }
}

}  // namespace pgque::test
