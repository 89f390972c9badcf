#include "testing/queue.hpp"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <utility>

#include <pgque/error.hpp>

#include "database/row.hpp"
#include "database/sql.hpp"
#include "support/checks.hpp"
#include "support/text.hpp"
#include "testing/names.hpp"
#include "testing/recorded_run.hpp"

namespace pgque::detail {

namespace {

// The consumer of a queue that was made because handlers send to it; with the prefix, so that a sweep knows its own.
constexpr const char* any_maker = "pgque_testing:";
std::string maker_with(std::string_view prefix) {
  return any_maker + std::string{prefix} + ':';
}
// Not a name that a queue can have.
constexpr std::string_view turn_of_all{};
// In the kit's session: a test that holds a lock for so long has forgotten it.
constexpr const char* limit_locks = "set lock_timeout = 30000";
constexpr const char* lock_retries = "lock table pgque.retry_queue in share update exclusive mode; ";

SessionOptions kit_session_options() {
  SessionOptions options;
  options.application_name = "pgque_testing";
  return options;
}

void check(const testing::QueueOptions& options) {
  check_text("prefix", options.prefix);
  if (options.prefix.empty() || options.prefix.size() + test_name_suffix > longest_queue_name) {
    throw std::invalid_argument{"prefix: must have 1 to " + std::to_string(longest_queue_name - test_name_suffix) +
                                " bytes"};
  }
  check_consumer("consumer", options.consumer);
  for (const auto& other : options.others) check_queue(other);
}

// Consumers of one name share a row, whatever their queues, so other tests that begin or end can be in the way.
template <class Call>
auto despite_others(const Call& call) {
  for (int attempts = 1;; ++attempts) {
    try {
      return call();
    } catch (const Error& error) {
      const bool deadlock = error.sqlstate() == "40P01" || error.sqlstate() == "40001";
      if (!deadlock || attempts == 20) throw;
    }
  }
}

// In the destructor, which cannot throw.
void complain(const std::string& what, const std::exception& error) {
  const auto line = "pgque::testing: " + what + " is left behind, for pgque::testing::sweep(): " + error.what() + '\n';
  static_cast<void>(std::fputs(line.c_str(), stderr));
}

std::uint64_t random_number() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) + device();
}

}  // namespace

TestSession::TestSession(const Dsn& dsn) : session_{Session::connect(dsn, kit_session_options())}, executor_{session_} {
  executor_.run_plain(limit_locks, {"connect"});
}

bool TestSession::try_lock(std::string_view queue) {
  return read_int64(executor_.run(sql::kit_try_lock, {lock_of_test_queue(queue)}, {"lock", queue})) == 1;
}
void TestSession::unlock(std::string_view queue) {
  executor_.run(sql::kit_unlock, {lock_of_test_queue(queue)}, {"unlock", queue});
}
void TestSession::share(std::string_view queue) {
  executor_.run(sql::kit_lock_shared, {lock_of_test_queue(queue)}, {"lock", queue});
}
void TestSession::unshare(std::string_view queue) {
  executor_.run(sql::kit_unlock_shared, {lock_of_test_queue(queue)}, {"unlock", queue});
}

void TestSession::drop(std::string_view queue) {
  const Call call{"drop_queue", queue};
  despite_others([&] {
    TransactionExecutor transaction{session_};
    transaction.run(sql::drop_subconsumers, {queue}, call);
    transaction.run(sql::drop_queue, {queue, std::int64_t{1}}, call);
    transaction.commit(call);
  });
}

TestSession::Turn::Turn(TestSession& session) : session_{session} {
  session_.executor_.run(sql::kit_lock, {lock_of_test_queue(turn_of_all)}, {"lock"});
}
TestSession::Turn::~Turn() {
  try {
    session_.unlock(turn_of_all);
  } catch (const std::exception&) {
    // Then the session is lost, and the lock with it.
  }
}

std::vector<TestSession::Known> TestSession::queues(const std::string& maker) {
  std::vector<Known> queues;
  for_each_row(executor_.run(sql::kit_queues, {maker}, {"list queues"}), [&](auto field) {
    RowReader row{field};
    auto& known = queues.emplace_back();
    known.queue = row.text_or_empty();
    known.made = row.optional_integer();
  });
  return queues;
}

TestSession::Now TestSession::now() {
  Now now;
  for_each_row(executor_.run(sql::kit_now, {}, {"take a snapshot"}), [&](auto field) {
    RowReader row{field};
    now.snapshot = row.text_or_empty();
    now.seconds = row.integer();
  });
  return now;
}

QueueUnderTest::QueueUnderTest(const Dsn& dsn, testing::QueueOptions options, std::unique_ptr<TestSession> session,
                               Client client)
    : dsn_{dsn}, options_{std::move(options)}, session_{std::move(session)}, client_{std::move(client)}, admin_{dsn} {
  check(options_);
  name_ = make_test_name(options_.prefix, session_->now().seconds, random_number());
  // Before there is anything that a sweep could take.
  session_->try_lock(name_);
  despite_others([&] { admin_.create_queue(name_, options_.settings); });
  try {
    make_others();
    despite_others([&] { client_.subscribe(name_, options_.consumer); });
    first_tick_ = admin_.consumer(name_, options_.consumer).last_tick.value_or(TickId{1});
    snapshot_ = session_->now().snapshot;
  } catch (...) {
    drop_all();
    throw;
  }
}

QueueUnderTest::~QueueUnderTest() {
  if (session_->shared()->home().is_this()) drop_all();
}

void QueueUnderTest::make_others() {
  for (const auto& other : options_.others) {
    const TestSession::Turn turn{*session_};
    session_->share(other);
    if (!despite_others([&] { return admin_.create_queue(other); })) continue;
    despite_others([&] { client_.subscribe(other, maker_with(options_.prefix)); });
  }
}

void QueueUnderTest::drop_all() {
  const auto drop = [&](const std::string& queue) {
    try {
      session_->drop(queue);
    } catch (const QueueNotFound&) {
      // The test has dropped it itself.
    } catch (const std::exception& error) {
      complain("the queue \"" + queue + '"', error);
    }
  };
  drop(name_);
  try {
    if (options_.others.empty()) return;
    const TestSession::Turn turn{*session_};
    for (const auto& other : options_.others) session_->unshare(other);
    for (const auto& known : session_->queues(any_maker)) {
      const bool ours =
          known.made && std::find(options_.others.begin(), options_.others.end(), known.queue) != options_.others.end();
      if (!ours || !session_->try_lock(known.queue)) continue;
      drop(known.queue);
      session_->unlock(known.queue);
    }
  } catch (const std::exception& error) {
    complain("what its handlers send to", error);
  }
}

void QueueUnderTest::tick() {
  // A ticker that works for all queues may come between the two calls. What it has ticked was perhaps not all.
  for (int attempts = 0; attempts < 100; ++attempts) {
    client_.force_next_tick(name_);
    if (client_.ticker(name_)) return;
  }
  throw std::runtime_error{"pgque::testing: the queue \"" + name_ + "\" gets no tick"};
}

void QueueUnderTest::subscribe(const std::string& consumer, const std::string& subconsumer) {
  if (despite_others([&] { return client_.subscribe(name_, consumer); })) {
    despite_others([&] { admin_.subscribe_at(name_, consumer, first_tick_); });
  }
  if (!subconsumer.empty()) {
    despite_others([&] { client_.subscribe_subconsumer(name_, consumer, subconsumer, true); });
  }
}

testing::Run QueueUnderTest::deliver(ConsumerOptions options, const std::function<void(Consumer&)>& register_handlers,
                                     const testing::DeliverOptions& deliver_options) {
  if (!register_handlers) throw std::invalid_argument{"register_handlers: must not be empty"};
  check_duration("limit", deliver_options.limit, std::chrono::milliseconds{1}, longest_wait);
  if (options.queue.empty()) options.queue = name_;
  if (options.queue != name_) {
    throw std::invalid_argument{"deliver(): options.queue is \"" + options.queue +
                                "\", but this is a test of another queue: leave it empty"};
  }
  if (options.name.empty()) options.name = options_.consumer;
  options.until_drained = true;
  options.min_lag = std::chrono::milliseconds{0};
  RecordedRun recorded{options, deliver_options.limit};
  const auto consumer_name = options.name;
  const auto subconsumer = options.subconsumer;
  Consumer consumer{dsn_, std::move(options)};
  register_handlers(consumer);
  subscribe(consumer_name, subconsumer);
  tick();
  const auto dead_letters_before = dead_letters().size();
  const bool drained = recorded.start(consumer);
  auto run = recorded.result(consumer.stats());
  run.dead_lettered = static_cast<std::int64_t>(dead_letters().size() - dead_letters_before);
  if (!drained) throw_not_drained(std::move(run), deliver_options.limit);
  return run;
}

std::int64_t QueueUnderTest::make_retries_due() {
  // The lock keeps tickers from bringing the same retries back.
  AutocommitExecutor mover{session_->shared(), lock_retries};
  const auto moved =
      read_int64(mover.run(sql::kit_bring_retries_back, {name_}, {"make_retries_due", name_})).value_or(0);
  tick();
  return moved;
}

std::vector<DeadLetter> QueueUnderTest::dead_letters() {
  auto letters = admin_.dead_letters(name_, std::numeric_limits<std::int32_t>::max());
  std::sort(letters.begin(), letters.end(),
            [](const DeadLetter& a, const DeadLetter& b) { return a.event_id < b.event_id; });
  return letters;
}

std::vector<Message> QueueUnderTest::sent(std::string_view queue) {
  check_queue(queue);
  const Call call{"read what was sent", queue};
  std::optional<std::string> table;
  for_each_row(session_->executor().run(sql::kit_events_table, {queue}, call),
               [&](auto field) { table = RowReader{field}.text_or_empty(); });
  if (!table) {
    Error::Facts facts;
    facts.operation = call.describe();
    facts.advice = "there is no such queue; name it in QueueOptions::others, which makes it for the test";
    throw QueueNotFound{std::move(facts)};
  }
  return read_messages(session_->executor().run_plain(sql::events_since(*table, snapshot_), call, Role::reader));
}

std::vector<std::string> sweep(const Dsn& dsn, std::chrono::seconds older_than, std::string_view prefix) {
  check_duration("older_than", older_than, std::chrono::milliseconds{0}, std::chrono::hours{24 * 36525});
  check_text("prefix", prefix);
  TestSession session{dsn};
  const TestSession::Turn turn{session};
  const auto now = session.now().seconds;
  std::vector<std::string> dropped;
  for (const auto& known : session.queues(maker_with(prefix))) {
    const auto made = known.made ? known.made : time_of_test_name(prefix, known.queue);
    if (!made || now - *made < older_than.count() || !session.try_lock(known.queue)) continue;
    session.drop(known.queue);
    session.unlock(known.queue);
    dropped.push_back(known.queue);
  }
  return dropped;
}

}  // namespace pgque::detail
