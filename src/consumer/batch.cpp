#include "consumer/batch.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

#include "consumer/options.hpp"
#include "database/error_map.hpp"
#include "database/peer.hpp"
#include "database/row.hpp"
#include "database/sql.hpp"
#include "database/text_array.hpp"
#include "database/verbs.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

// No batch has more messages; one more than that is still a bigint.
constexpr std::int64_t unbounded = std::numeric_limits<std::int64_t>::max() - 1;

}  // namespace

Batch::Batch(std::shared_ptr<Session> session, const ConsumerOptions& options, std::optional<BatchId> id)
    : session_{std::move(session)},
      options_{options},
      coop_{!options.subconsumer.empty()},
      per_batch_{transaction_mode(options) == TransactionMode::per_batch},
      settings_{options.pooled ? session_settings(options) : std::string{}},
      page_size_{page_size(options)},
      autocommit_{session_, settings_},
      batch_{id} {}

Batch::~Batch() {
  transaction_.reset();
  close_cursor();
  // A cursor that cannot be closed would block the cursor of the next batch as long as the session lasts.
  if (cursor_open_ && session_->is_open()) session_->shut_down();
}

std::vector<Message> Batch::open(bool again, bool large) {
  again_ = again;
  const auto receive = call(coop_ ? "receive_coop" : "receive");
  if (per_batch_) begin();
  std::optional<std::vector<Message>> all;
  if (receiver().catch_up || receiver().min_lag) {
    // Nothing else opens such a batch. With `large`, this does nothing more.
    const auto size = large ? -1 : page_size_ ? std::int64_t{*page_size_} : unbounded;
    auto first = verbs::receive_tuned(executor(), receiver(), size, receive);
    all = std::move(first.whole_batch);
    batch_ = first.batch;
    taken_from_ = std::move(first.taken_from);
  } else if (!page_size_) {
    auto received = verbs::receive(executor(), receiver(), std::nullopt, receive);
    all = std::move(received.messages);
    taken_from_ = std::move(received.taken_from);
  } else if (!large) {
    auto first = verbs::receive_page(executor(), receiver(), *page_size_, receive);
    all = std::move(first.whole_batch);
    batch_ = first.batch;
    taken_from_ = std::move(first.taken_from);
  }
  given_ = !per_batch_ && (batch_ || (all && !all->empty()));
  if (all) {
    leave_out_nacked(*all);
    return std::move(*all);
  }
  paged_ = true;
  if (!per_batch_) begin();
  // In split mode the cursor outlives the transaction.
  auto received = verbs::open_batch_cursor(*transaction_, receiver(), !per_batch_, *page_size_, receive);
  // Unless the batch was open already: then the statement that opened it has told.
  if (taken_from_.empty()) taken_from_ = std::move(received.taken_from);
  auto messages = turn_page(std::move(received.messages));
  while (messages.empty() && !last_page_) messages = fetch();
  if (!per_batch_) {
    transaction_->commit(receive);
    transaction_.reset();
    cursor_open_ = true;
  }
  if (messages_ == 0) batch_.reset();  // it was empty, and the server has finished it
  return messages;
}

verbs::Receiver Batch::receiver() const {
  verbs::Receiver receiver{options_.queue, options_.name, options_.subconsumer, options_.dead_interval};
  if (options_.catch_up) receiver.catch_up = options_.catch_up->events;
  if (options_.min_lag.count() != 0) receiver.min_lag = options_.min_lag;
  return receiver;
}

void Batch::begin() {
  transaction_ = std::make_unique<TransactionExecutor>(session_);
  settings_are_handlers_ = false;
  if (!settings_.empty()) transaction_->run_plain(settings_, call("configure the transaction"));
}

std::string Batch::settings_for_handlers() {
  settings_are_handlers_ = true;
  return sql::reset_role + (options_.statement_timeout.count() == 0 ? sql::limit_as_server_does : librarys_limit());
}

std::string Batch::settings_for_library() const {
  return sql::reset_role + librarys_limit() + sql::reset_settings;
}

std::string Batch::librarys_limit() const {
  return sql::set_milliseconds(true, "statement_timeout", options_.statement_timeout.count());
}

// Before statements of the library, in the transaction in which handlers have worked.
void Batch::begin_own_statements() {
  if (!transaction_ || !settings_are_handlers_) return;
  transaction_->run_plain(settings_for_library(), call("configure the transaction"));
  own_settings_apply();
}

Executor& Batch::executor() {
  return transaction_ ? static_cast<Executor&>(*transaction_) : autocommit_;
}

std::vector<Message> Batch::fetch() {
  const auto sql = sql::batch_cursor.fetch(*page_size_);
  const auto fetching = call("fetch");
  return turn_page(read_messages(transaction_ ? transaction_->run_plain(sql, fetching)
                                              : autocommit_.run_plain(sql, fetching, Role::reader)));
}

std::vector<Message> Batch::turn_page(std::vector<Message> page) {
  last_page_ = page.size() < static_cast<std::size_t>(*page_size_);
  leave_out_nacked(page);
  return page;
}

std::vector<Message> Batch::next_page() {
  if (!has_more_pages()) return {};
  begin_own_statements();
  std::vector<Message> page;
  while (page.empty() && !last_page_) page = fetch();
  return page;
}

void Batch::leave_out_nacked(std::vector<Message>& messages) {
  if (messages.empty()) return;
  const bool first = messages_ == 0;
  messages_ += messages.size();
  if (first) {
    batch_ = messages.front().batch_id;
    if (again_) nacked_ = verbs::nacked(executor(), *batch_, messages.front().msg_id, call("look for nacks"));
  }
  if (nacked_.empty()) return;
  const auto is_nacked = [&](const Message& message) {
    return nacked_.count({message.msg_id, message.retry_count.value_or(0)}) != 0;
  };
  messages.erase(std::remove_if(messages.begin(), messages.end(), is_nacked), messages.end());
}

std::optional<BatchId> Batch::more_windows() {
  const auto next_batch = call("next_batch");
  auto next = verbs::next_batch(executor(), receiver(), next_batch);
  taken_from_ = std::move(next.taken_from);
  if (!next.id && receiver().min_lag) {
    // Rounded up, and never none, so that the next receive does not come too early, and again at once.
    if (const auto time = verbs::ripens_in(executor(), receiver(), next_batch)) {
      ripens_in_ = std::max(std::chrono::ceil<std::chrono::milliseconds>(*time), std::chrono::milliseconds{1});
    }
  }
  if (transaction_) transaction_->commit(next_batch);
  transaction_.reset();
  return next.id;
}

void Batch::begin_to_finish() {
  has_writes_ = true;
  if (transaction_) return;
  close_cursor();
  begin();
}

bool Batch::is_still_open() {
  begin_own_statements();
  return verbs::batch_is_open(executor(), receiver(), id(), call("find the batch"));
}

std::optional<Finish> Batch::nack(std::vector<Retry>& retries, const InTime& in_time) {
  if (retries.empty()) return std::nullopt;
  if (!transaction_) begin();
  if (!chunks_) chunks_.emplace(messages_, options_.statement_timeout);
  for (auto& retry : retries) retry.dead = false;
  const auto given_up = std::stable_partition(retries.begin(), retries.end(),
                                              [](const Retry& retry) { return retry.given_up == nullptr; });
  const auto to_nack = static_cast<std::size_t>(given_up - retries.begin());
  try {
    begin_own_statements();
    for (std::size_t done = 0; done < retries.size();) {
      if (!in_time()) return interrupted(done);
      const bool nacks = done < to_nack;
      const auto size = std::min(chunks_->size(), (nacks ? to_nack : retries.size()) - done);
      const auto began = std::chrono::steady_clock::now();
      try {
        (this->*(nacks ? &Batch::nack_chunk : &Batch::give_up_chunk))(retries.data() + done, size);
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

bool Batch::may_give_up() {
  begin_own_statements();
  return verbs::ask(executor(), sql::may_give_up, {}, call("look for the right to give up")) != 0;
}

// Keeps the nacks, except where they are part of a transaction in which handlers have written, and if somebody else has
// the batch by now, who handles its messages.
Finish Batch::interrupted(std::size_t nacked) {
  Finish finish{Finish::Kind::interrupted};
  if (!per_batch_ && !has_writes_ && nacked > 0 && is_still_open()) {
    transaction_->commit(call("commit the nacks"));
    finish.nacked = nacked;
  }
  transaction_.reset();
  return finish;
}

void Batch::nack_chunk(Retry* retries, std::size_t size) {
  std::string ids = "{";
  std::string retried = "{";
  std::string delays = "{";
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const auto& retry = retries[i];
    ids += to_string(retry.msg_id) + ',';
    retried += std::to_string(retry.retried) + ',';
    delays += std::to_string(retry.delay.count()) + ',';
    bytes += retry.reason.size();
  }
  ids.back() = retried.back() = delays.back() = '}';
  const auto run = [&](RunHow how, bool in_ascii) {
    TextArray reasons{size, bytes};
    for (std::size_t i = 0; i < size; ++i) reasons.add(in_ascii ? ascii_only(retries[i].reason) : retries[i].reason);
    const auto nacked = (*transaction_.*how)(
        sql::nack_many, {static_cast<std::int64_t>(id()), ids, retried, delays, Param::binary(reasons.bytes())},
        call("nack"));
    take_nacked(nacked, retries, size);
  };
  run_with_reasons(retries, size, run, &Batch::nack_chunk);
}

// Rows of messages that have become dead letters, and of those that are not in the retry queue now: PgQue says of them
// that they are there already.
void Batch::take_nacked(const pqxx::result& rows, Retry* retries, std::size_t size) {
  std::size_t at = 0;
  for_each_row(rows, [&](auto field) {
    RowReader row{field};
    const EventId message{row.integer()};
    if (row.integer() == 0) return require_retry(message);
    // They come in the order of the chunk.
    while (at < size && retries[at].msg_id != message) ++at;
    if (at < size) retries[at++].dead = true;
  });
}

// That is not true if the batch has the message twice: then PgQue stores neither of the two, and an ack would lose the
// message.
void Batch::require_retry(EventId message) {
  const auto batch = static_cast<std::int64_t>(id());
  const auto id = static_cast<std::int64_t>(message);
  if (verbs::ask(*transaction_, sql::is_in_retry_queue, {batch, id}, call("nack")) != 0) return;
  Error::Facts facts;
  facts.operation = call("nack").describe();
  // Another process of this name has nacked the message, too, and has finished the batch while PgQue waited for it.
  if (is_gone()) throw BatchNotFound{std::move(facts)};
  facts.advice = "PgQue does not store a retry of message " + to_string(message) +
                 ", because the batch has it twice; the batch is acknowledged when its handler succeeds";
  throw Error{std::move(facts)};
}

// The role that has to be granted event_dead is not known to have more rights, so the message goes back as it came.
void Batch::give_up_chunk(Retry* retries, std::size_t size) {
  std::string ids = "{";
  std::string retried = "{";
  std::string times = "{";
  for (std::size_t i = 0; i < size; ++i) {
    const auto& message = *retries[i].given_up;
    ids += to_string(message.msg_id) + ',';
    retried += (message.retry_count ? std::to_string(*message.retry_count) : "NULL") + ',';
    times += std::to_string(message.created_at.time_since_epoch().count()) + ',';
  }
  ids.back() = retried.back() = times.back() = '}';
  const auto run = [&](RunHow how, bool in_ascii) {
    using Column = std::optional<std::string> Message::*;
    constexpr Column columns[]{&Message::type,   &Message::payload, &Message::extra1,
                               &Message::extra2, &Message::extra3,  &Message::extra4};
    TextArray texts{size * (1 + std::size(columns)), 0};
    for (std::size_t i = 0; i < size; ++i) texts.add(in_ascii ? ascii_only(retries[i].reason) : retries[i].reason);
    for (const auto column : columns) {
      for (std::size_t i = 0; i < size; ++i) texts.add((*retries[i].given_up).*column);
    }
    (*transaction_.*how)(sql::give_up_many,
                         {static_cast<std::int64_t>(id()), static_cast<std::int64_t>(size), ids, retried, times,
                          Param::binary(texts.bytes())},
                         call("event_dead"));
  };
  run_with_reasons(retries, size, run, &Batch::give_up_chunk);
  for (std::size_t i = 0; i < size; ++i) retries[i].dead = true;
}

// Calls run(how, whether in ASCII only). The database's encoding may not have all characters of the reasons.
template <class Run>
void Batch::run_with_reasons(Retry* retries, std::size_t size, const Run& run,
                             void (Batch::*again)(Retry*, std::size_t)) {
  if (std::all_of(retries, retries + size, [](const Retry& retry) { return is_ascii(retry.reason); })) {
    return run(&Executor::run, false);
  }
  try {
    run(&Executor::attempt, false);
  } catch (const Error& error) {
    if (!is_untranslatable(error)) throw;
    if (size == 1) return run(&Executor::run, true);
    // Which reason it is, is not known, and the others are stored as they are.
    for (std::size_t i = 0; i < size; ++i) (this->*again)(retries + i, 1);
  }
}

Finish Batch::finish(std::vector<Retry>& retries, const InTime& in_time) {
  try {
    close_cursor();
    if (auto refused = nack(retries, in_time)) return std::move(*refused);
    const auto ack = call("ack");
    begin_own_statements();
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
  if (transaction_ && session_->finds_loss()) throw_not_sent(call("handle"), true);
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
