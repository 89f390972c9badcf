#include "database/error_map.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <new>
#include <optional>
#include <stdexcept>

#include "database/pqxx_compat.hpp"
#include "support/nearest.hpp"
#include "support/text.hpp"

namespace pgque::detail {

namespace {

enum class Kind { queue_not_found, consumer_not_found, batch_not_found };

struct Text {
  std::string_view beginning;  // of the server's message, in lower case
  Kind kind;
};

// Only the messages distinguish these errors. See `docs/decisions.md`.
constexpr std::array<Text, 9> texts{{
    {"queue not found: ", Kind::queue_not_found},             // send, send_batch, force_next_tick
    {"no such queue", Kind::queue_not_found},                 // ticker
    {"no such event queue", Kind::queue_not_found},           // drop_queue, set_queue_config
    {"event queue not created yet", Kind::queue_not_found},   // subscribe, receive_coop
    {"event queue not found", Kind::queue_not_found},         // older functions
    {"not subscriber to queue: ", Kind::consumer_not_found},  // receive, next_batch
    {"batch not found", Kind::batch_not_found},               // nack, event_retry
    {"event not found", Kind::batch_not_found},               // event_retry, called with messages of the batch only
    {"cannot find data for batch", Kind::batch_not_found},    // older functions
}};

bool starts_with_folded(std::string_view text, std::string_view lower_case_beginning) {
  return text.size() >= lower_case_beginning.size() &&
         std::equal(lower_case_beginning.begin(), lower_case_beginning.end(), text.begin(),
                    [](char a, char b) { return a == static_cast<char>(std::tolower(static_cast<unsigned char>(b))); });
}

// Null if the message says no such thing.
const Text* known_text(const Error::Facts& facts) {
  if (facts.sqlstate != "P0001") return nullptr;
  const auto* const found = std::find_if(texts.begin(), texts.end(), [&](const Text& text) {
    return starts_with_folded(facts.server_message, text.beginning);
  });
  return found == texts.end() ? nullptr : found;
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

std::string advice_on_missing_queue(const FailureContext& context) {
  constexpr std::size_t longest = 100;  // names are the user's
  const auto name = sanitized(context.call.queue, longest);
  if (name.empty()) return {};
  std::string advice;
  if (has_control_characters(name)) {
    advice = "the name has control characters";  // a statement with them cannot be copied
  } else if (std::string_view{context.call.verb} != "drop_queue") {
    advice = "create it: select pgque.create_queue('";
    for (const char c : name) advice += c == '\'' ? std::string_view{"''"} : std::string_view{&c, 1};
    advice += "')";
  }
  auto others = context.queue_names ? context.queue_names() : std::vector<std::string>{};
  others.erase(std::remove_if(others.begin(), others.end(), has_control_characters), others.end());
  const auto near = nearest(name, others);
  if (near)
    advice += (advice.empty() ? "the" : "; the") + (" nearest existing name is \"" + sanitized(*near, longest)) + '"';
  return advice;
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

const char* role_name(Role role) {
  switch (role) {
    case Role::reader:
      return "pgque_reader";
    case Role::writer:
      return "pgque_writer";
    case Role::admin:
      return "pgque_admin";
    case Role::none:
      break;
  }
  return nullptr;
}

// The statement had no effect, and may succeed if it is repeated.
bool is_retryable(std::string_view state, std::string_view message) {
  static constexpr std::array<std::string_view, 7> states{"40001", "40P01", "55P03", "57014",
                                                          "57P01", "57P02", "57P03"};
  if (std::find(states.begin(), states.end(), state) != states.end()) return true;
  if (is_about_prepared_statement(state)) return true;
  if (state.substr(0, 2) == "53") return true;  // out of memory, disk, connections
  // Two sessions created the same queue or consumer at once; the one that failed finds it when it tries again.
  return state == "23505" && (contains(message, "consumer_name_uq") || contains(message, "queue_name_uq"));
}

// What the operation reads, and so what it cannot read.
std::string advice_on_unreadable(std::string_view operation) {
  const auto is = [&](std::string_view verb) {
    return operation == verb || operation.substr(0, verb.size() + 1) == std::string{verb} + ' ';
  };
  if (is("queue information") || is("consumer information") || is("batch information") || is("count_dead_letters")) {
    return "the name of a queue or consumer has bytes that are not UTF-8, which a database with encoding SQL_ASCII "
           "stores: pgque doctor says how to find and rename it (unreadable_rows)";
  }
  if (is("dead_letters") || is("for_each_dead_letter")) {
    return "a dead letter has bytes that are not UTF-8, which a database with encoding SQL_ASCII stores: in psql, set "
           "client_encoding to SQL_ASCII and read it with pgque.dlq_inspect";
  }
  return "a message has bytes that are not UTF-8, which a database with encoding SQL_ASCII stores, and which blocks "
         "its "
         "batch: in psql, set client_encoding to SQL_ASCII, read the batch with pgque.receive (a worker's with "
         "pgque.receive_coop) and finish it with pgque.ack";
}

// A consumer is a normal one or a cooperative one: how it becomes what was asked for.
std::string_view advice_on_cooperation(std::string_view message) {
  struct Advice {
    std::string_view part;
    std::string_view text;
  };
  static constexpr std::array<Advice, 6> advices{{
      {"explicit conversion is required",
       "to let several workers share it, set ConsumerOptions::convert, or run `pgque subscribe QUEUE CONSUMER "
       "--subconsumer NAME --convert`; to go on with one, leave subconsumer empty"},
      {"cannot convert active normal consumer",
       "its open batch has to be finished first, by a consumer without subconsumer (until_drained ends it then); or "
       "`pgque subscribe QUEUE CONSUMER --at TICK` with its last tick, which `pgque consumers --json` shows, gives the "
       "batch up, and its messages are delivered again"},
      {"is a cooperative main consumer; use cooperative",
       "set subconsumer to work as one of its workers; or stop these and run `pgque unsubscribe QUEUE CONSUMER "
       "--workers --retry-batch`, which makes it a normal consumer again"},
      {"cannot unregister cooperative main consumer with registered subconsumers",
       "remove its workers first: `pgque unsubscribe QUEUE CONSUMER --workers`"},
      {"cannot unregister active cooperative subconsumer",
       "the worker has an open batch: BatchHandling::retry, or --retry-batch, puts its messages up for retry"},
      {"is a cooperative subconsumer; use receive_coop", "give the part of the name behind the dot as subconsumer"},
  }};
  for (const auto& advice : advices) {
    if (contains(message, advice.part)) return advice.text;
  }
  return {};
}

std::string advice_for(std::string_view state, std::string_view message, Role role, std::string_view operation) {
  if (state == "42501" && role != Role::none) {
    return std::string{"grant the role "} + role_name(role) + " to the connecting user";
  }
  const bool undefined = state == "42883" || state == "42P01" || state == "42704";
  if (state == "3F000" || (undefined && contains(message, "pgque"))) {
    return "PgQue is not installed in this database, or is too old: load pgque.sql";
  }
  if (message == "cannot drop queue, consumers still attached") {
    return "unsubscribe them first, or drop the queue with its consumers";
  }
  if (const auto advice = advice_on_cooperation(message); !advice.empty()) return std::string{advice};
  if (is_about_prepared_statement(state)) {
    return "a pooler in transaction mode is in between, or somebody discards prepared statements: set `pooled`";
  }
  if (starts_with_folded(message, "invalid pgq state")) {
    return "the queue's ticks recorded transaction ids that this server has not reached, because the database was "
           "restored into a younger cluster: raise the epoch of its ids with pg_resetwal -e, as pgque doctor says, or "
           "drop the queue and create it again, which loses its events";
  }
  if (contains(message, " maint failure: tick ")) {
    return "a consumer of that queue stands at a tick that does not exist (sub_last_tick): unsubscribe it, or move it "
           "with register_consumer_at()";
  }
  if (state == "25006") return "the server is read-only: connect to the primary";
  // All text that the library sends is valid, so this is text that it reads.
  if (state == "22021" && role == Role::reader) return advice_on_unreadable(operation);
  return {};
}

// Such as "DETAIL: ", "LINE 1: " or "ZEILE 1: ": a short label before a colon, without small letters.
bool begins_with_label(std::string_view line) {
  constexpr std::size_t longest = 32;
  const auto colon = line.substr(0, longest).find(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const auto label = line.substr(0, colon);
  return std::all_of(label.begin(), label.end(), [](char c) {
    return c == ' ' || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
  });
}

}  // namespace

bool is_about_prepared_statement(std::string_view sqlstate) noexcept {
  return sqlstate == "26000" || sqlstate == "42P05";
}

std::string primary_message(std::string_view text) {
  // "ERROR:  message\nDETAIL:  ...\nLINE 1: ...", where libpq translates the words in capitals and their punctuation.
  if (const auto colon = text.find(":  "); colon != std::string_view::npos && colon < text.find('\n')) {
    text.remove_prefix(colon + 3);
  }
  for (auto newline = text.find('\n'); newline != std::string_view::npos; newline = text.find('\n', newline + 1)) {
    if (begins_with_label(text.substr(newline + 1))) {
      text = text.substr(0, newline);
      break;
    }
  }
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  return std::string{text};
}

[[noreturn]] void throw_server_error(Error::Facts facts, Role role) {
  const std::string_view message{facts.server_message};
  facts.retryable = is_retryable(facts.sqlstate, message);
  if (facts.advice.empty()) facts.advice = advice_for(facts.sqlstate, message, role, facts.operation);
  if (const auto* const text = known_text(facts)) {
    switch (text->kind) {
      case Kind::queue_not_found:
        throw QueueNotFound{std::move(facts)};
      case Kind::consumer_not_found:
        facts.advice = "no such queue, or the consumer is not subscribed to it: call subscribe()";
        throw ConsumerNotFound{std::move(facts)};
      case Kind::batch_not_found:
        throw BatchNotFound{std::move(facts)};
    }
  }
  throw Error{std::move(facts)};
}

[[noreturn]] void throw_mapped(const std::exception& error, const FailureContext& context) {
  // Exceptions of this library pass through, and so do those that have nothing to do with the server.
  if (dynamic_cast<const Error*>(&error) || dynamic_cast<const std::bad_alloc*>(&error)) throw;
  const auto [kind, sqlstate] = classify(error);
  Error::Facts facts;
  facts.operation = context.call.describe();
  facts.sqlstate = sqlstate;
  switch (kind) {
    case PqxxFailure::usage:
      throw std::logic_error{facts.operation +
                             ": the transaction is finished or the connection busy with another: " + error.what()};
    case PqxxFailure::argument:
      throw std::invalid_argument{facts.operation + ": " + error.what()};
    case PqxxFailure::in_doubt:
      facts.outcome_unknown = true;
      facts.advice = "the connection was lost during the commit, which may or may not have taken place";
      throw ConnectionError{std::move(facts)};
    case PqxxFailure::lost:
      // libpqxx throws the same for errors that the server merely reports; only a closed socket means a lost
      // connection.
      if (context.connection_open) break;
      facts.outcome_unknown = context.may_have_committed;
      facts.retryable = !context.may_have_committed;
      facts.advice = context.may_have_committed
                         ? "the connection was lost; the call may or may not have taken effect"
                         : "the connection was lost; nothing of the call or of its transaction was stored";
      throw ConnectionError{std::move(facts)};
    case PqxxFailure::other:
      facts.advice = error.what();
      throw Error{std::move(facts)};
    case PqxxFailure::sql:
      break;
  }
  facts.server_message = primary_message(error.what());
  const auto* const text = known_text(facts);
  if (text && text->kind == Kind::queue_not_found) facts.advice = advice_on_missing_queue(context);
  throw_server_error(std::move(facts), context.role);
}

std::string sqlstate_of(const std::exception& error) {
  const auto* const mapped = dynamic_cast<const Error*>(&error);
  return mapped ? mapped->sqlstate() : classify(error).sqlstate;
}

bool is_untranslatable(const Error& error) {
  return error.sqlstate() == "22P05";
}

bool is_transient(const Error& error) {
  const std::string_view state{error.sqlstate()};
  return state == "40001" || state == "40P01" || state == "55P03" || state == "57014" || state.substr(0, 2) == "53" ||
         is_about_prepared_statement(state);
}

bool is_permanent(const Error& error) {
  if (dynamic_cast<const QueueNotFound*>(&error) || dynamic_cast<const ConsumerNotFound*>(&error)) return true;
  const std::string_view state{error.sqlstate()};
  if (state == "28P01") return !error.retryable();
  // One of PgQue's own tables. Those of the events of a queue vanish under a statement when the queue is dropped.
  // P0001 covers all other errors of PgQue, such as that the consumer is a cooperative one. But if two processes
  // receive as the same consumer, PgQue may for a moment report a corruption that does not exist.
  return state == "42501" || state == "3F000" || state == "42883" || state == "42704" ||
         (state == "42P01" && contains(error.server_message(), "pgque.") &&
          !contains(error.server_message(), "pgque.event_")) ||
         (state == "P0001" && !dynamic_cast<const BatchNotFound*>(&error) &&
          !contains(error.server_message(), "PgQ corruption"));
}

}  // namespace pgque::detail
