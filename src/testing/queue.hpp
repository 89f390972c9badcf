#pragma once

// A queue for one test, and what tells other processes that it is in use.
//
// Each session of a living object holds advisory locks: an exclusive one on its own queue, a shared one on each other
// queue that its handlers send to. So a queue on which somebody else gets the exclusive lock is nobody's. A queue
// that was made because a handler sends to it has a consumer of a certain name, its maker, which tells it from queues
// that were there.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <pgque/client.hpp>
#include <pgque/testing.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"

namespace pgque::detail {

// The session of the kit, with its locks.
class TestSession {
 public:
  explicit TestSession(const Dsn& dsn);

  const std::shared_ptr<Session>& shared() const noexcept { return session_; }
  AutocommitExecutor& executor() noexcept { return executor_; }
  bool try_lock(std::string_view queue);
  void unlock(std::string_view queue);
  void share(std::string_view queue);
  void unshare(std::string_view queue);
  // With its consumers.
  void drop(std::string_view queue);

  // While it lives, no other process makes or drops a queue for several objects.
  class Turn {
   public:
    explicit Turn(TestSession& session);
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn();

   private:
    TestSession& session_;
  };
  struct Known {
    std::string queue;
    std::optional<std::int64_t> made;  // when its maker was subscribed, in seconds since 1970
  };
  std::vector<Known> queues(const std::string& maker);
  struct Now {
    std::string snapshot;
    std::int64_t seconds = 0;  // since 1970
  };
  Now now();

 private:
  std::shared_ptr<Session> session_;
  AutocommitExecutor executor_;
};

class QueueUnderTest {
 public:
  // The client works on the same session.
  QueueUnderTest(const Dsn& dsn, testing::QueueOptions options, std::unique_ptr<TestSession> session, Client client);
  QueueUnderTest(const QueueUnderTest&) = delete;
  QueueUnderTest& operator=(const QueueUnderTest&) = delete;
  ~QueueUnderTest();

  const std::string& name() const noexcept { return name_; }
  void require_home() const { session_->shared()->home().require("pgque::testing::Queue"); }
  Client& client() noexcept { return client_; }
  void tick();
  testing::Run deliver(ConsumerOptions options, const std::function<void(Consumer&)>& register_handlers,
                       const testing::DeliverOptions& deliver_options);
  std::int64_t make_retries_due();
  std::vector<DeadLetter> dead_letters();
  std::vector<Message> sent(std::string_view queue);

 private:
  void make_others();
  void subscribe(const std::string& consumer, const std::string& subconsumer);
  void drop_all();

  const Dsn dsn_;
  const testing::QueueOptions options_;
  const std::unique_ptr<TestSession> session_;
  Client client_;
  Admin admin_;
  std::string name_;
  std::string snapshot_;  // when it was made
  TickId first_tick_{};
};

// See testing::sweep().
std::vector<std::string> sweep(const Dsn& dsn, std::chrono::seconds older_than, std::string_view prefix);

}  // namespace pgque::detail
