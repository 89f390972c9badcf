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
#include <pgque/client.hpp>
#include <pgque/error.hpp>

#include "logger.hpp"
#include "producer_machine.hpp"
#include "send_buffer.hpp"
#include "session.hpp"

namespace pgque::detail {

// What became of a batch.
enum class Delivery {
  sent,
  refused,   // not stored, and no better another time
  kept,      // certainly not stored, for want of a connection
  in_doubt,  // stored or not
};

// What an error means for the batch that met it, before its commit or in it.
Delivery delivery_after(const Error& error, bool connection_open, bool committing);

// The threads, the connection and the promises around SendBuffer and ProducerMachine.
class BufferedProducerImpl {
 public:
  BufferedProducerImpl(std::string_view dsn, BufferedProducerOptions options);
  BufferedProducerImpl(const BufferedProducerImpl&) = delete;
  BufferedProducerImpl& operator=(const BufferedProducerImpl&) = delete;
  ~BufferedProducerImpl();

  std::future<EventId> send(std::string_view queue, Payload&& payload, std::string_view type);
  bool flush(std::chrono::milliseconds timeout);
  bool close() noexcept;
  BufferedProducerStats stats() const;

 private:
  using Clock = SendBuffer::Clock;
  using Lock = std::unique_lock<std::mutex>;
  static constexpr auto nothing = std::numeric_limits<std::uint64_t>::max();

  struct Result {
    Delivery delivery = Delivery::sent;
    std::vector<EventId> ids{};
    std::exception_ptr error{};
    std::string text{};  // of the error
    std::string sqlstate{};
  };

  // A thread that waits for room.
  struct Waiter {
    explicit Waiter(std::size_t needed) : bytes{needed} {}
    const std::size_t bytes;
    std::condition_variable woken{};
  };

  void configure();  // the new session; without the lock
  // With the lock.
  void wait_for_room(Lock& lock, std::string_view queue, std::size_t bytes);
  void wake_sender();
  void wake_waiter();
  // When a batch is to be sent: as the buffer says, but at once if somebody waits for its room.
  Clock::time_point due() const noexcept;

  // On the thread that sends. They are called, and return, with the lock held.
  void run() noexcept;
  void wait(Lock& lock, ProducerMachine::Step step);
  void reconnect(Lock& lock);
  void send_batch(Lock& lock);
  void drop(Lock& lock, Clock::time_point since, const char* why);
  void count_out(const SendBatch& batch);
  void lost(Lock& lock, const std::string& text, const std::string& sqlstate);
  void end() noexcept;  // without the lock

  Result deliver(const SendBatch& batch);
  void write(LogLevel level, LogEvent event, const SendBatch& batch, const std::string& text,
             std::string_view sqlstate = {});

  // Ends calls that take too long, on a thread of its own: libpqxx waits for an answer for ever.
  void watch() noexcept;
  Clock::time_point call_end() const;

  const std::string dsn_;
  const BufferedProducerOptions options_;
  SessionOptions session_options_;
  Logger log_;

  // Of the thread that sends alone.
  std::shared_ptr<Session> session_;
  std::optional<Client> client_;  // over session_

  mutable std::mutex mutex_;  // all that follows
  SendBuffer buffer_;
  ProducerMachine machine_;
  BufferedProducerStats stats_;
  std::uint64_t sending_ = nothing;  // the number of the first event of the batch that is being sent
  std::list<Waiter> room_;           // first come, first served
  std::condition_variable work_;
  bool idle_ = false;                 // the thread that sends waits for work_
  Clock::time_point idle_due_{};      // and knows that this is due
  std::condition_variable progress_;  // a batch is done with, or everything is
  Clock::time_point drain_end_ = SendBuffer::never;
  bool complete_ = true;  // close() has had nothing to give up so far
  bool ended_ = false;
  Session* calling_ = nullptr;  // while it is waited for
  Clock::time_point call_limit_{};
  std::condition_variable watched_;

  std::thread sender_;
  std::thread watcher_;
};

}  // namespace pgque::detail
