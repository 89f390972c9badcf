#pragma once

// One batch on its way from receive to ack, in either transaction mode.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <pgque/consumer_options.hpp>
#include <pgque/error.hpp>
#include <pgque/message.hpp>

#include "consumer/nack_chunks.hpp"
#include "consumer/retry.hpp"
#include "database/executor.hpp"
#include "database/session.hpp"
#include "database/verbs.hpp"

namespace pgque::detail {

// What became of the batch when its work was done.
struct Finish {
  enum class Kind {
    acked,
    stale,        // the batch was finished already
    lost,         // another worker of the group has taken it over
    nack_failed,  // so the batch was not acked
    interrupted,  // out of time, so the batch was not acked; in split mode the nacks that were made are committed
  };
  Kind kind;
  std::optional<Error> error{};  // of a failed nack
  std::size_t nacked = 0;        // how many nacks are committed although the batch was interrupted
};

class Batch {
 public:
  // The options must outlive the batch. `id` is that of a batch that has been handled already and only has to be
  // finished.
  Batch(std::shared_ptr<Session> session, const ConsumerOptions& options, std::optional<BatchId> id = std::nullopt);
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  // A batch that was not finished is left for redelivery.
  ~Batch();

  // Opens the batch and returns its first page. With `again`, the batch may have been open before: messages that are
  // nacked already are left out, because they come again anyway. With `large`, it is expected to have several pages.
  std::vector<Message> open(bool again, bool large);
  // Whether open() was given the batch by a statement that is committed, even if it failed after that.
  bool is_given() const noexcept { return given_; }
  // Whether there may be further pages.
  bool has_more_pages() const noexcept { return paged_ && !last_page_; }
  // Whether there is a batch to finish. Perhaps all of its messages were left out.
  bool is_open() const noexcept { return batch_.has_value(); }
  std::vector<Message> next_page();
  // After open() gave nothing: another window to receive, if there is one; it is open on the server then. Ends the
  // transaction.
  std::optional<BatchId> more_windows();
  // After open() or more_windows() was given a batch: the other worker that it was taken over from, if it was.
  const std::string& taken_from() const noexcept { return taken_from_; }
  // After more_windows() found none: when there will be one, if there is one that is younger than min_lag.
  std::optional<std::chrono::milliseconds> ripens_in() const noexcept { return ripens_in_; }
  // Whether another statement may be sent; otherwise the batch is interrupted.
  using InTime = std::function<bool()>;
  // Nacks in the transaction that is going to ack, and makes dead letters of what is given up; nothing if that worked.
  // Then each retry says whether it is dead.
  std::optional<Finish> nack(std::vector<Retry>& retries, const InTime& in_time);
  // Whether the role may make dead letters of what is given up.
  bool may_give_up();
  // Nacks, acks and commits. In split mode, errors that another attempt may not meet are thrown, and nothing has
  // happened then, unless the outcome is unknown.
  Finish finish(std::vector<Retry>& retries, const InTime& in_time);
  // Begins the transaction that is going to ack, for what handlers have left to be written in it. In per_batch mode it
  // is open already.
  void begin_to_finish();
  // Ends that transaction without a commit.
  void roll_back() noexcept { transaction_.reset(); }
  // Whether the batch still belongs to this consumer and is not finished.
  bool is_still_open();
  // Whether another worker may have finished it or taken it over, and has. In per_batch mode nobody can.
  bool is_gone() { return !per_batch_ && !is_still_open(); }

  // The transaction that is open while handlers run; null in split mode.
  pqxx::dbtransaction* transaction() noexcept { return transaction_ ? &transaction_->work() : nullptr; }
  BatchId id() const noexcept { return batch_.value_or(BatchId{}); }
  const std::shared_ptr<Session>& session() const noexcept { return session_; }
  // Throws ConnectionError if a transaction is open and the server has ended it, because what handlers do then is lost.
  void require_connection();
  // SQL for the transaction that is open: the next statements are a handler's. The role is the session's, whatever an
  // earlier handler did, and the limit for the time of a statement is the server's.
  std::string settings_for_handlers();
  // The same for the library's own statements, which also have none of the settings that could harm them. When it has
  // been run, own_settings_apply() is to be called.
  std::string settings_for_library() const;
  void own_settings_apply() noexcept { settings_are_handlers_ = false; }

 private:
  void begin();
  std::string librarys_limit() const;
  void begin_own_statements();
  void nack_chunk(Retry* retries, std::size_t size);
  void give_up_chunk(Retry* retries, std::size_t size);
  using RunHow = pqxx::result (Executor::*)(const Statement&, Params, const Call&);
  template <class Run>
  void run_with_reasons(Retry* retries, std::size_t size, const Run& run,
                        void (Batch::*again)(Retry* retries, std::size_t size));
  Finish interrupted(std::size_t nacked);
  void leave_out_nacked(std::vector<Message>& messages);
  void take_nacked(const pqxx::result& rows, Retry* retries, std::size_t size);
  void require_retry(EventId message);
  Executor& executor();  // the transaction if one is open
  std::vector<Message> fetch();
  std::vector<Message> turn_page(std::vector<Message> page);
  void close_cursor() noexcept;
  Call call(const char* verb) const { return {verb, options_.queue, options_.name, batch_}; }
  verbs::Receiver receiver() const;

  const std::shared_ptr<Session> session_;
  const ConsumerOptions& options_;
  const bool coop_;
  const bool per_batch_;
  // Behind a pooler, a session's setting would affect the next client of that server connection, so each transaction
  // sets it for itself.
  const std::string settings_;
  const std::optional<std::int32_t> page_size_;
  bool settings_are_handlers_ = false;
  AutocommitExecutor autocommit_;
  std::unique_ptr<TransactionExecutor> transaction_;
  bool given_ = false;
  bool paged_ = false;
  bool last_page_ = false;
  bool cursor_open_ = false;  // beyond the transaction
  std::optional<BatchId> batch_;
  std::string taken_from_;
  std::optional<std::chrono::milliseconds> ripens_in_;
  bool again_ = false;
  std::size_t messages_ = 0;  // received so far
  std::set<std::pair<EventId, std::int32_t>> nacked_;
  std::optional<NackChunks> chunks_;
  bool has_writes_ = false;  // of handlers, in the transaction that acks
};

}  // namespace pgque::detail
