#pragma once

// One batch on its way from receive to ack, in either transaction mode.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <pgque/consumer_options.hpp>
#include <pgque/error.hpp>
#include <pgque/message.hpp>

#include "database/executor.hpp"
#include "database/session.hpp"
#include "database/verbs.hpp"

namespace pgque::detail {

// A message to be delivered again.
struct Retry {
  EventId msg_id{};
  std::chrono::seconds delay{0};
  std::string reason;
};

// What became of the batch when its work was done.
struct Finish {
  enum class Kind {
    acked,
    stale,        // the batch was finished already
    lost,         // another worker of the group has taken it over
    nack_failed,  // so the batch was not acked
  };
  Kind kind;
  std::optional<Error> error{};  // of a failed nack
};

class Batch {
 public:
  // The options must outlive the batch.
  Batch(std::shared_ptr<Session> session, const ConsumerOptions& options);
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  // A batch that was not finished is left for redelivery.
  ~Batch();

  // Opens the batch and returns its first page; no messages means that there is no batch to finish.
  std::vector<Message> open();
  std::vector<Message> next_page();
  // After open() gave nothing: whether there is another window to receive. Ends the transaction.
  bool more_windows();
  // Nacks in the transaction that is going to ack; nothing if that worked.
  std::optional<Finish> nack(const std::vector<Retry>& retries);
  // Nacks, acks and commits.
  Finish finish(const std::vector<Retry>& retries);

  // The transaction that is open while handlers run; null in split mode.
  pqxx::dbtransaction* transaction() noexcept { return transaction_ ? &transaction_->work() : nullptr; }
  BatchId id() const noexcept { return id_; }
  const std::shared_ptr<Session>& session() const noexcept { return session_; }
  // Throws ConnectionError if a transaction is open and the server has ended it, because what handlers do then is lost.
  void require_connection();

 private:
  void begin();
  Executor& executor();  // the transaction if one is open or settings need one
  std::vector<Message> fetch();
  void close_cursor() noexcept;
  Call call(const char* verb) const { return {verb, options_.queue, options_.name, batch_}; }
  verbs::Receiver receiver() const {
    return {options_.queue, options_.name, options_.subconsumer, options_.dead_interval};
  }

  const std::shared_ptr<Session> session_;
  const ConsumerOptions& options_;
  const bool coop_;
  const bool per_batch_;
  // Behind a pooler, a session's setting would affect the next client of that server connection, so each transaction
  // sets it for itself.
  const std::string settings_;
  AutocommitExecutor autocommit_;
  std::unique_ptr<TransactionExecutor> transaction_;
  bool cursor_open_ = false;
  BatchId id_{};
  std::optional<BatchId> batch_;  // for error messages
};

}  // namespace pgque::detail
