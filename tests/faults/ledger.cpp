// The ledger: producers, consumers of every kind and a ticker on a private server, beside a queue that somebody keeps
// locked, while sessions are terminated, consumers are stopped and started again, and the server is stopped, crashed
// and restarted at random. Handlers fail, now and then something that they need is down, and some hang until another
// worker has taken their batch over. Some of the consumers are processes: those are also killed, and stopped by SIGSTOP
// for longer than their dead_interval, at random and in the middle of a handler or of a callback of on_ack(). One of
// them is a process that a certain message crashes; it has a crash_guard. In the end the books must balance.
//
// What is proved, for each kind of consumer:
//  1. nothing is lost: every message that was stored has been handled, and nothing else has;
//  2. a row that is written with the ack exists exactly once for each message. per_batch handlers write it in their
//     transaction, others in a callback of on_ack(): one consumer in split mode, two processes of one name with eight
//     handlers at once each, three processes that are workers of a group, and handlers of whole batches in both ways.
//     The table has no unique constraint, so that a second row would stay. Some handlers fail at the first attempt,
//     before or after they have written the row or registered the callback, and some callbacks fail after they have
//     written it: the row tells the attempt, and must be that of the retry;
//  3. a message is handled again only if the batch that it was handled in was not acknowledged: of all the deliveries
//     in which it was handled, at most one was in a batch whose ack is known to have been committed. If there is none,
//     then it was handled in a batch whose ack got no answer, because the connection broke or the process was killed.
//     Where one process has all the consumers of a kind, the order of events is known as well: no batch that was
//     received after the ack contains the message again, and without a known ack the last such delivery was in a batch
//     whose ack got no answer: the server had committed it, or the message would have come again, for in the end the
//     server says that every batch is finished;
//  4. the message that crashes the process does so three times and is then a dead letter, with that reason; nothing
//     else is one;
//  5. another worker takes over the batch of a handler that hangs, also when nothing else ends the heartbeats;
//  6. of processes that share the work, another one finishes the batch of one that was stopped in a callback of
//     on_ack(). When that one goes on, it finds the batch gone, and what its callbacks wrote is rolled back.
//
// What was stored is known as well as it can be: half of the producers are outboxes that record each message in a
// table in the transaction that sends it. The others know of some sends only that their answer got lost; all kinds of
// consumers must agree on whether those were stored, and the messages of one send_batch share their fate.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
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

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
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
      "sessions, kills and stops processes, and restarts consumers and the server meanwhile, and checks that each\n"
      "message was handled as promised. The seed decides what happens to whom and when. It uses a private PostgreSQL\n"
      "server.\n"
      "PGQUE_SQL: a pgque.sql to test with. Exit status: 0 the books balance, 1 they do not, 2 it could not run.\n",
      program);
}

// Spreads what happens to a few messages over those of the producers, which have a hyphen in their keys.
bool is_one_of(const std::string& key, std::size_t every, std::size_t which) {
  return key.find('-') != std::string::npos && std::hash<std::string>{}(key) % every == which;
}

bool fails_at_first(const std::string& key) {
  return is_one_of(key, 200, 0);
}

// Once for each consumer.
bool finds_something_down(const std::string& key) {
  return is_one_of(key, 500, 1);
}

// ---------------------------------------------------------------------------------------------------------------------
// The kinds of consumers.

struct Kind {
  enum class Rows { none, in_transaction, on_ack };

  std::string name;
  Rows rows = Rows::none;
  std::function<void(ConsumerOptions&)> configure;
  // Of a group; or empty names, one for each consumer.
  std::vector<std::string> workers{""};
  std::optional<std::int32_t> chunk{};  // of handlers of batches
  bool hangs = false;
  bool as_processes = false;

  bool is_group() const { return !workers.front().empty(); }
  // Whether several processes have the same messages, so that the order of what happens in them is not known.
  bool is_shared() const { return as_processes && workers.size() > 1; }

  ConsumerOptions options(const std::string& worker) const {
    ConsumerOptions options;
    options.queue = queue;
    options.name = name;
    options.subconsumer = worker;
    options.retry_after = 0s;
    options.reconnect = {20ms, 500ms};
    options.poll_interval = 2s;
    if (!worker.empty()) {
      options.drain_timeout = 0s;
      options.dead_interval = 1s;  // less than some are stopped for
    }
    configure(options);
    return options;
  }
};

constexpr auto stopped_for = 1500ms;  // longer than dead_interval

const std::vector<Kind>& all_kinds() {
  using Rows = Kind::Rows;
  static const auto per_batch = [](ConsumerOptions& options) { options.transaction = TransactionMode::per_batch; };
  static const auto split = [](ConsumerOptions& options) { options.transaction = TransactionMode::split; };
  // When they are stopped they leave the rest of a batch.
  static const auto paged = [](ConsumerOptions& options) {
    options.max_messages = 20;
    options.drain_timeout = 0s;
  };
  static const auto at_once = [](std::int32_t handlers) {
    return [handlers](ConsumerOptions& options) {
      split(options);
      options.concurrency = handlers;
    };
  };
  static const auto nothing_special = [](ConsumerOptions&) {};
  static const std::vector<std::string> three{"a", "b", "c"};
  static const std::vector<Kind> kinds = [] {
    std::vector<Kind> out;
    const auto add = [&](Kind kind) { out.push_back(std::move(kind)); };
    add({"per_batch", Rows::in_transaction, per_batch});
    add({"per_batch_paged", Rows::in_transaction, [](ConsumerOptions& options) {
           per_batch(options);
           paged(options);
         }});
    const auto split_paged = [](ConsumerOptions& options) {
      split(options);
      paged(options);
    };
    add({"split_paged", Rows::none, split_paged});
    add({"split", Rows::none, split});
    add({"concurrent", Rows::none, at_once(4)});
    add({"cooperative", Rows::none, nothing_special, three});
    Kind hanging{"hanging", Rows::none, [](ConsumerOptions& options) { options.handler_timeout = 100ms; }, three};
    hanging.hangs = true;
    add(hanging);
    add({"split_on_ack", Rows::on_ack, split_paged});
    Kind concurrent{"concurrent_on_ack", Rows::on_ack, at_once(8), {"", ""}};
    concurrent.as_processes = true;
    add(concurrent);
    Kind cooperative{"cooperative_on_ack", Rows::on_ack, nothing_special, three};
    cooperative.as_processes = true;
    add(cooperative);
    Kind batches{"batches", Rows::in_transaction, [](ConsumerOptions& options) {
                   per_batch(options);
                   options.max_messages = 300;
                 }};
    batches.chunk = 100;
    add(batches);
    Kind batches_on_ack{"batches_on_ack", Rows::on_ack, at_once(4)};
    batches_on_ack.chunk = 40;
    add(batches_on_ack);
    Kind crashing{"crashing", Rows::none, at_once(4)};
    crashing.as_processes = true;
    add(crashing);
    return out;
  }();
  return kinds;
}

const Kind& kind_of(const std::string& name) {
  const auto& kinds = all_kinds();
  return *std::find_if(kinds.begin(), kinds.end(), [&](const Kind& kind) { return kind.name == name; });
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
  explicit Book(const Kind& kind) : kind_{kind} {}
  const Kind& kind() const { return kind_; }
  const std::string& name() const { return kind_.name; }

  // One per consumer of the kind.
  class Writer {
   public:
    Writer(Book& book, bool verbose) : book_{book}, verbose_{verbose} {}
    void log(const LogRecord& record);
    void deliver(const std::string& key, bool done);
    // The consumer's process has ended, and with it the batch. If it was killed, perhaps while it was acknowledging.
    void process_ended(bool killed);

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
  // How many batches another consumer has finished or taken over.
  std::size_t gone_count() const {
    const std::lock_guard lock{mutex_};
    return static_cast<std::size_t>(std::count_if(passes_.begin(), passes_.end(), [](const Pass& pass) {
      return pass.end == Pass::End::lost || pass.end == Pass::End::stale;
    }));
  }

  // All consumers have ended.
  const std::list<Pass>& passes() const { return passes_; }
  const std::set<std::string>& done() const { return done_; }
  const std::map<std::string, int>& surprises() const { return surprises_; }

 private:
  const Kind& kind_;
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
    std::printf("  %s: %s: %s\n", book_.name().c_str(), std::string{to_string(record.event)}.c_str(), text.c_str());
  }
  switch (record.event) {
    case LogEvent::batch_received:
      lost_ = nullptr;
      pass_ = &book_.passes_.emplace_back();
      pass_->received_at = ++clock_;
      break;
    case LogEvent::batch_acked: {
      // After a lost answer a batch that is gone may have been finished by whoever else could.
      const bool others = book_.kind_.is_shared() || book_.kind_.is_group();
      end(others && text.find("answer") != std::string::npos ? Pass::End::ack_unknown : Pass::End::acked);
      break;
    }
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
    case LogEvent::failed:
      // PgQue may say so if two processes receive with one name.
      if (book_.kind_.is_shared() && text.find("PgQ corruption") != std::string::npos) break;
      [[fallthrough]];
    case LogEvent::nack_failed:
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

void Book::Writer::process_ended(bool killed) {
  const std::lock_guard lock{book_.mutex_};
  if (pass_) end(killed ? Pass::End::ack_unknown : Pass::End::abandoned);
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

std::int32_t attempt_of(const Message& message) {
  return message.retry_count.value_or(0) + 1;
}

// What the consumers of a kind do with messages, wherever they run.
class Handlers {
 public:
  struct Hooks {
    std::function<void(const std::string& key, bool done)> deliver;
    // Called in the middle of a handler of single messages, and at the end of a callback.
    std::function<void(const std::string& key, const Context& context)> in_handler = [](auto&&...) {};
    std::function<void(const std::string& key)> in_callback = [](auto&&...) {};
  };

  Handlers(const Kind& kind, Hooks hooks) : kind_{kind}, hooks_{std::move(hooks)} {}

  void add_to(Consumer& consumer) {
    if (kind_.chunk) {
      const auto handle = [this](const std::vector<Message>& messages, BatchContext& context) {
        handle_batch(messages, context);
      };
      consumer.on_batch("*", handle, {kind_.chunk});
    } else {
      consumer.on("*", [this](const Message& message, Context& context) { handle(message, context); });
    }
  }

 private:
  struct Row {
    std::string key;
    std::int32_t attempt;
  };
  enum class Place { before, after, callback };

  // Where something happens to a message: before its handler writes the row or registers the callback that does,
  // after that, or in the callback.
  Place place_of(const std::string& key) const {
    const auto drawn = std::hash<std::string>{}(key) / 1000 % 3;
    if (kind_.rows == Kind::Rows::none || drawn == 0) return Place::before;
    return kind_.rows == Kind::Rows::on_ack && drawn == 2 ? Place::callback : Place::after;
  }

  void handle(const Message& message, Context& context) {
    const auto key = key_of(message);
    const auto place = place_of(key);
    const bool fails = context.attempt() == 1 && fails_at_first(key);
    const auto meet_trouble = [this, key, place, fails](Place here) {
      if (here != place) return;
      const bool down = !fails && is_down(key);
      if (!fails && !down) return;
      if (here != Place::callback) hooks_.deliver(key, false);
      if (fails) throw std::runtime_error{"fails at first"};
      throw NotNow{10ms, "something is down"};
    };
    meet_trouble(Place::before);
    hooks_.in_handler(key, context);
    write({{key, context.attempt()}}, context, [this, key, meet_trouble] {
      hooks_.in_callback(key);
      meet_trouble(Place::callback);
    });
    meet_trouble(Place::after);
    hooks_.deliver(key, !(fails && place == Place::callback));
  }

  // Messages that fail are named to the context. Now and then a message takes all those of its call with it, but none
  // so often that it becomes a dead letter.
  void handle_batch(const std::vector<Message>& messages, BatchContext& context) {
    const auto spoils = [](const Message& message) {
      return attempt_of(message) == 1 && is_one_of(key_of(message), 1000, 7);
    };
    const auto find = [&](const auto& what) { return std::find_if(messages.begin(), messages.end(), what); };
    const auto spoiler = find(spoils);
    const bool spoilt = spoiler != messages.end() &&
                        find([](const Message& message) { return attempt_of(message) > 2; }) == messages.end();
    const auto down = find([&](const Message& message) { return is_down(key_of(message)); });
    const auto place = spoilt ? place_of(key_of(*spoiler)) : down != messages.end() ? place_of(key_of(*down)) : Place{};
    const auto meet_trouble = [spoilt, is_down = down != messages.end(), place](Place here) {
      if (here != place) return;
      if (spoilt) throw std::runtime_error{"one of them fails"};
      if (is_down) throw NotNow{10ms, "something is down"};
    };
    const auto fails = [](const Message& message) {
      return attempt_of(message) == 1 && fails_at_first(key_of(message));
    };
    const auto deliver = [&](bool all_fail) {
      for (const auto& message : messages) hooks_.deliver(key_of(message), !all_fail && !fails(message));
    };
    try {
      meet_trouble(Place::before);
      std::vector<Row> rows;
      for (const auto& message : messages) {
        if (!fails(message)) {
          rows.push_back({key_of(message), attempt_of(message)});
        } else if (std::hash<std::string>{}(key_of(message)) / 200 % 2 == 0) {
          context.fail(message, "fails at first");
        } else {
          context.retry(message, 0s, "not yet");
        }
      }
      write(rows, context, [meet_trouble] { meet_trouble(Place::callback); });
      meet_trouble(Place::after);
    } catch (...) {
      deliver(true);
      throw;
    }
    deliver(spoilt && place == Place::callback);
  }

  void write(std::vector<Row> rows, Context& context, std::function<void()> in_callback) const {
    if (kind_.rows == Kind::Rows::in_transaction) insert(rows, context.transaction());
    if (kind_.rows != Kind::Rows::on_ack) return;
    context.on_ack([this, rows = std::move(rows), in_callback = std::move(in_callback)](pqxx::transaction_base& t) {
      insert(rows, t);
      in_callback();
    });
  }

  void insert(const std::vector<Row>& rows, pqxx::transaction_base& transaction) const {
    std::string values;
    for (const auto& row : rows) {
      values += (values.empty() ? "(" : ", (") + transaction.quote(kind_.name) + ", " + transaction.quote(row.key) +
                ", " + std::to_string(row.attempt) + ')';
    }
    if (!rows.empty()) transaction.exec("insert into ledger_done values " + values);
  }

  // Whether the message finds something down now, which it does once.
  bool is_down(const std::string& key) {
    if (!finds_something_down(key)) return false;
    const std::lock_guard lock{mutex_};
    return down_for_.insert(key).second;
  }

  const Kind& kind_;
  const Hooks hooks_;
  std::mutex mutex_;
  std::set<std::string> down_for_;
};

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
  Participant(const PrivateServer& server, Book& book, const std::string& worker, Hang& hang, bool verbose)
      : hang_{book.kind().hangs ? &hang : nullptr},
        writer_{book, verbose},
        handlers_{book.kind(), hooks()},
        consumer_{server.dsn(), completed(book.kind().options(worker))} {
    handlers_.add_to(consumer_);
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
  Handlers::Hooks hooks() {
    Handlers::Hooks hooks;
    hooks.deliver = [this](const std::string& key, bool done) { writer_.deliver(key, done); };
    if (hang_) {
      hooks.in_handler = [this](const std::string& key, const Context& context) { hang_->in_handler_of(key, context); };
    }
    return hooks;
  }
  ConsumerOptions completed(ConsumerOptions options) {
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
  std::atomic<bool> connected_{false};
  Book::Writer writer_;
  Handlers handlers_;
  Consumer consumer_;
  std::optional<Running<Consumer>> running_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Consumers that are processes.

// The arguments of such a process, behind the option.
struct ProcessArguments {
  std::string kind;
  std::string worker;
  std::string dsn;
  std::string directory;   // where all processes keep what is to outlive them
  std::size_t stop_every;  // one of so many messages stops it
};

// Stops the process by certain messages, each once for all processes of a kind.
class Stops {
 public:
  using Print = std::function<void(const std::string&)>;
  Stops(ProcessArguments arguments, Print print) : arguments_{std::move(arguments)}, print_{std::move(print)} {}

  void in_handler(const std::string& key) const {
    if (is_one_of(key, arguments_.stop_every, 3)) stop(key);
  }
  void in_callback(const std::string& key) const {
    if (key == last_key || is_one_of(key, arguments_.stop_every, 4)) stop(key);
  }

  // The message of this key does it, too.
  static constexpr const char* last_key = "stops last";

 private:
  void stop(const std::string& key) const {
    const auto marker = arguments_.directory + '/' + arguments_.kind + '.' + key;
    const int file = ::open(marker.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0) return;
    ::close(file);
    print_("stops " + key);
    ::raise(SIGSTOP);
    print_("continues " + key);
  }

  const ProcessArguments arguments_;
  const Print print_;
};

// Sanitizers handle the signal and exit instead, so their handler is taken away first.
void crash() {
  ::prctl(PR_SET_DUMPABLE, 0);  // leaves no core file
  std::signal(SIGSEGV, SIG_DFL);
  auto* const page = static_cast<volatile char*>(::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  *page = 1;
}

// That process. Each of its lines is what a Book::Writer is to be told: "event NUMBER TEXT" or "done KEY", "begun KEY";
// or "stops KEY" and "continues KEY".
int consume_in_process(const ProcessArguments& arguments) {
  std::mutex mutex;
  const auto print = [&mutex](std::string line) {
    const std::lock_guard lock{mutex};
    std::replace(line.begin(), line.end(), '\n', ' ');
    std::puts(line.c_str());
    std::fflush(stdout);
  };
  const auto& kind = kind_of(arguments.kind);
  auto options = kind.options(arguments.worker);
  const bool crashes = arguments.kind == "crashing";
  if (crashes) options.crash_guard = CrashGuard{arguments.directory + "/guard", 3};
  options.log = [&](const LogRecord& record) {
    print("event " + std::to_string(static_cast<int>(record.event)) + ' ' + std::string{record.message});
  };
  const Stops stops{arguments, print};
  Handlers::Hooks hooks;
  hooks.deliver = [&](const std::string& key, bool done) { print((done ? "done " : "begun ") + key); };
  hooks.in_handler = [&](const std::string& key, const Context&) {
    if (crashes && key == poison) {
      hooks.deliver(key, false);
      crash();
    }
    if (!crashes) stops.in_handler(key);
  };
  hooks.in_callback = [&](const std::string& key) { stops.in_callback(key); };
  Handlers handlers{kind, hooks};
  Consumer consumer{arguments.dsn, options};
  handlers.add_to(consumer);
  stop_on_signals(consumer);
  try {
    consumer.start();
    return 0;
  } catch (const ConnectionError&) {
    return 1;  // the first connection may fail
  }
}

// Starts it again whenever it has ended, and lets it go on when it has been stopped for long enough.
class ConsumerProcess {
 public:
  ConsumerProcess(Book& book, ProcessArguments arguments, bool verbose)
      : arguments_{std::move(arguments)}, writer_{book, verbose}, keeper_{[this] { keep_running(); }}, waker_{[this] {
          wake();
        }} {}
  ConsumerProcess(const ConsumerProcess&) = delete;
  ConsumerProcess& operator=(const ConsumerProcess&) = delete;
  ~ConsumerProcess() { stop(); }

  void stop() {
    quit_ = true;
    strike(SIGTERM);
    if (keeper_.joinable()) keeper_.join();
    ended_ = true;
    if (waker_.joinable()) waker_.join();
  }
  const std::string& kind() const { return arguments_.kind; }
  // SIGKILL, SIGTERM, or SIGSTOP, which lasts for a time. False if there is no such process at this moment.
  bool strike(int signal) {
    const std::lock_guard lock{mutex_};
    if (!process_) return false;
    struck_.insert(signal);
    if (signal == SIGSTOP) {
      const std::lock_guard stops{stops_mutex_};
      struck_at_ = Clock::now();
    }
    process_->signal(signal);
    return true;
  }
  // Until this, it remains stopped if the last message stopped it.
  void release() { released_ = true; }

  // After stop().
  int crashes() const { return crashes_; }
  const std::set<int>& other_ends() const { return other_ends_; }

 private:
  using Time = std::optional<Clock::time_point>;

  void keep_running() {
    while (start()) {
      // Until somebody asks for its status, no other process has its number, so it may be sent signals.
      siginfo_t info{};
      while (::waitid(P_PID, static_cast<id_t>(process_->pid()), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
      }
      if (is_without_server(end())) std::this_thread::sleep_for(20ms);
    }
  }
  bool start() {
    const std::lock_guard lock{mutex_};
    if (quit_) return false;
    ProcessOptions options;
    options.on_line = [this](const std::string& line) { read(line); };
    struck_.clear();
    process_.emplace(
        std::vector<std::string>{"/proc/self/exe", "--consume", arguments_.kind, arguments_.worker, arguments_.dsn,
                                 arguments_.directory, std::to_string(arguments_.stop_every)},
        options);
    return true;
  }
  // Its status.
  int end() {
    const std::lock_guard lock{mutex_};
    const int status = process_->wait();
    process_.reset();
    {
      const std::lock_guard stops{stops_mutex_};
      struck_at_.reset();
      stopped_at_.reset();
    }
    const bool killed = status == 128 + SIGKILL && struck_.count(SIGKILL) != 0;
    const bool terminated = (status == 0 || status == 128 + SIGTERM) && struck_.count(SIGTERM) != 0;
    writer_.process_ended(killed);
    if (status == 128 + SIGSEGV) {
      ++crashes_;
    } else if (!killed && !terminated && !is_without_server(status)) {
      other_ends_.insert(status);
    }
    return status;
  }
  static bool is_without_server(int status) { return status == 1; }

  // What stops the process by itself may come after a signal to go on, so it gets them until it says that it does.
  void wake() {
    for (; !ended_; std::this_thread::sleep_for(20ms)) {
      const std::lock_guard lock{mutex_};
      const std::lock_guard stops{stops_mutex_};
      const auto is_due = [](const Time& since) { return since && Clock::now() - *since > stopped_for; };
      const bool is_held = stopped_at_ && stopped_by_last_ && !released_;
      if (!process_ || (!quit_ && (is_held || (!is_due(struck_at_) && !is_due(stopped_at_))))) continue;
      struck_at_.reset();
      process_->signal(SIGCONT);
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
    } else if (what == "stops" || what == "continues") {
      const std::lock_guard stops{stops_mutex_};
      stopped_at_ = what == "stops" ? Time{Clock::now()} : Time{};
      stopped_by_last_ = rest == Stops::last_key;
    } else if (what != "WARNING:" && what != "FATAL:") {       // which libpqxx prints when the server ends a session
      writer_.log({LogLevel::error, LogEvent::failed, line});  // for the audit to find
    }
  }

  const ProcessArguments arguments_;
  Book::Writer writer_;
  std::atomic<bool> quit_{false}, ended_{false}, released_{false};
  std::mutex mutex_;
  std::optional<Process> process_;
  std::set<int> struck_;
  int crashes_ = 0;
  std::set<int> other_ends_;
  std::mutex stops_mutex_;  // locked after the other one; the process's lines are read under this one alone
  Time struck_at_, stopped_at_;
  bool stopped_by_last_ = false;
  std::thread keeper_, waker_;
};

// A directory that is removed in the end.
class Directory {
 public:
  Directory() {
    if (!::mkdtemp(path_.data())) throw std::system_error{errno, std::generic_category(), "mkdtemp"};
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/pgque_ledger_XXXXXX";
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
  std::map<int, int> struck;  // how often processes got each signal
};

Damage wreak_havoc(PrivateServer& server, std::vector<Participant*> participants,
                   std::vector<ConsumerProcess*> processes, std::uint32_t seed, bool verbose,
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
    const int choice = rounds <= 6 ? rounds : draw(1, 27);
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
    } else if (choice <= 5) {
      const int signal = choice == 3 ? SIGSTOP : choice == 4 ? SIGKILL : SIGTERM;
      auto& process = *processes[static_cast<std::size_t>(victim) % processes.size()];
      if (verbose) std::printf("  chaos: a process of %s gets signal %d\n", process.kind().c_str(), signal);
      if (wait_until([&] { return process.strike(signal); })) ++damage.struck[signal];
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
    std::size_t unknown = 0;
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
      if (pass.end == Pass::End::ack_unknown) ++entry.unknown;
      if (!entry.last_done || pass.received_at > entry.last_done->received_at) entry.last_done = &pass;
    }
  }
  const auto& kind = book.kind();
  const auto where = book.name() + ": message ";
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
      audit.expect(kind.is_shared() || entry.last_received_at < entry.acked_at,
                   where + key + " came again after its batch was acked");
    } else if (entry.acked == 0) {
      ++column.only_unknown;
      audit.expect(kind.is_shared() ? entry.unknown > 0 : entry.last_done->end == Pass::End::ack_unknown,
                   where + key + " was never handled in a batch whose ack may have been committed");
    }
  }
  audit.expect(column.postponed > 0, book.name() + ": nothing was ever down");
  if (kind.hangs) audit.expect(column.lost > 0, "no batch of a hung handler was taken over");
  audit.expect(column.stale == 0 || (kind.is_shared() && !kind.is_group()),
               book.name() + ": stale acks, though no other consumer has its name");
  for (const auto& [text, times] : book.surprises()) {
    audit.expect(false, book.name() + ": " + std::to_string(times) + " times " + text);
  }
  return column;
}

// Each message has one row, which comes from the attempt that succeeded. Returns how many rows there are.
std::size_t audit_rows(const Kind& kind, const std::set<std::string>& stored, Sql& sql, Audit& audit) {
  std::map<std::string, std::vector<std::int32_t>> attempts;
  const auto rows = sql("select key, attempt from ledger_done where kind = " + sql.quote(kind.name));
  for (const auto& row : rows) attempts[row[0].c_str()].push_back(row[1].as<std::int32_t>());
  const auto where = kind.name + ": message ";
  std::size_t retried = 0;
  for (const auto& key : stored) {
    const auto& of_message = attempts[key];
    audit.expect(of_message.size() == 1, where + key + " has " + std::to_string(of_message.size()) + " rows");
    for (const auto attempt : of_message) {
      const int succeeding = fails_at_first(key) ? 2 : 1;
      retried += attempt > 1 ? 1 : 0;
      // Messages of a batch may fail because another one does.
      audit.expect(attempt == succeeding || (kind.chunk && attempt > succeeding),
                   where + key + " has the row of attempt " + std::to_string(attempt));
    }
  }
  for (const auto& [key, of_message] : attempts) {
    audit.expect(stored.count(key) != 0,
                 where + key + " has " + std::to_string(of_message.size()) + " rows and was not stored");
  }
  audit.expect(retried > 0, kind.name + ": no row comes from a retry");
  return static_cast<std::size_t>(rows.size());
}

void audit_crashes(const ConsumerProcess& crashing, const Book& book, Sql& sql, Audit& audit) {
  int deliveries = 0;
  for (const auto& pass : book.passes()) {
    for (const auto& delivery : pass.deliveries) deliveries += delivery.key == poison ? 1 : 0;
  }
  audit.expect(deliveries == 3, "crashing: its message was handled " + std::to_string(deliveries) + " times");
  audit.expect(crashing.crashes() == 3, "crashing: " + std::to_string(crashing.crashes()) + " crashes");
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
    sql("create table ledger_done (kind text not null, key text not null, attempt int not null)");
    sql("select pgque.create_queue('" + queue + "')");
    sql("select pgque.set_queue_config('" + queue + "', 'max_retries', '3')");
    LockedQueue::create(sql);
    for (const auto& kind : all_kinds()) {
      if (!kind.is_group()) sql("select pgque.subscribe('" + queue + "', '" + kind.name + "')");
      for (const auto& worker : kind.workers) {
        if (!kind.is_group()) continue;
        sql("select pgque.subscribe_subconsumer('" + queue + "', '" + kind.name + "', '" + worker + "')");
      }
    }
  }

  const Directory directory;
  std::list<Book> books;
  std::list<Participant> participants;
  std::list<ConsumerProcess> processes;
  std::vector<ConsumerProcess*> sharing;  // those whose work another process can do
  Hang hang;
  Client{server.dsn()}.send(queue, '"' + poison + '"');
  for (const auto& kind : all_kinds()) {
    auto& book = books.emplace_back(kind);
    for (const auto& worker : kind.workers) {
      if (!kind.as_processes) {
        participants.emplace_back(server, book, worker, hang, settings.verbose);
        continue;
      }
      const auto stop_every = static_cast<std::size_t>(std::max(settings.messages / 4, 5));
      processes.emplace_back(book, ProcessArguments{kind.name, worker, server.dsn(), directory.path(), stop_every},
                             settings.verbose);
      if (kind.is_shared()) sharing.push_back(&processes.back());
    }
  }

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
  const auto damage = wreak_havoc(server, victims, sharing, settings.seed, settings.verbose, [&] {
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
  std::map<const Book*, std::size_t> gone_before;
  for (const auto& book : books) {
    if (book.kind().is_shared()) gone_before[&book] = book.gone_count();
  }
  Client{server.dsn()}.send_batch(queue, "default", payloads_of({Hang::last_key, Stops::last_key}));
  sql("select pgque.force_next_tick('" + queue + "')");
  audit.expect(hang.wait_last_taken_over(), "nobody took over the batch of a handler that hung");
  for (const auto& [book, before] : gone_before) {
    const auto row = "select count(*) from ledger_done where kind = " + sql.quote(book->name()) +
                     " and key = " + sql.quote(Stops::last_key);
    audit.expect(wait_until([&] { return sql.number(row) == 1; }, 30s),
                 book->name() + ": no other process has handled the batch of one that was stopped in its callback");
  }
  for (auto* const process : sharing) process->release();
  for (const auto& [book, before] : gone_before) {
    audit.expect(wait_until([&, of = book, since = before] { return of->gone_count() > since; }, 30s),
                 book->name() + ": the process that was stopped in its callback did not find its batch gone");
  }
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
  for (auto& process : processes) {
    process.stop();
    for (const int status : process.other_ends()) {
      audit.expect(false, process.kind() + ": a process ended with status " + std::to_string(status));
    }
  }
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
  stored.insert(Stops::last_key);
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
  const auto struck = [&](int signal) { return damage.struck.count(signal) != 0 ? damage.struck.at(signal) : 0; };
  std::printf("  damage: %d sessions terminated, %d consumers restarted, server stopped %d times fast, %d immediate\n",
              damage.kills, damage.restarts, damage.fast, damage.immediate);
  std::printf("  of processes: %d stopped for a time, %d killed, %d terminated\n", struck(SIGSTOP), struck(SIGKILL),
              struck(SIGTERM));
  std::printf("  %llu reconnects of consumers, %llu handlers hung; all sent after %.1f s, all handled after %.1f s\n\n",
              static_cast<unsigned long long>(reconnects), static_cast<unsigned long long>(stuck), sent_after,
              done_after);
  std::printf("  %-18s %8s %6s %10s %10s | batches: %7s %9s %9s %8s %5s %5s | rows\n", "consumer", "handled", "lost",
              "deliveries", "duplicates", "acked", "abandoned", "postponed", "no reply", "taken", "stale");
  for (const auto& book : books) {
    auto expected = stored;
    if (book.name() == "crashing") expected.erase(poison);
    const auto column = audit_book(book, expected, audit);
    audit.expect(book.done() == expected, book.name() + " handled what was not stored, or others did not");
    std::string rows = "-";
    if (book.kind().rows != Kind::Rows::none) rows = std::to_string(audit_rows(book.kind(), stored, sql, audit));
    std::printf("  %-18s %8zu %6zu %10zu %10zu | %16zu %9zu %9zu %8zu %5zu %5zu | %s\n", book.name().c_str(),
                book.done().size(), column.lost_messages, column.deliveries, column.duplicates, column.acked,
                column.abandoned, column.postponed, column.unknown, column.lost, column.stale, rows.c_str());
  }
  audit_crashes(processes.back(), books.back(), sql, audit);
  audit.expect(damage.kills > 0, "nothing was terminated");
  audit.expect(damage.restarts > 0, "no consumer was restarted");
  for (const int signal : {SIGSTOP, SIGKILL, SIGTERM}) {
    audit.expect(struck(signal) > 0, "no process got signal " + std::to_string(signal));
  }
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
    if (argc == 7 && argv[1] == std::string{"--consume"}) {
      // Without a look for leaks at the end, which LeakSanitizer does by stopping the process itself: a signal to stop
      // or to go on that comes then hangs both, and one that kills leaves a child that complains. The consumers of this
      // process are looked at.
      ::_exit(pgque::test::consume_in_process({argv[2], argv[3], argv[4], argv[5], std::stoul(argv[6])}));
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
