#pragma once

// Every verb of Operations, for tests of what all of them have in common, and the ways to call them.

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <pgque/pgque.hpp>
#include <pgque/pqxx.hpp>
#include <pqxx/pqxx>

#include "database.hpp"

namespace pgque::test {

// A batch and an event that do not exist.
inline constexpr BatchId no_batch{std::numeric_limits<std::int64_t>::max()};
inline constexpr EventId no_event{std::numeric_limits<std::int64_t>::max()};

struct Verb {
  const char* name;
  const char* role;  // the one that has to be granted
  std::function<void(Operations&, const std::string& queue, const std::string& consumer)> call;
  const char* unknown_queue;     // the class of error for a queue that does not exist
  const char* unknown_consumer;  // the same for a consumer that does not
};

// Which batch it is about is no_batch. Cooperative verbs use the group named `consumer` and its member "w".
inline const std::vector<Verb>& verbs() {
  using Ops = Operations;
  using Name = const std::string&;
  static const std::vector<Verb> all{
      {"send_json", "pgque_writer", [](Ops& ops, Name q, Name) { ops.send(q, R"({"a": 1})"); }, "QueueNotFound",
       "nothing"},
      {"send_text", "pgque_writer", [](Ops& ops, Name q, Name) { ops.send(q, text("opaque"), "t"); }, "QueueNotFound",
       "nothing"},
      {"send_event", "pgque_writer",
       [](Ops& ops, Name q, Name) {
         ops.send(q, Event{nullptr, "t"});
       },
       "QueueNotFound", "nothing"},
      {"send_batch_json", "pgque_writer",
       [](Ops& ops, Name q, Name) {
         ops.send_batch(q, "t", {"1", "2"});
       },
       "QueueNotFound", "nothing"},
      {"send_batch_text", "pgque_writer", [](Ops& ops, Name q, Name) { ops.send_batch(q, "t", {text("a")}); },
       "QueueNotFound", "nothing"},
      {"send_batch_mixed", "pgque_writer",
       [](Ops& ops, Name q, Name) {
         ops.send_batch(q, "t", {"1", text("b")});
       },
       "QueueNotFound", "nothing"},
      {"send_keyed_event", "pgque_writer",
       [](Ops& ops, Name q, Name) {
         ops.send(q, Event{"1", "t", "key", {{"name", "value"}}});
       },
       "QueueNotFound", "nothing"},
      {"send_keyed_text_event", "pgque_writer",
       [](Ops& ops, Name q, Name) {
         ops.send(q, Event{text("a"), "t", "key"});
       },
       "QueueNotFound", "nothing"},
      {"send_batch_events", "pgque_writer",
       [](Ops& ops, Name q, Name) {
         ops.send_batch(q, {{"1", "t", "key"}, {text("b"), "u"}});
       },
       "QueueNotFound", "nothing"},
      {"subscribe", "pgque_reader", [](Ops& ops, Name q, Name c) { ops.subscribe(q, c); }, "QueueNotFound", "nothing"},
      {"unsubscribe", "pgque_reader", [](Ops& ops, Name q, Name c) { ops.unsubscribe(q, c); }, "nothing", "nothing"},
      {"receive", "pgque_reader", [](Ops& ops, Name q, Name c) { ops.receive(q, c); }, "ConsumerNotFound",
       "ConsumerNotFound"},
      {"receive_limited", "pgque_reader", [](Ops& ops, Name q, Name c) { ops.receive(q, c, 5); }, "ConsumerNotFound",
       "ConsumerNotFound"},
      {"ack", "pgque_reader", [](Ops& ops, Name, Name) { ops.ack(no_batch); }, "nothing", "nothing"},
      {"nack", "pgque_reader", [](Ops& ops, Name, Name) { ops.nack(no_batch, no_event); }, "BatchNotFound",
       "BatchNotFound"},
      {"subscribe_subconsumer", "pgque_reader", [](Ops& ops, Name q, Name c) { ops.subscribe_subconsumer(q, c, "w"); },
       "QueueNotFound", "nothing"},
      {"unsubscribe_subconsumer", "pgque_reader",
       [](Ops& ops, Name q, Name c) { ops.unsubscribe_subconsumer(q, c, "w"); }, "nothing", "nothing"},
      {"receive_coop", "pgque_reader", [](Ops& ops, Name q, Name c) { ops.receive_coop(q, c, "w"); }, "QueueNotFound",
       "nothing"},
      {"touch_subconsumer", "pgque_reader", [](Ops& ops, Name q, Name c) { ops.touch_subconsumer(q, c, "w"); },
       "nothing", "nothing"},
      {"force_next_tick", "pgque_admin", [](Ops& ops, Name q, Name) { ops.force_next_tick(q); }, "QueueNotFound",
       "nothing"},
      {"ticker", "pgque_admin", [](Ops& ops, Name q, Name) { ops.ticker(q); }, "QueueNotFound", "nothing"},
      {"ticker_all", "pgque_admin", [](Ops& ops, Name, Name) { ops.ticker_all(); }, "nothing", "nothing"},
  };
  return all;
}

// How a verb is called and its effect committed.
enum class Way {
  client,
  client_unprepared,  // pooled = true
  client_borrowed,    // over the caller's connection
  transaction,        // from begin()
  callers_work,
  callers_subtransaction,
  callers_nontransaction,
};

inline constexpr Way every_way[]{
    Way::client,       Way::client_unprepared,      Way::client_borrowed,       Way::transaction,
    Way::callers_work, Way::callers_subtransaction, Way::callers_nontransaction};

// Those that differ in how parameters and transactions are handled; the others are made of the same parts.
inline constexpr Way main_ways[]{Way::client, Way::client_unprepared, Way::transaction, Way::callers_work};

inline std::string to_string(Way way) {
  switch (way) {
    case Way::client:
      return "Client";
    case Way::client_unprepared:
      return "ClientUnprepared";
    case Way::client_borrowed:
      return "ClientBorrowed";
    case Way::transaction:
      return "Transaction";
    case Way::callers_work:
      return "CallersWork";
    case Way::callers_subtransaction:
      return "CallersSubtransaction";
    case Way::callers_nontransaction:
      return "CallersNontransaction";
  }
  return "?";
}

inline void PrintTo(Way way, std::ostream* out) {
  *out << to_string(way);
}
inline std::string way_name(const testing::TestParamInfo<Way>& info) {
  return to_string(info.param);
}

// A test of verbs that has to hold whichever way they are called.
class WayTest : public DatabaseTest, public testing::WithParamInterface<Way> {
 protected:
  // Connect by another DSN. Before the first call().
  void use_dsn(const std::string& dsn) { dsn_ = dsn; }

  // run(Operations&) in the way of the test, then a commit.
  template <class Run>
  std::invoke_result_t<const Run&, Operations&> call(const Run& run) {
    switch (GetParam()) {
      case Way::client:
      case Way::client_unprepared:
        return committed(client(), run, [] {});
      case Way::client_borrowed: {
        auto client = borrow(connection());
        return committed(client, run, [] {});
      }
      case Way::transaction: {
        auto transaction = client().begin();
        return committed(transaction, run, [&] { transaction.commit(); });
      }
      case Way::callers_work: {
        pqxx::work work{connection()};
        Transaction transaction{work};
        return committed(transaction, run, [&] { work.commit(); });
      }
      case Way::callers_subtransaction: {
        pqxx::work work{connection()};
        pqxx::subtransaction subtransaction{work};
        Transaction transaction{subtransaction};
        return committed(transaction, run, [&] {
          subtransaction.commit();
          work.commit();
        });
      }
      case Way::callers_nontransaction:
        break;
    }
    pqxx::nontransaction nontransaction{connection()};
    Transaction transaction{nontransaction};
    return committed(transaction, run, [&] { nontransaction.commit(); });
  }

  bool subscribe() {
    return call([&](Operations& ops) { return ops.subscribe(queue(), consumer_name()); });
  }
  EventId send(const Payload& payload, const std::string& type = "t") {
    return call([&](Operations& ops) { return ops.send(queue(), payload, type); });
  }
  std::vector<EventId> send_batch(const std::vector<Payload>& payloads, const std::string& type = "t") {
    return call([&](Operations& ops) { return ops.send_batch(queue(), type, payloads); });
  }
  std::vector<Message> receive(std::optional<std::int32_t> max_messages = std::nullopt) {
    return call([&](Operations& ops) { return ops.receive(queue(), consumer_name(), max_messages); });
  }
  bool ack(BatchId batch) {
    return call([&](Operations& ops) { return ops.ack(batch); });
  }
  void nack(const Message& message, const NackOptions& options = {}) {
    call([&](Operations& ops) { ops.nack(message, options); });
  }
  // Makes what was sent before visible and receives it.
  std::vector<Message> deliver() {
    queue().tick();
    return receive();
  }

 private:
  Client& client() {
    if (!client_) {
      ClientOptions options;
      options.pooled = GetParam() == Way::client_unprepared || pooled();
      client_.emplace(dsn_, options);
    }
    return *client_;
  }
  PqxxConnection& connection() {
    if (!own_) own_.emplace(dsn_);
    return own_->connection();
  }

  template <class Run, class Commit>
  static std::invoke_result_t<const Run&, Operations&> committed(Operations& operations, const Run& run,
                                                                 const Commit& commit) {
    if constexpr (std::is_void_v<std::invoke_result_t<const Run&, Operations&>>) {
      run(operations);
      commit();
    } else {
      auto result = run(operations);
      commit();
      return result;
    }
  }

  std::string dsn_ = dsn();
  std::optional<Client> client_;
  std::optional<Sql> own_;
};

}  // namespace pgque::test
