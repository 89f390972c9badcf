#include "consumer/batch.hpp"

#include "consumer/options.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"
#include "database/text_array.hpp"
#include "database/verbs.hpp"

namespace pgque::detail {

Batch::Batch(std::shared_ptr<Session> session, const ConsumerOptions& options)
    : session_{std::move(session)},
      options_{options},
      coop_{!options.subconsumer.empty()},
      per_batch_{transaction_mode(options) == TransactionMode::per_batch},
      settings_{options.pooled ? session_settings(options) : std::string{}},
      autocommit_{session_} {}

Batch::~Batch() {
  transaction_.reset();
  close_cursor();
  // A cursor that cannot be closed would block the cursor of the next batch as long as the session lasts.
  if (cursor_open_ && session_->is_open()) session_->shut_down();
}

std::vector<Message> Batch::open() {
  std::vector<Message> messages;
  const auto receive = call(coop_ ? "receive_coop" : "receive");
  if (per_batch_ || options_.max_messages || !settings_.empty()) begin();
  if (options_.max_messages) {
    // In split mode the cursor outlives the transaction.
    verbs::open_batch_cursor(*transaction_, receiver(), !per_batch_, receive);
    messages = fetch();
  } else {
    messages = verbs::receive(executor(), receiver(), std::nullopt, receive);
  }
  if (transaction_ && !per_batch_) {
    transaction_->commit(receive);
    transaction_.reset();
    cursor_open_ = options_.max_messages.has_value();
  }
  if (!messages.empty()) batch_ = id_ = messages.front().batch_id;
  return messages;
}

void Batch::begin() {
  transaction_ = std::make_unique<TransactionExecutor>(session_);
  if (!settings_.empty()) transaction_->run_plain(settings_, call("configure the transaction"));
}

Executor& Batch::executor() {
  if (!transaction_ && !settings_.empty()) begin();
  return transaction_ ? static_cast<Executor&>(*transaction_) : autocommit_;
}

std::vector<Message> Batch::fetch() {
  const auto sql = sql::batch_cursor.fetch(*options_.max_messages);
  const auto fetching = call("fetch");
  return read_messages(transaction_ ? transaction_->run_plain(sql, fetching) : autocommit_.run_plain(sql, fetching));
}

std::vector<Message> Batch::next_page() {
  if (!options_.max_messages) return {};
  return fetch();
}

bool Batch::more_windows() {
  const auto next_batch = call("next_batch");
  const auto next = verbs::next_batch(executor(), receiver(), next_batch);
  if (transaction_) transaction_->commit(next_batch);
  transaction_.reset();
  return next.has_value();
}

std::optional<Finish> Batch::nack(const std::vector<Retry>& retries) {
  if (retries.empty()) return std::nullopt;
  if (!transaction_) begin();
  std::string ids = "{";
  std::string delays = "{";
  std::size_t bytes = 0;
  for (const auto& retry : retries) bytes += retry.reason.size();
  TextArray reasons{retries.size(), bytes};
  for (const auto& retry : retries) {
    ids += to_string(retry.msg_id) + ',';
    delays += std::to_string(retry.delay.count()) + ',';
    reasons.add(retry.reason);
  }
  ids.back() = delays.back() = '}';
  try {
    transaction_->run(sql::nack_many, {static_cast<std::int64_t>(id_), ids, delays, Param::binary(reasons.bytes())},
                      call("nack"));
  } catch (const ConnectionError&) {
    throw;
  } catch (const BatchNotFound& error) {
    transaction_.reset();
    // In per_batch mode a handler finished the batch, and the rollback has just undone that.
    return Finish{coop_ ? Finish::Kind::lost : per_batch_ ? Finish::Kind::nack_failed : Finish::Kind::stale, error};
  } catch (const Error& error) {
    transaction_.reset();
    return Finish{Finish::Kind::nack_failed, error};
  }
  return std::nullopt;
}

Finish Batch::finish(const std::vector<Retry>& retries) {
  close_cursor();
  if (auto refused = nack(retries)) return std::move(*refused);
  const auto ack = call("ack");
  const bool acked = verbs::ack(executor(), id_, ack);
  // If another worker has taken the batch over, the nacks are rolled back together with the ack. In per_batch mode only
  // a handler can have finished it, in this transaction.
  if (transaction_ && (acked || per_batch_)) transaction_->commit(ack);
  transaction_.reset();
  if (acked) return {Finish::Kind::acked};
  return {coop_ ? Finish::Kind::lost : Finish::Kind::stale};
}

void Batch::require_connection() {
  if (!transaction_ || !session_->peer_closed()) return;
  Error::Facts facts;
  facts.operation = call("handle").describe();
  facts.sqlstate = "08006";
  facts.advice = "the connection was lost; nothing of the transaction was stored";
  facts.retryable = true;
  throw ConnectionError{std::move(facts)};
}

void Batch::close_cursor() noexcept {
  if (!cursor_open_ || !session_->is_open()) return;
  try {
    autocommit_.run_plain(sql::batch_cursor.close(), call("close"));
    cursor_open_ = false;
  } catch (...) {
    // If the connection is lost, its cursors are gone as well, and the next statement reports the loss.
  }
}

}  // namespace pgque::detail
