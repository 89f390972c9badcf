// The ledger: producers, consumers of every kind and a ticker on a private server, beside a queue that somebody keeps
// locked, while sessions are terminated, consumers are stopped and started again, and the server is stopped, crashed
// and restarted at random. Handlers fail, now and then something that they need is down, and some hang until another
// worker has taken their batch over. One of the consumers is a process that a certain message crashes; it has a
// crash_guard. In the end the books must balance.
//
// What is proved, for each kind of consumer:
//  1. nothing is lost: every message that was stored has been handled, and nothing else has;
//  2. per_batch: the row that the handler writes for a message exists exactly once;
//  3. elsewhere a message is handled again only if the batch that it was handled in was not acknowledged: of all the
//     deliveries in which its handler returned, at most one was in a batch whose ack is known to have been committed,
//     and no batch that was received after that ack contains the message again. If there is none, then its last such
//     delivery was in a batch whose ack got no answer, because the connection broke: the server had committed it, or
//     the message would have come again, for in the end the server says that every batch is finished;
//  4. the message that crashes the process does so three times and is then a dead letter, with that reason; nothing
//  else
//     is one;
//  5. another worker takes over the batch of a handler that hangs, also when nothing else ends the heartbeats.
//
// What was stored is known as well as it can be: half of the producers are outboxes that record each message in a
// table in the transaction that sends it. The others know of some sends only that their answer got lost; all kinds of
// consumers must agree on whether those were stored, and the messages of one send_batch share their fate.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <pgque/pgque.hpp>
#include <pqxx/pqxx>

#include "database.hpp"
#include "private_server.hpp"
#include "process.hpp"
#include "support.hpp"

namespace pgque::test {
namespace {

const std::string queue = "ledger";
// The message that crashes the process, and what its dead letter says.
const std::string poison = "poison";
const std::string poison_reason = "crash_guard: the process ended 3 times while this message was handled";

struct Settings {
  int messages = 100'000;
  std::chrono::seconds duration{60};
  std::uint32_t seed = std::random_device{}();
  bool verbose = false;
};

void usage(const char* program) {
  std::printf(
      "Usage: %s [--messages N] [--seconds S] [--seed N] [--verbose]\n\n"
      "Sends N messages (default 100000) in about S seconds (default 60) to consumers of each kind, kills database\n"
      "sessions and restarts consumers and the server meanwhile, and checks that each message was handled as\n"
      "promised. The seed decides what happens to whom and when. It uses a private PostgreSQL server.\n"
      "PGQUE_SQL: a pgque.sql to test with. Exit status: 0 the books balance, 1 they do not, 2 it could not run.\n",
      program);
}

// Spreads the failing messages evenly; they fail at their first attempt only.
bool fails_at_first(const std::string& key) {
  return std::hash<std::string>{}(key) % 200 == 0;
}

// Spreads the messages that find something down, once for each consumer.
bool finds_something_down(const std::string& key) {
  return std::hash<std::string>{}(key) % 500 == 1;
}

// ---------------------------------------------------------------------------------------------------------------------
// The books of one kind of consumer.

struct Delivery {
  std::string key;
  bool done;  // the handler returned
};

// What one consumer did with one batch between receiving it and ending it.
struct Pass {
  enum class End { open, acked, ack_unknown, abandoned, postponed, lost, stale };
  End end = End::open;
  std::uint64_t received_at = 0;  // in the order of all events
  std::uint64_t ended_at = 0;
  std::vector<Delivery> deliveries;
};

class Book {
 public:
  explicit Book(std::string kind) : kind_{std::move(kind)} {}
  const std::string& kind() const { return kind_; }

  // One per consumer of the kind.
  class Writer {
   public:
    Writer(Book& book, bool verbose) : book_{book}, verbose_{verbose} {}
    void log(const LogRecord& record);
    void deliver(const std::string& key, bool done);
    // The consumer's process has ended, and with it the batch.
    void process_ended();

   private:
    void end(Pass::End how);

    Book& book_;
    const bool verbose_;
    Pass* pass_ = nullptr;  // under the book's lock
    Pass* ended_ = nullptr;
    Pass* lost_ = nullptr;  // its handlers may still be running
  };

  std::size_t delivery_count() const {
    const std::lock_guard lock{mutex_};
    return deliveries_;
  }

  // All consumers have ended.
  const std::list<Pass>& passes() const { return passes_; }
  const std::set<std::string>& done() const { return done_; }
  const std::map<std::string, int>& surprises() const { return surprises_; }

 private:
  const std::string kind_;
  mutable std::mutex mutex_;
  std::list<Pass> passes_;
  std::set<std::string> done_;
  std::size_t deliveries_ = 0;
  std::map<std::string, int> surprises_;  // events that should not occur, and how often they did
  static std::atomic<std::uint64_t> clock_;
};

std::atomic<std::uint64_t> Book::clock_{0};

void Book::Writer::log(const LogRecord& record) {
  const std::lock_guard lock{book_.mutex_};
  const std::string text{record.message};
  if (verbose_ && record.level != LogLevel::debug) {
    std::printf("  %s: %s: %s\n", book_.kind_.c_str(), std::string{to_string(record.event)}.c_str(), text.c_str());
  }
  switch (record.event) {
    case LogEvent::batch_received:
      lost_ = nullptr;
      pass_ = &book_.passes_.emplace_back();
      pass_->received_at = ++clock_;
      break;
    case LogEvent::batch_acked:
      end(Pass::End::acked);
      break;
    case LogEvent::batch_abandoned:
      if (!pass_) break;  // a look-ahead opened it, and the worker was stopped before it could receive it
      end(Pass::End::abandoned);
      break;
    case LogEvent::batch_postponed:
      end(Pass::End::postponed);
      break;
    case LogEvent::batch_lost:
      lost_ = pass_;
      end(Pass::End::lost);
      break;
    case LogEvent::stale_ack:
      end(Pass::End::stale);
      break;
    case LogEvent::connection_lost:
      if (text.compare(0, 11, "heartbeat: ") == 0) break;
      // Comes after the batch was given up.
      if (ended_ && ended_->end == Pass::End::abandoned && text.compare(0, 4, "ack ") == 0 &&
          text.find("may or may not") != std::string::npos) {
        ended_->end = Pass::End::ack_unknown;
      }
      ended_ = nullptr;
      break;
    case LogEvent::nack_failed:
    case LogEvent::failed:
    case LogEvent::listen_unavailable:
      ++book_.surprises_[std::string{to_string(record.event)}.append(": ") + text];
      break;
    default:
      break;
  }
}

void Book::Writer::end(Pass::End how) {
  if (!pass_) {
    ++book_.surprises_["the end of a batch that was not received"];
    return;
  }
  pass_->end = how;
  pass_->ended_at = ++clock_;
  ended_ = std::exchange(pass_, nullptr);
}

void Book::Writer::deliver(const std::string& key, bool done) {
  const std::lock_guard lock{book_.mutex_};
  auto* const pass = pass_ ? pass_ : lost_;
  if (!pass) {
    ++book_.surprises_["a delivery outside of a batch"];
    return;
  }
  pass->deliveries.push_back({key, done});
  ++book_.deliveries_;
  if (done) book_.done_.insert(key);
}

void Book::Writer::process_ended() {
  const std::lock_guard lock{book_.mutex_};
  if (pass_) end(Pass::End::abandoned);
  ended_ = nullptr;
}

// ---------------------------------------------------------------------------------------------------------------------
// Producers.

class Producer {
 public:
  Producer(const PrivateServer& server, int number, int messages, std::chrono::seconds duration)
      : dsn_{server.dsn()},
        name_{"p" + std::to_string(number)},
        outbox_{number % 2 == 0},
        messages_{messages},
        duration_{duration},
        thread_{[this] { run(); }} {}
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;
  ~Producer() { join(); }

  bool finished() const { return finished_; }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

  // After join().
  bool outbox() const { return outbox_; }
  const std::vector<std::string>& stored() const { return stored_; }
  // Groups of messages whose sending got no answer.
  const std::vector<std::vector<std::string>>& unknown() const { return unknown_; }
  int failures() const { return failures_; }

 private:
  void run();
  void send(const std::vector<std::string>& keys);
  void send_outbox(const std::vector<std::string>& keys);

  const std::string dsn_;
  const std::string name_;
  const bool outbox_;
  const int messages_;
  const std::chrono::seconds duration_;
  std::optional<Client> client_;
  std::optional<pqxx::connection> connection_;
  std::vector<std::string> stored_;
  std::vector<std::vector<std::string>> unknown_;
  int failures_ = 0;
  std::atomic<bool> finished_{false};
  std::thread thread_;
};

std::vector<Payload> payloads_of(const std::vector<std::string>& keys) {
  std::vector<Payload> payloads;
  for (const auto& key : keys) payloads.emplace_back('"' + key + '"');
  return payloads;
}

void Producer::send(const std::vector<std::string>& keys) {
  try {
    if (!client_) client_.emplace(dsn_);
    if (keys.size() == 1) {
      client_->send(queue, payloads_of(keys).front());
    } else {
      client_->send_batch(queue, "default", payloads_of(keys));
    }
    stored_.insert(stored_.end(), keys.begin(), keys.end());
  } catch (const Error& error) {
    ++failures_;
    if (error.outcome_unknown()) unknown_.push_back(keys);
    client_.reset();
  }
}

void Producer::send_outbox(const std::vector<std::string>& keys) {
  try {
    if (!connection_) connection_.emplace(dsn_ + " application_name=pgque_outbox");
    pqxx::work work{*connection_};
    std::string values;
    for (const auto& key : keys) values += (values.empty() ? "(" : ", (") + work.quote(key) + ')';
    work.exec("insert into ledger_sent values " + values);
    Transaction{work}.send_batch(queue, "default", payloads_of(keys));
    work.commit();
    stored_.insert(stored_.end(), keys.begin(), keys.end());
  } catch (const std::exception&) {
    ++failures_;
    connection_.reset();  // the table shows what became of the transaction
  }
}

void Producer::run() {
  const auto begin = Clock::now();
  int next = 0;
  while (static_cast<int>(stored_.size()) < messages_) {
    const auto group = next % 4 == 0 ? 1 : 10;
    std::vector<std::string> keys;
    for (int i = 0; i < group; ++i) keys.push_back(name_ + '-' + std::to_string(next++));
    const int failures = failures_;
    if (outbox_) {
      send_outbox(keys);
    } else {
      send(keys);
    }
    // Sends evenly over the time, and does not hurry when the server does not answer.
    const auto due = begin + duration_ * static_cast<double>(stored_.size()) / messages_;
    if (failures_ != failures) std::this_thread::sleep_for(20ms);
    std::this_thread::sleep_until(due);
  }
  finished_ = true;
}

// ---------------------------------------------------------------------------------------------------------------------
// Consumers.

std::string key_of(const Message& message) {
  return message.payload->substr(1, message.payload->size() - 2);
}

// What handlers meet before they do their work.
class Trouble {
 public:
  // Calls `deliver(key, false)` before it throws.
  template <class Deliver>
  void meet(const std::string& key, const Context& context, const Deliver& deliver) {
    if (context.attempt() == 1 && fails_at_first(key)) {
      deliver(key, false);
      throw std::runtime_error{"fails at first"};
    }
    if (finds_something_down(key) && is_new(key)) {
      deliver(key, false);
      throw NotNow{10ms, "something is down"};
    }
  }

 private:
  bool is_new(const std::string& key) {
    const std::lock_guard lock{mutex_};
    return down_for_.insert(key).second;
  }

  std::mutex mutex_;
  std::set<std::string> down_for_;  // the messages that have found something down
};

ConsumerOptions options_of_all() {
  ConsumerOptions options;
  options.queue = queue;
  options.retry_after = 0s;
  options.reconnect = {20ms, 500ms};
  options.poll_interval = 2s;
  return options;
}

// Handlers that hang, one at a time, so that there are other workers to take the batch over.
class Hang {
 public:
  // Returns when the batch is another worker's, or when this one is stopped. A message hangs once.
  void in_handler_of(const std::string& key, const Context& context) {
    if (key == last_key) {
      if (last_begun_.exchange(true)) return;
      last_taken_over_ = wait_until([&] { return context.stop_requested(); });
      last_ended_ = true;
      return;
    }
    // Until a batch was taken over, more of them hang, because a stop may have ended the others.
    if (std::hash<std::string>{}(key) % (taken_over_ ? 1000 : 20) != 2 || busy_.exchange(true)) return;
    if (hung_.insert(key).second) wait_until([&] { return context.stop_requested(); });
    busy_ = false;
  }
  void taken_over() { taken_over_ = true; }

  // The message of this key hangs, too, and must be taken over.
  static constexpr const char* last_key = "hangs last";
  bool wait_last_taken_over() {
    return wait_until([&] { return last_ended_.load(); }, 30s) && last_taken_over_;
  }

 private:
  std::atomic<bool> taken_over_{false};
  std::atomic<bool> busy_{false};
  std::set<std::string> hung_;  // of whoever is busy
  std::atomic<bool> last_begun_{false}, last_taken_over_{false}, last_ended_{false};
};

class Participant {
 public:
  // Handlers hang if there is a `hang`.
  Participant(const PrivateServer& server, Book& book, ConsumerOptions options, Hang* hang, bool verbose)
      : hang_{hang}, writer_{book, verbose}, consumer_{server.dsn(), completed(std::move(options))} {
    consumer_.on("*", [this, rows = is_per_batch_, kind = book.kind()](const Message& message, Context& context) {
      const auto key = key_of(message);
      trouble_.meet(key, context, [this](const std::string& of, bool done) { writer_.deliver(of, done); });
      if (hang_) hang_->in_handler_of(key, context);
      if (rows) {
        auto& transaction = context.transaction();
        transaction.exec("insert into ledger_done values (" + transaction.quote(kind) + ", " + transaction.quote(key) +
                         ")");
      }
      writer_.deliver(key, true);
    });
  }
  // Also after stop().
  void start() {
    running_.reset();
    connected_ = false;
    running_.emplace(consumer_);
  }
  void stop() { running_->stop_and_join(); }
  bool ended() const { return running_->ended(); }
  bool failed() const { return running_->error() != nullptr; }
  bool connected() const { return connected_; }  // since it was started
  // The first connection may fail, and then start() throws: the caller has to start it again.
  bool could_not_connect() const { return ended() && failed() && !connected_; }
  std::string error() const { return failed() ? what(running_->error()) : ""; }
  ConsumerStats stats() const { return consumer_.stats(); }

 private:
  ConsumerOptions completed(ConsumerOptions options) {
    is_per_batch_ = options.transaction == TransactionMode::per_batch;
    options.log = [this](const LogRecord& record) {
      if (record.event == LogEvent::connected) connected_ = true;
      if (record.event == LogEvent::batch_lost && hang_) hang_->taken_over();
      writer_.log(record);
    };
    return options;
  }
  static std::string what(const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      return e.what();
    }
  }

  Hang* const hang_;
  bool is_per_batch_ = false;
  std::atomic<bool> connected_{false};
  Trouble trouble_;
  Book::Writer writer_;
  Consumer consumer_;
  std::optional<Running<Consumer>> running_;
};

// ---------------------------------------------------------------------------------------------------------------------
// A consumer that is a process and crashes.

// That process. Each of its lines is what a Book::Writer is to be told: "event NUMBER TEXT" or "done KEY", "begun KEY".
int consume_and_crash(const std::string& dsn, const std::string& guard) {
  std::mutex mutex;
  const auto print = [&mutex](std::string line) {
    const std::lock_guard lock{mutex};
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::puts(line.c_str());
    std::fflush(stdout);
  };
  auto options = options_of_all();
  options.name = "crashing";
  options.concurrency = 4;
  options.crash_guard = CrashGuard{guard, 3};
  options.log = [&](const LogRecord& record) {
    print("event " + std::to_string(static_cast<int>(record.event)) + ' ' + std::string{record.message});
  };
  Trouble trouble;
  Consumer consumer{dsn, options};
  consumer.on("*", [&](const Message& message, Context& context) {
    const auto deliver = [&](const std::string& key, bool done) { print((done ? "done " : "begun ") + key); };
    const auto key = key_of(message);
    if (key == poison) {
      deliver(key, false);
      ::prctl(PR_SET_DUMPABLE, 0);    // leaves no core file
      std::signal(SIGSEGV, SIG_DFL);  // sanitizers handle it and exit instead
      auto* const page = static_cast<volatile char*>(::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      *page = 1;
    }
    trouble.meet(key, context, deliver);
    deliver(key, true);
  });
  stop_on_signals(consumer);
  try {
    consumer.start();
    return 0;
  } catch (const ConnectionError&) {
    return 1;  // the first connection may fail
  }
}

// Starts it again whenever it has ended.
class CrashingProcess {
 public:
  CrashingProcess(const PrivateServer& server, Book& book, bool verbose) : dsn_{server.dsn()}, writer_{book, verbose} {
    const int file = ::mkstemp(guard_.data());
    if (file < 0) throw std::system_error{errno, std::generic_category(), "mkstemp"};
    ::close(file);
    thread_ = std::thread{[this] { run(); }};
  }
  CrashingProcess(const CrashingProcess&) = delete;
  CrashingProcess& operator=(const CrashingProcess&) = delete;
  ~CrashingProcess() {
    stop();
    ::unlink(guard_.c_str());
  }

  void stop() {
    {
      const std::lock_guard lock{mutex_};
      quit_ = true;
      try {
        if (process_) process_->signal(SIGTERM);
      } catch (const std::system_error&) {
        // It has just ended.
      }
    }
    if (thread_.joinable()) thread_.join();
  }

  // After stop().
  int crashes() const { return crashes_; }
  const std::set<int>& other_ends() const { return other_ends_; }

 private:
  void run() {
    for (;;) {
      {
        const std::lock_guard lock{mutex_};
        if (quit_) return;
        ProcessOptions options;
        options.on_line = [this](const std::string& line) { read(line); };
        process_.emplace(std::vector<std::string>{"/proc/self/exe", "--crashing-process", dsn_, guard_}, options);
      }
      const int status = process_->wait();
      writer_.process_ended();
      {
        const std::lock_guard lock{mutex_};
        process_.reset();
        if (quit_) return;
      }
      if (status == 128 + SIGSEGV) {
        ++crashes_;
      } else if (status == 1) {
        std::this_thread::sleep_for(20ms);  // there is no server
      } else {
        other_ends_.insert(status);
      }
    }
  }
  void read(const std::string& line) {
    const auto space = line.find(' ');
    const auto what = line.substr(0, space);
    const auto rest = line.substr(space + 1);
    if (what == "event") {
      const auto text = rest.substr(rest.find(' ') + 1);
      writer_.log({LogLevel::info, static_cast<LogEvent>(std::stoi(rest)), text});
    } else if (what == "done" || what == "begun") {
      writer_.deliver(rest, what == "done");
    } else if (what != "WARNING:" && what != "FATAL:") {       // which libpqxx prints when the server ends a session
      writer_.log({LogLevel::error, LogEvent::failed, line});  // for the audit to find
    }
  }

  const std::string dsn_;
  std::string guard_ = "/tmp/pgque_ledger_XXXXXX";
  Book::Writer writer_;
  std::mutex mutex_;
  bool quit_ = false;
  std::optional<Process> process_;
  int crashes_ = 0;
  std::set<int> other_ends_;
  std::thread thread_;
};

// ---------------------------------------------------------------------------------------------------------------------
// A bad neighbour: somebody keeps the row of another queue locked, whose tables are to be rotated.

class LockedQueue {
 public:
  explicit LockedQueue(const PrivateServer& server)
      : dsn_{server.dsn() + " application_name=neighbour"}, thread_{[this] { run(); }} {}
  LockedQueue(const LockedQueue&) = delete;
  LockedQueue& operator=(const LockedQueue&) = delete;
  ~LockedQueue() {
    quit_ = true;
    thread_.join();
  }
  static void create(Sql& sql) {
    sql("select pgque.create_queue('locked')");
    sql("select pgque.set_queue_config('locked', 'rotation_period', '1 ms')");  // always due
  }

 private:
  // Until the end, or until the server stops.
  void keep_locked() {
    Sql sql{dsn_};
    pqxx::work work{sql.connection()};
    work.exec("select pgque.set_queue_config('locked', 'ticker_max_lag', '1 hour')");
    while (!quit_) {
      work.exec("select 1");
      std::this_thread::sleep_for(20ms);
    }
  }
  void run() {
    while (!quit_) {
      try {
        keep_locked();
      } catch (const std::exception&) {
        std::this_thread::sleep_for(20ms);
      }
    }
  }

  const std::string dsn_;
  std::atomic<bool> quit_{false};
  std::thread thread_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Chaos.

struct Damage {
  int kills = 0;
  int restarts = 0;
  int fast = 0;
  int immediate = 0;
};

Damage wreak_havoc(PrivateServer& server, std::vector<Participant*> participants, std::uint32_t seed, bool verbose,
                   const std::function<bool()>& enough) {
  Damage damage;
  std::multimap<Clock::time_point, Participant*> stopped;  // by when they start again
  const auto start_again = [&] {
    for (auto* const participant : participants) {
      if (participant->could_not_connect()) participant->start();
    }
  };
  std::mt19937 random{seed};
  const auto draw = [&](int from, int to) {
    return from + static_cast<int>(random() % static_cast<unsigned>(to - from + 1));
  };
  const auto connect = [&] { return std::make_unique<Sql>(server.dsn() + " application_name=chaos"); };
  auto sql = connect();
  for (int rounds = 1; !enough(); ++rounds) {
    std::this_thread::sleep_for(std::chrono::milliseconds{draw(10, 120)});
    while (!stopped.empty() && stopped.begin()->first <= Clock::now()) {
      stopped.begin()->second->start();
      stopped.erase(stopped.begin());
    }
    start_again();
    // Each of them once at least.
    const int choice = rounds <= 3 ? rounds : draw(1, 24);
    const int victim = draw(0, 1'000'000);
    if (choice == 1) {
      const auto how = victim % 2 == 0 ? PrivateServer::Stop::fast : PrivateServer::Stop::immediate;
      if (verbose) std::printf("  chaos: server stopped\n");
      server.stop(how);
      ++(how == PrivateServer::Stop::fast ? damage.fast : damage.immediate);
      std::this_thread::sleep_for(std::chrono::milliseconds{victim % 200});
      server.start();
      sql = connect();
    } else if (choice == 2) {
      auto& participant = *participants[static_cast<std::size_t>(victim) % participants.size()];
      if (participant.ended()) continue;  // stopped already, or for the audit to find
      if (verbose) std::printf("  chaos: consumer stopped\n");
      participant.stop();
      if (participant.failed()) continue;
      ++damage.restarts;
      stopped.emplace(Clock::now() + std::chrono::milliseconds{draw(0, 3000)}, &participant);
    } else {
      // Half of the time one that is at work, if there is any.
      const std::string sessions = "select pid from pg_stat_activity where application_name like 'pgque%'";
      auto pids = (*sql)(sessions + (choice % 2 == 0 ? " and state <> 'idle'" : "") + " order by backend_start, pid");
      if (pids.empty()) pids = (*sql)(sessions);
      if (pids.empty()) continue;
      const auto index = static_cast<pqxx::result::size_type>(static_cast<std::size_t>(victim) %
                                                              static_cast<std::size_t>(pids.size()));
      if (verbose) std::printf("  chaos: backend terminated\n");
      (*sql)(std::string{"select pg_terminate_backend("} + pids[index][0].c_str() + ")");
      ++damage.kills;
    }
  }
  for (const auto& [due, participant] : stopped) participant->start();
  wait_until([&] {
    start_again();
    return std::all_of(participants.begin(), participants.end(),
                       [](const Participant* participant) { return participant->connected(); });
  });
  return damage;
}

// ---------------------------------------------------------------------------------------------------------------------
// Waiting for the end, and the audit.

// True if every consumer has acknowledged everything up to this tick and no retry is under way.
bool finished_up_to(Sql& sql, std::int64_t tick) {
  return sql.number("select count(*) from pgque.retry_queue") == 0 &&
         sql.number("select count(*) from pgque.get_consumer_info('" + queue +
                    "') where current_batch is not null or " + "(consumer_name not like '%.%' and last_tick < " +
                    std::to_string(tick) + ")") == 0;
}

// False if nothing happens any more although not everything is done. `progress` grows whenever something happens.
bool wait_finished(Sql& sql, const std::function<std::size_t()>& progress) {
  // A retry is back in the queue when it has left the retry queue, and visible after another tick.
  for (int clean = 0; clean < 2;) {
    sql("select pgque.force_next_tick('" + queue + "')");
    sql("select pgque.ticker('" + queue + "')");
    const auto tick = sql.number("select last_tick_id from pgque.get_queue_info('" + queue + "')");
    const bool no_retries = sql.number("select count(*) from pgque.retry_queue") == 0;
    for (auto before = progress(); !wait_until([&] { return finished_up_to(sql, tick); }, 30s);) {
      const auto now = progress();
      if (now == before) return false;
      before = now;
    }
    clean = no_retries ? clean + 1 : 0;
  }
  return true;
}

class Audit {
 public:
  void expect(bool condition, const std::string& what) {
    if (condition) return;
    ++failures_;
    if (failures_ <= 20) std::printf("  WRONG: %s\n", what.c_str());
  }
  int failures() const { return failures_; }

 private:
  int failures_ = 0;
};

struct Column {
  std::size_t acked = 0, abandoned = 0, postponed = 0, unknown = 0, lost = 0, stale = 0;
  std::size_t deliveries = 0, duplicates = 0, only_unknown = 0, lost_messages = 0;
};

Column audit_book(const Book& book, const std::set<std::string>& stored, Audit& audit) {
  Column column;
  struct Entry {
    int acked = 0;
    std::uint64_t acked_at = 0;
    std::uint64_t last_received_at = 0;
    const Pass* last_done = nullptr;
    std::size_t done = 0;
  };
  std::map<std::string, Entry> entries;
  for (const auto& pass : book.passes()) {
    switch (pass.end) {
      case Pass::End::open:
        break;
      case Pass::End::acked:
        ++column.acked;
        break;
      case Pass::End::ack_unknown:
        ++column.unknown;
        break;
      case Pass::End::abandoned:
        ++column.abandoned;
        break;
      case Pass::End::postponed:
        ++column.postponed;
        break;
      case Pass::End::lost:
        ++column.lost;
        break;
      case Pass::End::stale:
        ++column.stale;
        break;
    }
    for (const auto& delivery : pass.deliveries) {
      auto& entry = entries[delivery.key];
      entry.last_received_at = std::max(entry.last_received_at, pass.received_at);
      if (!delivery.done) continue;
      ++entry.done;
      ++column.deliveries;
      if (pass.end == Pass::End::acked) {
        ++entry.acked;
        entry.acked_at = pass.ended_at;
      }
      if (!entry.last_done || pass.received_at > entry.last_done->received_at) entry.last_done = &pass;
    }
  }
  const auto where = book.kind() + ": message ";
  for (const auto& key : stored) {
    if (book.done().count(key) == 0) {
      ++column.lost_messages;
      audit.expect(false, where + key + " was lost");
    }
  }
  for (const auto& [key, entry] : entries) {
    if (entry.done == 0) continue;
    column.duplicates += entry.done - 1;
    audit.expect(entry.acked <= 1, where + key + " was handled in " + std::to_string(entry.acked) + " acked batches");
    if (entry.acked == 1) {
      audit.expect(entry.last_received_at < entry.acked_at, where + key + " came again after its batch was acked");
    } else if (entry.acked == 0) {
      ++column.only_unknown;
      audit.expect(entry.last_done->end == Pass::End::ack_unknown,
                   where + key + " was never handled in a batch whose ack may have been committed");
    }
  }
  audit.expect(column.postponed > 0, book.kind() + ": nothing was ever down");
  if (book.kind() == "hanging") audit.expect(column.lost > 0, "no batch of a hung handler was taken over");
  audit.expect(column.stale == 0, book.kind() + ": stale acks, though no other consumer has its name");
  for (const auto& [text, times] : book.surprises()) {
    audit.expect(false, book.kind() + ": " + std::to_string(times) + " times " + text);
  }
  return column;
}

void audit_crashes(const CrashingProcess& crashing, const Book& book, Sql& sql, Audit& audit) {
  int deliveries = 0;
  for (const auto& pass : book.passes()) {
    for (const auto& delivery : pass.deliveries) deliveries += delivery.key == poison ? 1 : 0;
  }
  audit.expect(deliveries == 3, "crashing: its message was handled " + std::to_string(deliveries) + " times");
  audit.expect(crashing.crashes() == 3, "crashing: " + std::to_string(crashing.crashes()) + " crashes");
  for (const int status : crashing.other_ends()) {
    audit.expect(false, "crashing: it ended with status " + std::to_string(status));
  }
  const auto dead =
      sql("select co_name, ev_data, dl_reason from pgque.dead_letter join pgque.consumer on co_id = "
          "dl_consumer_id");
  audit.expect(dead.size() == 1, std::to_string(dead.size()) + " dead letters");
  for (const auto& row : dead) {
    const bool expected = row[0].as<std::string>() == "crashing" && row[1].as<std::string>() == '"' + poison + '"' &&
                          row[2].as<std::string>() == poison_reason;
    audit.expect(expected,
                 std::string{"a dead letter of "} + row[0].c_str() + ", " + row[1].c_str() + ": " + row[2].c_str());
  }
  std::printf("\n  the process has crashed %d times; dead letters: %d\n", crashing.crashes(),
              static_cast<int>(dead.size()));
}

int keep_books(const Settings& settings) {
  std::printf("ledger: %d messages, %ld s, --seed %u\n", settings.messages,
              static_cast<long>(settings.duration.count()), settings.seed);
  std::fflush(stdout);
  PrivateServer server{{100, {}}};
  {
    Sql sql{server.dsn()};
    sql("create table ledger_sent (key text primary key)");
    sql("create table ledger_done (kind text not null, key text not null)");
    sql("select pgque.create_queue('" + queue + "')");
    sql("select pgque.set_queue_config('" + queue + "', 'max_retries', '3')");
    LockedQueue::create(sql);
    for (const auto* consumer : {"per_batch", "per_batch_paged", "split", "split_paged", "concurrent", "crashing"}) {
      sql(std::string{"select pgque.subscribe('"} + queue + "', '" + consumer + "')");
    }
    for (const auto* worker : {"a", "b", "c"}) {
      for (const auto* group : {"cooperative", "hanging"}) {
        sql(std::string{"select pgque.subscribe_subconsumer('"} + queue + "', '" + group + "', '" + worker + "')");
      }
    }
  }

  std::list<Book> books;
  std::list<Participant> participants;
  Hang hang;
  const auto add = [&](const std::string& kind, ConsumerOptions options) -> Book& {
    if (books.empty() || books.back().kind() != kind) books.emplace_back(kind);
    options.name = kind;
    auto* const hangs = options.handler_timeout ? &hang : nullptr;
    participants.emplace_back(server, books.back(), std::move(options), hangs, settings.verbose);
    return books.back();
  };
  auto options = options_of_all();
  options.transaction = TransactionMode::per_batch;
  add("per_batch", options);
  options.max_messages = 20;
  options.drain_timeout = 0s;  // when they are stopped they leave the rest of a batch
  add("per_batch_paged", options);
  options.transaction = TransactionMode::split;
  add("split_paged", options);
  options.max_messages.reset();
  options.drain_timeout = 25s;
  add("split", options);
  options.concurrency = 4;
  add("concurrent", options);
  options = options_of_all();
  options.drain_timeout = 0s;
  options.dead_interval = 1s;  // less than some are stopped for
  for (const auto* worker : {"a", "b", "c"}) {
    options.subconsumer = worker;
    add("cooperative", options);
  }
  options.handler_timeout = 100ms;
  for (const auto* worker : {"a", "b", "c"}) {
    options.subconsumer = worker;
    add("hanging", options);
  }
  Client{server.dsn()}.send(queue, '"' + poison + '"');
  CrashingProcess crashing{server, books.emplace_back("crashing"), settings.verbose};

  TickerOptions ticker_options;
  ticker_options.tick_period = 20ms;
  ticker_options.retry_period = ticker_options.maintenance_period = ticker_options.rotation_period = 200ms;
  ticker_options.ticker_max_lag = 50ms;
  ticker_options.reconnect = {20ms, 500ms};
  ticker_options.log = [](const LogRecord&) {};
  const LockedQueue neighbour{server};
  Ticker ticker{server.dsn(), ticker_options};
  Running<Ticker> ticking{ticker};

  for (auto& participant : participants) participant.start();
  // A first connection may not fail.
  Audit audit;
  audit.expect(wait_until([&] {
                 return std::all_of(participants.begin(), participants.end(), [](const Participant& participant) {
                   return participant.stats().state == ConsumerState::waiting;
                 });
               }),
               "not all consumers have started");

  const auto begin = Clock::now();
  constexpr int producer_count = 4;
  std::list<Producer> producers;
  for (int i = 1; i <= producer_count; ++i) {
    producers.emplace_back(server, i, settings.messages / producer_count, settings.duration);
  }
  std::vector<Participant*> victims;
  for (auto& participant : participants) victims.push_back(&participant);
  const auto damage = wreak_havoc(server, victims, settings.seed, settings.verbose, [&] {
    return std::all_of(producers.begin(), producers.end(),
                       [](const Producer& producer) { return producer.finished(); });
  });
  for (auto& producer : producers) producer.join();
  const auto sent_after = std::chrono::duration<double>(Clock::now() - begin).count();

  Sql sql{server.dsn()};
  const auto progress = [&] {
    std::size_t deliveries = 0;
    for (const auto& book : books) deliveries += book.delivery_count();
    return deliveries;
  };
  audit.expect(wait_finished(sql, progress), "the consumers do not come to an end");
  Client{server.dsn()}.send(queue, std::string{'"'} + Hang::last_key + '"');
  audit.expect(hang.wait_last_taken_over(), "nobody took over the batch of a handler that hung");
  audit.expect(wait_finished(sql, progress), "the consumers do not come to an end after that");
  const auto done_after = std::chrono::duration<double>(Clock::now() - begin).count();
  std::uint64_t reconnects = 0;
  std::uint64_t stuck = 0;
  for (auto& participant : participants) {
    audit.expect(!participant.ended(), "a consumer gave up: " + (participant.ended() ? participant.error() : ""));
    participant.stop();
    reconnects += participant.stats().reconnects;
    stuck += participant.stats().stuck;
  }
  crashing.stop();
  audit.expect(stuck > 0, "no handler hung");
  audit.expect(!ticking.ended(), "the ticker gave up");
  audit.expect(wait_until([&] { return ticker.stats().maintenance_errors + ticker.stats().rotation_errors != 0; }),
               "the locked queue was in nobody's way");
  ticking.stop_and_join();

  // What was stored.
  std::set<std::string> stored;
  for (const auto& row : sql("select key from ledger_sent")) stored.insert(row[0].c_str());
  const auto outboxed = stored.size();
  stored.insert(poison);
  stored.insert(Hang::last_key);
  std::size_t definite = 0, unknown = 0, unknown_stored = 0;
  int send_failures = 0;
  for (const auto& producer : producers) {
    send_failures += producer.failures();
    definite += producer.stored().size();
    for (const auto& key : producer.stored()) {
      const bool is_new = stored.insert(key).second;
      audit.expect(is_new != producer.outbox(), "message " + key + " was committed by its outbox and is not there");
    }
    for (const auto& group : producer.unknown()) {
      unknown += group.size();
      const auto& first = books.front().done();
      const auto arrived = first.count(group.front());
      unknown_stored += arrived * group.size();
      for (const auto& key : group) {
        audit.expect(first.count(key) == arrived, "message " + key + " does not share the fate of its send_batch");
        if (first.count(key) != 0) stored.insert(key);
      }
    }
  }

  std::printf("\n  sent: %zu messages known to be stored, %zu in transactions with their outbox rows\n", definite,
              outboxed);
  std::printf("  %d sends failed; of %zu messages the answer was lost, of which %zu had been stored\n", send_failures,
              unknown, unknown_stored);
  std::printf("  damage: %d sessions terminated, %d consumers restarted, server stopped %d times fast, %d immediate\n",
              damage.kills, damage.restarts, damage.fast, damage.immediate);
  std::printf("  %llu reconnects of consumers, %llu handlers hung; all sent after %.1f s, all handled after %.1f s\n\n",
              static_cast<unsigned long long>(reconnects), static_cast<unsigned long long>(stuck), sent_after,
              done_after);
  std::printf("  %-16s %8s %6s %10s %10s | batches: %7s %9s %9s %8s %5s %5s | rows\n", "consumer", "handled", "lost",
              "deliveries", "duplicates", "acked", "abandoned", "postponed", "no reply", "taken", "stale");
  for (const auto& book : books) {
    auto expected = stored;
    if (book.kind() == "crashing") expected.erase(poison);
    const auto column = audit_book(book, expected, audit);
    audit.expect(book.done() == expected, book.kind() + " handled what was not stored, or others did not");
    std::string rows = "-";
    if (book.kind().compare(0, 9, "per_batch") == 0) {
      const auto kind = " from ledger_done where kind = '" + book.kind() + "'";
      const auto all = sql.number("select count(*)" + kind);
      const auto distinct = sql.number("select count(distinct key)" + kind);
      rows = std::to_string(all);
      audit.expect(all == distinct, book.kind() + ": " + std::to_string(all - distinct) + " rows too many");
      audit.expect(distinct == static_cast<std::int64_t>(stored.size()),
                   book.kind() + ": " + std::to_string(distinct) + " messages have a row");
    }
    std::printf("  %-16s %8zu %6zu %10zu %10zu | %16zu %9zu %9zu %8zu %5zu %5zu | %s\n", book.kind().c_str(),
                book.done().size(), column.lost_messages, column.deliveries, column.duplicates, column.acked,
                column.abandoned, column.postponed, column.unknown, column.lost, column.stale, rows.c_str());
  }
  audit_crashes(crashing, books.back(), sql, audit);
  audit.expect(damage.kills > 0, "nothing was terminated");
  audit.expect(damage.restarts > 0, "no consumer was restarted");
  audit.expect(damage.fast + damage.immediate > 0, "the server was not restarted");
  std::printf("\n%s\n", audit.failures() == 0 ? "The books balance."
                                              : (std::to_string(audit.failures()) + " things are wrong.").c_str());
  return audit.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace pgque::test

int main(int argc, char** argv) {
  pgque::test::Settings settings;
  try {
    if (argc == 4 && argv[1] == std::string{"--crashing-process"}) {
      return pgque::test::consume_and_crash(argv[2], argv[3]);
    }
    for (int i = 1; i < argc; ++i) {
      const std::string option = argv[i];
      if (option == "--help" || option == "-h") {
        pgque::test::usage(argv[0]);
        return 0;
      }
      if (option == "--verbose") {
        settings.verbose = true;
        continue;
      }
      if (++i == argc) throw std::invalid_argument{option + " needs a value"};
      const auto value = std::stoul(argv[i]);
      if (option == "--messages") {
        settings.messages = static_cast<int>(value);
      } else if (option == "--seconds") {
        settings.duration = std::chrono::seconds{value};
      } else if (option == "--seed") {
        settings.seed = static_cast<std::uint32_t>(value);
      } else {
        throw std::invalid_argument{"unknown option " + option};
      }
    }
    return pgque::test::keep_books(settings);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
