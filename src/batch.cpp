#include "batch.hpp"

#include "consumer_options.hpp"
#include "limits.hpp"
#include "row.hpp"
#include "text_array.hpp"

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
  // It would be in the way of the next one for as long as the session lasts.
  if (cursor_open_ && session_->is_open()) session_->shut_down();
}

std::vector<Message> Batch::open() {
  std::vector<Message> messages;
  const auto receive = operation(coop_ ? "receive_coop" : "receive");
  const auto dead_interval = microseconds_of("dead_interval", options_.dead_interval);
  const Params coop_params{options_.queue, options_.name, options_.subconsumer, std::nullopt, dead_interval};
  const Params params{options_.queue, options_.name, std::nullopt};

  if (!per_batch_ && !options_.max_messages && settings_.empty()) {
    messages = read_messages(coop_ ? autocommit_.run(sql::receive_coop, coop_params, receive)
                                   : autocommit_.run(sql::receive, params, receive));
  } else {
    begin();
    if (options_.max_messages) {
      // The whole batch is opened on the server, and comes over in pages. In split mode the cursor outlives the
      // transaction.
      transaction_->run_plain((per_batch_ ? "declare pgque_batch no scroll cursor for "
                                          : "declare pgque_batch no scroll cursor with hold for ") +
                                  (coop_ ? render(transaction_->work(), sql::receive_coop, coop_params)
                                         : render(transaction_->work(), sql::receive, params)),
                              receive);
      messages = fetch();
      if (!per_batch_) {
        transaction_->commit(receive);
        transaction_.reset();
        cursor_open_ = true;
      }
    } else {
      messages = read_messages(coop_ ? transaction_->run(sql::receive_coop, coop_params, receive)
                                     : transaction_->run(sql::receive, params, receive));
      if (!per_batch_) {
        transaction_->commit(receive);
        transaction_.reset();
      }
    }
  }
  if (!messages.empty()) batch_ = id_ = messages.front().batch_id;
  return messages;
}

void Batch::begin() {
  transaction_ = std::make_unique<TransactionExecutor>(session_);
  if (!settings_.empty()) transaction_->run_plain(settings_, operation("configure the transaction"));
}

Executor& Batch::executor() {
  if (!transaction_ && !settings_.empty()) begin();
  return transaction_ ? static_cast<Executor&>(*transaction_) : autocommit_;
}

std::vector<Message> Batch::fetch() {
  const auto sql = "fetch forward " + std::to_string(*options_.max_messages) + " from pgque_batch";
  const auto fetching = operation("fetch");
  return read_messages(transaction_ ? transaction_->run_plain(sql, fetching) : autocommit_.run_plain(sql, fetching));
}

std::vector<Message> Batch::next_page() {
  if (!options_.max_messages) return {};
  return fetch();
}

bool Batch::more_windows() {
  const auto next_batch = operation("next_batch");
  Executor& running = executor();
  const auto next = read_int64(coop_ ? running.run(sql::next_batch_coop,
                                                   {options_.queue, options_.name, options_.subconsumer,
                                                    microseconds_of("dead_interval", options_.dead_interval)},
                                                   next_batch)
                                     : running.run(sql::next_batch, {options_.queue, options_.name}, next_batch));
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
                      operation("nack"));
  } catch (const ConnectionError&) {
    throw;
  } catch (const BatchNotFound& error) {
    transaction_.reset();
    // In per_batch it was a handler that finished it, and that was undone just now.
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
  const auto ack = operation("ack");
  const bool acked = read_int64(executor().run(sql::ack, {static_cast<std::int64_t>(id_)}, ack)).value_or(0) != 0;
  // The nacks of a batch that is somebody else's by now go with the ack. In per_batch nobody but a handler can have
  // finished it, in this very transaction.
  if (transaction_ && (acked || per_batch_)) transaction_->commit(ack);
  transaction_.reset();
  if (acked) return {Finish::Kind::acked};
  return {coop_ ? Finish::Kind::lost : Finish::Kind::stale};
}

void Batch::require_connection() {
  if (!transaction_ || !session_->peer_closed()) return;
  Error::Facts facts;
  facts.operation = operation("handle").describe();
  facts.sqlstate = "08006";
  facts.advice = "the connection was lost; nothing of the transaction was stored";
  facts.retryable = true;
  throw ConnectionError{std::move(facts)};
}

void Batch::close_cursor() noexcept {
  if (!cursor_open_ || !session_->is_open()) return;
  try {
    autocommit_.run_plain("close pgque_batch", operation("close"));
    cursor_open_ = false;
  } catch (...) {
    // A connection that is lost takes its cursors with it, and the next statement finds out.
  }
}

}  // namespace pgque::detail
