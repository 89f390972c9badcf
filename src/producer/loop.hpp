#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <future>
#include <limits>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <pgque/buffered_producer.hpp>
#include <pgque/error.hpp>

#include "database/session.hpp"
#include "database/statement_guard.hpp"
#include "producer/machine.hpp"
#include "producer/send_buffer.hpp"
#include "support/logger.hpp"
#include "support/stopper.hpp"

namespace pgque::detail {

// What became of a batch.
enum class Delivery {
  sent,
  refused,   // not stored, and a retry would fail as well
  kept,      // certainly not stored, because the connection was lost
  in_doubt,  // may or may not be stored
};

// What an error before or during the commit of a batch means for that batch.
Delivery delivery_after(const Error& error, bool connection_open, bool committing);

// What an error says.
struct Trouble {
  std::string text;
  std::string sqlstate;
};

// The threads, the connection and the promises around SendBuffer and ProducerMachine.
//
// On the sending thread nothing fails for want of memory: what needs memory there is tried, and left out or replaced by
// what was made before. Every promise is kept or fails with an Error, and an event whose future fails is not stored
// unless the error says that it may be.
class ProducerLoop {
 public:
  ProducerLoop(Dsn dsn, BufferedProducerOptions options);
  ProducerLoop(const ProducerLoop&) = delete;
  ProducerLoop& operator=(const ProducerLoop&) = delete;
  ~ProducerLoop();

  std::future<EventId> send(std::string_view queue, Payload&& payload, std::string_view type);
  std::future<EventId> send(std::string_view queue, Event&& event);
  bool flush(std::chrono::milliseconds timeout);
  bool close() noexcept;
  BufferedProducerStats stats() const;
  const HomeProcess& home() const noexcept { return stopper_.home(); }

 private:
  using Clock = SendBuffer::Clock;
  using Lock = std::unique_lock<std::mutex>;
  static constexpr auto nothing = std::numeric_limits<std::uint64_t>::max();

  struct Result {
    Delivery delivery = Delivery::sent;
    std::vector<EventId> ids{};
    std::exception_ptr error{};
    Trouble trouble{};         // the error's
    bool session_good = true;  // false if the session may be in any state
  };

  // A thread that waits for room.
  struct Waiter {
    explicit Waiter(std::size_t needed) : bytes{needed} {}
    const std::size_t bytes;
    std::condition_variable woken{};
  };

  // All are called without the lock.
  std::future<EventId> add(std::string_view queue, std::string_view type, Payload&& payload, Extras&& extras);
  void configure();  // of the new session
  // The connection is shut down if a statement takes longer, or is still running when close() gives up.
  StatementGuard::Scope guard(std::chrono::milliseconds most);
  // All are called with the lock.
  void wait_for_room(Lock& lock, std::string_view queue, std::size_t bytes);
  void wake_sender();
  void wake_waiter();
  // When a batch is to be sent: as the buffer says, but at once if a thread waits for room.
  Clock::time_point due() const noexcept;

  // Run on the sending thread. They are called, and return, with the lock held.
  void run() noexcept;
  void wait(Lock& lock, ProducerMachine::Step step) noexcept;
  void reconnect(Lock& lock) noexcept;
  void send_batch(Lock& lock) noexcept;
  void drop(Lock& lock, Clock::time_point since, std::string_view why) noexcept;
  void count_out(const SendBatch& batch) noexcept;
  void lost(Lock& lock, const Trouble& trouble) noexcept;
  void remember(const Trouble& trouble) noexcept;
  std::string with_latest_error(std::string_view why) const noexcept;

  // Run on the sending thread without the lock.
  std::optional<Trouble> connect() noexcept;
  Result deliver(const SendBatch& batch) noexcept;
  std::exception_ptr not_sent(const SendBatch& batch, const std::string& reason) const noexcept;
  // Logs the number of events, and what happened to them and why.
  void write(LogLevel level, LogEvent event, const SendBatch& batch, std::string_view what, const Trouble& why = {});

  const Dsn dsn_;
  const BufferedProducerOptions options_;
  SessionOptions session_options_;
  Logger log_;
  // The errors of events for when there is no memory to say more.
  const std::exception_ptr not_stored_;
  const std::exception_ptr in_doubt_;

  // Only the sending thread uses it.
  std::shared_ptr<Session> session_;
  Stopper stopper_;       // close()
  StatementGuard guard_;  // of each statement on session_

  mutable std::mutex mutex_;  // guards all that follows
  SendBuffer buffer_;
  ProducerMachine machine_;
  BufferedProducerStats stats_;
  std::uint64_t sending_ = nothing;  // the number of the first event of the batch that is being sent
  std::list<Waiter> room_;           // first come, first served
  std::condition_variable work_;
  bool idle_ = false;                 // the sending thread waits for work_
  Clock::time_point idle_due_{};      // and will wake up at this time by itself
  std::condition_variable progress_;  // a batch is finished, or the sending thread has ended
  Clock::time_point drain_end_ = SendBuffer::never;
  bool complete_ = true;  // close() has given up no events so far
  bool ended_ = false;

  std::thread sender_;
};

}  // namespace pgque::detail
