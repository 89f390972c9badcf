// Several clients at once, each on a separate thread.

#include <atomic>
#include <functional>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pgque/admin.hpp>

#include "messages.hpp"
#include "support.hpp"
#include "thrown.hpp"
#include "verbs.hpp"

namespace pgque::test {
namespace {

using testing::IsEmpty;

class ConcurrencyTest : public DatabaseTest {
 protected:
  // Runs run(number, client) on n threads, each with its own client; all begin at once. Every error is a failure.
  static void on_threads(int n, const std::function<void(int, Client&)>& run) {
    std::atomic<int> waiting{n};
    std::vector<std::string> errors(static_cast<std::size_t>(n));
    std::vector<std::thread> threads;
    for (int i = 0; i < n; ++i) {
      threads.emplace_back([&, i] {
        try {
          Client client{dsn(), client_options()};
          --waiting;
          while (waiting > 0) std::this_thread::yield();
          run(i, client);
        } catch (const std::exception& error) {
          waiting = 0;
          errors[static_cast<std::size_t>(i)] = error.what();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& error : errors) EXPECT_EQ(error, "");
  }
};

TEST_F(ConcurrencyTest, ProducersGetIdsOfTheirOwnAndEverythingArrives) {
  constexpr int producers = 10;
  constexpr int sends = 20;
  Client consumer{dsn(), client_options()};
  consumer.subscribe(queue(), consumer_name());
  std::vector<std::vector<EventId>> ids(producers);
  on_threads(producers, [&](int number, Client& client) {
    auto& mine = ids[static_cast<std::size_t>(number)];
    for (int i = 0; i < sends; i += 2) {
      mine.push_back(client.send(queue(), std::to_string(number)));
      mine.push_back(client.send_batch(queue(), "t", {std::to_string(number)}).at(0));
    }
  });
  std::set<EventId> all;
  for (const auto& some : ids) all.insert(some.begin(), some.end());
  EXPECT_EQ(all.size(), std::size_t{producers * sends});
  queue().tick();
  const auto received = ids_of(consumer.receive(queue(), consumer_name()));
  EXPECT_EQ(std::vector<EventId>(all.begin(), all.end()), received);
}

TEST_F(ConcurrencyTest, NothingIsLostOrDoubledWhileProducersTickerAndConsumerRunAtOnce) {
  constexpr int producers = 2;
  constexpr int sends = 200;
  {
    Client client{dsn(), client_options()};
    client.subscribe(queue(), consumer_name());
  }
  std::vector<std::vector<EventId>> sent(producers);
  std::vector<EventId> received;
  std::atomic<int> producing{producers};
  on_threads(producers + 2, [&](int number, Client& client) {
    if (number < producers) {
      for (int i = 0; i < sends; ++i) sent[static_cast<std::size_t>(number)].push_back(client.send(queue(), "1"));
      --producing;
    } else if (number == producers) {  // the ticker: a last tick after the last send
      for (bool last = false; !last;) {
        last = producing == 0;
        client.force_next_tick(queue());
        client.ticker(queue());
      }
    } else {
      wait_until([&] {
        const auto messages = client.receive(queue(), consumer_name());
        for (const auto& message : messages) received.push_back(message.msg_id);
        if (!messages.empty()) {
          EXPECT_TRUE(client.ack(messages[0].batch_id));
        }
        return received.size() >= std::size_t{producers * sends};
      });
    }
  });
  std::vector<EventId> all;
  for (const auto& some : sent) all.insert(all.end(), some.begin(), some.end());
  EXPECT_THAT(received, testing::UnorderedElementsAreArray(all));
}

// The server fails all but one of those who register a consumer's name for the first time.
TEST_F(ConcurrencyTest, OfManyWhoSubscribeABrandNewConsumerExactlyOneIsFirst) {
  constexpr int rounds = 10;
  std::vector<std::atomic<int>> first(rounds);
  std::vector<std::atomic<int>> ready(rounds);
  constexpr int threads = 12;
  on_threads(threads, [&](int, Client& client) {
    for (std::size_t round = 0; round < rounds; ++round) {
      const auto consumer = consumer_name() + std::to_string(round);
      ++ready[round];
      wait_until([&] { return ready[round] == threads; });
      first[round] += client.subscribe(queue(), consumer) ? 1 : 0;
    }
  });
  for (const auto& count : first) EXPECT_EQ(count, 1);
}

TEST_F(ConcurrencyTest, OfManyWhoJoinABrandNewGroupEveryOneGetsIn) {
  constexpr int rounds = 5;
  constexpr int threads = 8;
  std::vector<std::atomic<int>> ready(rounds);
  std::atomic<int> joined{0};
  on_threads(threads, [&](int number, Client& client) {
    for (std::size_t round = 0; round < rounds; ++round) {
      const auto group = consumer_name() + std::to_string(round);
      const auto member = "w" + std::to_string(number);
      ++ready[round];
      wait_until([&] { return ready[round] == threads; });
      if (number % 2 == 0) {
        EXPECT_THAT(client.receive_coop(queue(), group, member), IsEmpty());
        EXPECT_TRUE(client.touch_subconsumer(queue(), group, member));
      } else {
        EXPECT_TRUE(client.subscribe_subconsumer(queue(), group, member));
      }
      ++joined;
    }
  });
  EXPECT_EQ(joined, rounds * threads);
}

TEST_F(ConcurrencyTest, OfManyWhoTakeOverADeadMembersBatchExactlyOneGetsIt) {
  constexpr int threads = 6;
  Client dead{dsn(), client_options()};
  dead.subscribe_subconsumer(queue(), consumer_name(), "dead");
  const auto id = dead.send(queue(), "1");
  queue().tick();
  const auto held = dead.receive_coop(queue(), consumer_name(), "dead");
  ASSERT_EQ(held.size(), 1U);
  sql()(
      "update pgque.subscription set sub_active = now() - interval '1 hour' from pgque.queue where queue_id = "
      "sub_queue and queue_name = " +
      sql().quote(queue().name()));
  std::vector<std::vector<Message>> taken(threads);
  ReceiveCoopOptions options;
  options.dead_interval = 1min;
  on_threads(threads, [&](int number, Client& client) {
    taken[static_cast<std::size_t>(number)] =
        client.receive_coop(queue(), consumer_name(), "w" + std::to_string(number), options);
  });
  std::vector<Message> all;
  for (const auto& some : taken) all.insert(all.end(), some.begin(), some.end());
  ASSERT_THAT(ids_of(all), testing::ElementsAre(id));
  EXPECT_FALSE(dead.ack(held[0].batch_id));
  EXPECT_TRUE(dead.ack(all[0].batch_id));
}

// Keeps what sends to the queue, or drops it, waiting until the test opens it.
class LockedQueue {
 public:
  LockedQueue(Sql& sql, const std::string& queue)
      : sql_{sql},
        ids_{sql.value("select queue_event_seq from pgque.queue where queue_name = " + sql.quote(queue)).value()} {
    work_.emplace(own_.connection());
    work_->exec("alter sequence " + ids_ + " no cycle");
  }
  bool wait_until_somebody_waits() {
    return wait_until([&] {
      return sql_.number("select count(*) from pg_locks where not granted and relation = '" + ids_ + "'::regclass") !=
             0;
    });
  }
  void open() { work_.reset(); }

 private:
  Sql& sql_;
  const std::string ids_;
  Sql own_;
  std::optional<pqxx::work> work_;
};

class TwoThreadsTest : public DatabaseTest {
 protected:
  // Runs `first` on another thread, and `meanwhile` while it waits for the server. Whatever that does, `first`
  // succeeds.
  void run_at_once(const std::string& queue, const std::function<void()>& first,
                   const std::function<void()>& meanwhile) {
    LockedQueue locked{sql(), queue};
    std::string error;
    std::thread thread{[&] {
      try {
        first();
      } catch (const std::exception& e) {
        error = e.what();
      }
    }};
    EXPECT_TRUE(locked.wait_until_somebody_waits());
    meanwhile();
    locked.open();
    thread.join();
    EXPECT_EQ(error, "");
  }
  static void expect_refused(const char* what, const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << what << " was not refused";
    } catch (const std::logic_error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(": another thread is using the same connection now. ")) << what;
    }
  }
};

TEST_F(TwoThreadsTest, TheSecondInEveryCallOfAClientIsRefusedAndTheFirstGoesOn) {
  Client client{dsn(), client_options()};
  client.subscribe(queue(), consumer_name());
  EventId sent{};
  run_at_once(
      queue(), [&] { sent = client.send(queue(), "1"); },
      [&] {
        for (int attempt = 0; attempt < 2; ++attempt) {
          for (const auto& verb : verbs()) {
            expect_refused(verb.name, [&] { verb.call(client, queue(), consumer_name()); });
          }
          expect_refused("an empty batch", [&] { client.send_batch(queue(), "t", {}); });
          expect_refused("begin", [&] { client.begin(); });
          expect_refused("native", [&] { native(client); });
        }
      });
  // One thread after the other may use it.
  queue().tick();
  EXPECT_THAT(ids_of(client.receive(queue(), consumer_name())), testing::ElementsAre(sent));
}

TEST_F(TwoThreadsTest, ATransactionAndItsClientCountAsOne) {
  Client client{dsn(), client_options()};
  client.subscribe(queue(), consumer_name());
  auto transaction = client.begin();
  EventId sent{};
  run_at_once(
      queue(), [&] { sent = transaction.send(queue(), "1"); },
      [&] {
        for (const auto& verb : verbs()) {
          expect_refused(verb.name, [&] { verb.call(transaction, queue(), consumer_name()); });
        }
        expect_refused("commit", [&] { transaction.commit(); });
        expect_refused("rollback", [&] { transaction.rollback(); });
        expect_refused("the client", [&] { client.send(queue(), "2"); });
      });
  transaction.commit();
  queue().tick();
  EXPECT_THAT(ids_of(client.receive(queue(), consumer_name())), testing::ElementsAre(sent));
}

TEST_F(TwoThreadsTest, SoItIsInACallersTransaction) {
  Sql own{dsn()};
  pqxx::work work{own.connection()};
  Transaction transaction{work};
  run_at_once(
      queue(), [&] { transaction.send(queue(), "1"); },
      [&] {
        expect_refused("send", [&] { transaction.send(queue(), "2"); });
        expect_refused("an empty batch", [&] { transaction.send_batch(queue(), "t", {}); });
      });
  EXPECT_NO_THROW(transaction.send(queue(), "3"));
  work.commit();
}

TEST_F(TwoThreadsTest, SoItIsInAnAdmin) {
  Admin admin{dsn(), client_options()};
  run_at_once(
      queue(), [&] { admin.drop_queue(queue()); },
      [&] {
        expect_refused("queues", [&] { admin.queues(); });
        expect_refused("create_queue", [&] { admin.create_queue(queue()); });
        expect_refused("count_dead_letters", [&] { admin.count_dead_letters(); });
      });
  EXPECT_NO_THROW(admin.queues());
}

}  // namespace
}  // namespace pgque::test
