#include "doctor/observe.hpp"

#include <chrono>
#include <memory>
#include <random>
#include <string>

#include <pgque/error.hpp>

#include "database/error_map.hpp"
#include "database/executor.hpp"
#include "database/row.hpp"
#include "database/session.hpp"
#include "database/sql.hpp"
#include "support/wakeup.hpp"

namespace pgque::detail {

namespace {

using std::chrono::seconds;

// Whether a notification sent by this connection reaches it.
bool notification_arrives(Session& session, Executor& executor) {
  const Call call{"listen"};
  const auto channel = "pgque_doctor_" + std::to_string(std::random_device{}());
  bool arrived = false;
  auto& connection = session.idle_connection(call);
  try {
    // No UNLISTEN is necessary, because the connection ends with the diagnosis.
    const Listener listener{connection, channel, [&] { arrived = true; }};
    executor.run(sql::notify, {channel}, call);
    const Wakeup unsignalled;
    const auto deadline = std::chrono::steady_clock::now() + seconds{2};
    while (!arrived) {
      connection.get_notifs();
      if (arrived) break;
      if (unsignalled.wait(connection.sock(), deadline) == Wakeup::Woken::timeout) break;
    }
    return arrived;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (!connection.is_open()) throw_mapped(error, {call, Role::none, false});
    return false;
  }
}

class Examination {
 public:
  Examination(const Dsn& dsn, const DiagnoseOptions& options)
      : options_{options}, session_{Session::connect(dsn, session_options(options))}, executor_{session_} {}

  Observations observe() {
    server();
    if (!seen_.installed) return std::move(seen_);
    install();
    if (!seen_.visible) return std::move(seen_);
    if (seen_.reader) {
      each(sql::server_version, {}, [&](auto row) { seen_.version = row.text_or_empty(); });
      each(sql::doctor_config, {}, [&](auto row) { seen_.scheduler = row.text_or_empty(); });
      each(sql::doctor_dead_letters, {std::int64_t{options_.recent.count()}}, [&](auto row) {
        auto& letters = seen_.dead_letters.emplace_back();
        letters.queue = row.text_or_empty();
        letters.count = row.integer();
        letters.recent = row.integer();
      });
    }
    each(sql::doctor_ticker, {sql::leader_lock_class, sql::leader_lock_object},
         [&](auto row) { seen_.ticker = row.boolean(); });
    queues();
    consumers();
    return std::move(seen_);
  }

 private:
  template <class Visit>
  void each(const Statement& statement, Params params, const Visit& visit) {
    for_each_row(executor_.run(statement, params, {"diagnose"}), [&](auto field) { visit(RowReader{field}); });
  }

  void server() {
    std::int64_t pid = 0;
    each(sql::doctor_server, {}, [&](auto row) {
      seen_.user = row.text_or_empty();
      seen_.database = row.text_or_empty();
      seen_.standby = row.boolean();
      seen_.read_only = row.boolean();
      pid = row.integer();
      seen_.installed = row.boolean();
      seen_.encoding = row.text_or_empty();
    });
    seen_.pooler = pid != backend_pid(session_->connection());
    if (!seen_.standby) seen_.notified = notification_arrives(*session_, executor_);
  }

  void install() {
    try {
      each(sql::doctor_install, {}, [&](auto row) {
        seen_.missing = row.text_or_empty();
        seen_.reader = row.boolean();
        seen_.writer = row.boolean();
        seen_.admin = row.boolean();
      });
    } catch (const Error& error) {
      if (error.sqlstate() != "42501") throw;
      seen_.visible = false;
    }
  }

  void queues() {
    each(sql::doctor_queues, {}, [&](auto row) {
      auto& queue = seen_.queues.emplace_back();
      queue.name = row.text_or_empty();
      queue.paused = row.boolean();
      queue.external_ticker = row.boolean();
      queue.inserts_disabled = row.boolean();
      queue.max_lag = row.duration();
      queue.idle_period = row.duration();
      queue.rotation_period = row.duration();
      queue.rotated_ago = row.duration();
      queue.rotation_half_done = row.boolean();
      queue.ticks = row.integer();
      queue.tick_age = row.duration();
      queue.tick_transaction = row.integer();
      seen_.transaction = row.integer();  // in the same snapshot, because ticks go on
      queue.consumers = row.integer();
      queue.due_retries = row.integer();
      queue.retries_overdue = row.duration();
    });
  }

  void consumers() {
    each(sql::doctor_consumers, {}, [&](auto row) {
      auto& consumer = seen_.consumers.emplace_back();
      consumer.queue = row.text_or_empty();
      consumer.name = row.text_or_empty();
      consumer.role = parse_consumer_role(row.text_or_empty());
      consumer.group = row.text_or_empty();
      consumer.batch = row.optional_integer();
      consumer.silent = row.duration();
      consumer.behind = row.duration();
    });
  }

  const DiagnoseOptions& options_;
  std::shared_ptr<Session> session_;
  AutocommitExecutor executor_;
  Observations seen_;
};

}  // namespace

Observations observe(const Dsn& dsn, const DiagnoseOptions& options) {
  return Examination{dsn, options}.observe();
}

}  // namespace pgque::detail
