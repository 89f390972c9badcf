#include "consumer/batch.hpp"

#include <algorithm>

#include "consumer/options.hpp"
#include "database/error_map.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"
#include "database/text_array.hpp"
#include "database/verbs.hpp"
#include "support/text.hpp"

namespace pgque::detail {

Batch::Batch(std::shared_ptr<Session> session, const ConsumerOptions& options, bool server_limits,
             std::optional<BatchId> id)
    : session_{std::move(session)},
      options_{options},
      coop_{!options.subconsumer.empty()},
      per_batch_{transaction_mode(options) == TransactionMode::per_batch},
      settings_{options.pooled ? session_settings(options) : std::string{}},
      server_limits_{server_limits && options.statement_timeout.count() == 0},
      autocommit_{session_, settings_},
      batch_{id} {}

Batch::~Batch() {
  transaction_.reset();
  close_cursor();
  // A cursor that cannot be closed would block the cursor of the next batch as long as the session lasts.
  if (cursor_open_ && session_->is_open()) session_->shut_down();
}

std::vector<Message> Batch::open(bool again) {
  again_ = again;
  std::vector<Message> messages;
  const auto receive = call(coop_ ? "receive_coop" : "receive");
  if (per_batch_ || options_.max_messages) begin();
  if (options_.max_messages) {
    // In split mode the cursor outlives the transaction.
    verbs::open_batch_cursor(*transaction_, receiver(), !per_batch_, receive);
    messages = fetch();
  } else {
    messages = verbs::receive(executor(), receiver(), std::nullopt, receive);
    leave_out_nacked(messages);
  }
  if (transaction_ && !per_batch_) {
    transaction_->commit(receive);
    transaction_.reset();
    cursor_open_ = options_.max_messages.has_value();
  }
  return messages;
}

void Batch::begin() {
  transaction_ = std::make_unique<TransactionExecutor>(session_);
  limited_as_server_does_ = false;
  if (!settings_.empty()) transaction_->run_plain(settings_, call("configure the transaction"));
}

void Batch::limit_as_server_does() {
  if (!server_limits_ || limited_as_server_does_) return;
  transaction_->run_plain(sql::limit_as_server_does, call("configure the transaction"));
  limited_as_server_does_ = true;
}

void Batch::limit_as_library_does() {
  if (!transaction_ || !limited_as_server_does_) return;
  transaction_->run_plain(librarys_limit(), call("configure the transaction"));
  limited_as_server_does_ = false;
}

std::string Batch::limit_after_handler() const {
  return limited_as_server_does_ ? sql::limit_as_server_does : librarys_limit();
}

std::string Batch::librarys_limit() const {
  return sql::set_milliseconds(true, "statement_timeout", options_.statement_timeout.count());
}

Executor& Batch::executor() {
  return transaction_ ? static_cast<Executor&>(*transaction_) : autocommit_;
}

std::vector<Message> Batch::fetch() {
  const auto sql = sql::batch_cursor.fetch(*options_.max_messages);
  const auto fetching = call("fetch");
  for (;;) {
    auto page = read_messages(transaction_ ? transaction_->run_plain(sql, fetching)
                                           : autocommit_.run_plain(sql, fetching, Role::reader));
    const bool end = page.empty();
    leave_out_nacked(page);
    if (end || !page.empty()) return page;
  }
}

std::vector<Message> Batch::next_page() {
  if (!options_.max_messages) return {};
  limit_as_library_does();
  return fetch();
}

void Batch::leave_out_nacked(std::vector<Message>& messages) {
  if (messages.empty()) return;
  messages_ += messages.size();
  if (!batch_) {
    batch_ = messages.front().batch_id;
    if (again_) nacked_ = verbs::nacked(executor(), *batch_, messages.front().msg_id, call("look for nacks"));
  }
  if (nacked_.empty()) return;
  const auto is_nacked = [&](const Message& message) {
    return nacked_.count({message.msg_id, message.retry_count.value_or(0)}) != 0;
  };
  messages.erase(std::remove_if(messages.begin(), messages.end(), is_nacked), messages.end());
}

bool Batch::more_windows() {
  const auto next_batch = call("next_batch");
  const auto next = verbs::next_batch(executor(), receiver(), next_batch);
  if (transaction_) transaction_->commit(next_batch);
  transaction_.reset();
  return next.has_value();
}

bool Batch::is_still_open() {
  return verbs::batch_is_open(executor(), receiver(), id(), call("find the batch"));
}

std::optional<Finish> Batch::nack(const std::vector<Retry>& retries, const InTime& in_time) {
  if (retries.empty()) return std::nullopt;
  if (!transaction_) begin();
  if (!chunks_) chunks_.emplace(messages_, options_.statement_timeout);
  try {
    limit_as_library_does();
    for (std::size_t done = 0; done < retries.size();) {
      if (!in_time()) return interrupted(done);
      const auto size = std::min(chunks_->size(), retries.size() - done);
      const auto began = std::chrono::steady_clock::now();
      try {
        nack_chunk(retries.data() + done, size);
      } catch (const Error&) {
        chunks_->failed();
        throw;
      }
      chunks_->took(std::chrono::steady_clock::now() - began);
      done += size;
    }
  } catch (const ConnectionError&) {
    throw;
  } catch (const BatchNotFound& error) {
    transaction_.reset();
    // In per_batch mode a handler finished the batch, and the rollback has just undone that.
    return Finish{coop_ ? Finish::Kind::lost : per_batch_ ? Finish::Kind::nack_failed : Finish::Kind::stale, error};
  } catch (const Error& error) {
    if (!per_batch_ && is_transient(error)) throw;
    transaction_.reset();
    return Finish{Finish::Kind::nack_failed, error};
  }
  return std::nullopt;
}

// Keeps the nacks, except in per_batch mode, where they are part of a transaction that is not finished, and if somebody
// else has the batch by now, who handles its messages.
Finish Batch::interrupted(std::size_t nacked) {
  Finish finish{Finish::Kind::interrupted};
  if (!per_batch_ && nacked > 0 && is_still_open()) {
    transaction_->commit(call("commit the nacks"));
    finish.nacked = nacked;
  }
  transaction_.reset();
  return finish;
}

void Batch::nack_chunk(const Retry* retries, std::size_t size) {
  std::string ids = "{";
  std::string retried = "{";
  std::string delays = "{";
  std::size_t bytes = 0;
  bool ascii = true;
  const auto* const end = retries + size;
  for (const auto* retry = retries; retry != end; ++retry) {
    ids += to_string(retry->msg_id) + ',';
    retried += std::to_string(retry->retried) + ',';
    delays += std::to_string(retry->delay.count()) + ',';
    bytes += retry->reason.size();
    ascii = ascii && is_ascii(retry->reason);
  }
  ids.back() = retried.back() = delays.back() = '}';
  const auto run = [&](auto how, bool in_ascii) {
    TextArray reasons{size, bytes};
    for (const auto* retry = retries; retry != end; ++retry) {
      reasons.add(in_ascii ? ascii_only(retry->reason) : retry->reason);
    }
    return (*transaction_.*how)(sql::nack_many,
                                {static_cast<std::int64_t>(id()), ids, retried, delays, Param::binary(reasons.bytes())},
                                call("nack"));
  };
  if (ascii) return require_retries(run(&Executor::run, false));
  // The database's encoding may not have all characters of the reasons.
  try {
    require_retries(run(&Executor::attempt, false));
  } catch (const Error& error) {
    if (!is_untranslatable(error)) throw;
    if (size == 1) return require_retries(run(&Executor::run, true));
    // Which reason it is, is not known, and the others are stored as they are.
    for (const auto* retry = retries; retry != end; ++retry) nack_chunk(retry, 1);
  }
}

// PgQue says of a message that it is in the retry queue already. That is not true if the batch has the message twice:
// then PgQue stores neither of the two, and an ack would lose the message.
void Batch::require_retries(const pqxx::result& conflicts) {
  for_each_row(conflicts, [&](auto field) {
    const auto message = RowReader{field}.integer();
    const auto batch = static_cast<std::int64_t>(id());
    if (verbs::ask(*transaction_, sql::is_in_retry_queue, {batch, message}, call("nack")) != 0) return;
    Error::Facts facts;
    facts.operation = call("nack").describe();
    facts.advice = "PgQue does not store a retry of message " + std::to_string(message) +
                   ", because the batch has it twice; the batch is acknowledged when its handler succeeds";
    throw Error{std::move(facts)};
  });
}

Finish Batch::finish(const std::vector<Retry>& retries, const InTime& in_time) {
  try {
    close_cursor();
    if (auto refused = nack(retries, in_time)) return std::move(*refused);
    const auto ack = call("ack");
    limit_as_library_does();
    const bool acked = verbs::ack(executor(), id(), ack);
    // If another worker has taken the batch over, the nacks are rolled back together with the ack. In per_batch mode
    // only a handler can have finished it, in this transaction.
    if (transaction_ && (acked || per_batch_)) transaction_->commit(call("commit the ack"));
    transaction_.reset();
    if (acked) return {Finish::Kind::acked};
    return {coop_ ? Finish::Kind::lost : Finish::Kind::stale};
  } catch (...) {
    transaction_.reset();  // so that the batch can be finished again
    throw;
  }
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
