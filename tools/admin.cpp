// The subcommands that ask once and print the answer: queues, consumers, dead letters, doctor, status.

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <iostream>
#include <map>
#include <string>

#include <unistd.h>
#include <pgque/client.hpp>
#include <pgque/doctor.hpp>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"

namespace pgque::tool {

namespace {

std::string yes_no(bool value) {
  return value ? "yes" : "no";
}

// Prints what a change did: a sentence for a person, or an object for a program.
int done(const Common& common, const std::string& sentence, const Json& json) {
  if (common.json) {
    print_json(json);
  } else {
    print_line(sentence);
  }
  return success;
}

Json to_json(const QueueInfo& info) {
  return {{"queue", info.queue},
          {"paused", info.paused},
          {"external_ticker", info.external_ticker},
          {"inserts_disabled", info.inserts_disabled},
          {"last_tick", number_or_null(info.last_tick)},
          {"ticker_lag_seconds", seconds_or_null(info.ticker_lag)},
          {"new_events", number_or_null(info.new_events)},
          {"waiting_retries", info.waiting_retries},
          {"events_per_second", info.events_per_second ? Json(*info.events_per_second) : Json(nullptr)},
          {"ticker_max_count", info.ticker_max_count},
          {"ticker_max_lag_seconds", in_seconds(info.ticker_max_lag)},
          {"ticker_idle_period_seconds", in_seconds(info.ticker_idle_period)},
          {"max_retries", number_or_null(info.max_retries)},
          {"rotation_period_seconds", in_seconds(info.rotation_period)},
          {"rotated_at", iso_time(info.rotated_at)},
          {"tables", info.tables},
          {"current_table", info.current_table},
          {"note", name_or_null(info.note)}};
}

Json to_json(const ConsumerInfo& info, std::optional<std::int64_t> unticked) {
  return {{"queue", info.queue},
          {"consumer", info.consumer},
          {"role", std::string{to_string(info.role)}},
          {"group", name_or_null(info.group)},
          {"lag_seconds", seconds_or_null(info.lag)},
          {"last_seen_seconds", in_seconds(info.last_seen)},
          {"last_tick", number_or_null(info.last_tick)},
          {"current_batch", number_or_null(info.current_batch)},
          {"open_batch_seconds", seconds_or_null(info.open_batch_age)},
          {"pending_events", number_or_null(info.pending_events)},
          {"unticked_events", number_or_null(unticked)}};
}

std::optional<std::int64_t> of_queue(const std::map<std::string, std::int64_t>& events, const std::string& queue) {
  const auto found = events.find(queue);
  return found == events.end() ? std::nullopt : std::optional{found->second};
}

std::string worker_of(const ConsumerInfo& info) {
  return info.consumer.substr(std::min(info.consumer.size(), info.group.size() + 1));
}

// The members of two objects and those between them in one. Neither is empty.
std::string spliced(const Json& first, const std::string& members, const Json& last) {
  auto line = dumped(first);
  line.back() = ',';
  return line + members + ',' + dumped(last).substr(1);
}

std::string line_of(const DeadLetter& letter) {
  const auto headers = headers_in(letter.extra4);
  return spliced({{"dead_letter_id", static_cast<std::int64_t>(letter.id)},
                  {"queue", letter.queue},
                  {"consumer", letter.consumer},
                  {"time", iso_time(letter.time)},
                  {"reason", text_or_null(letter.reason)},
                  {"msg_id", static_cast<std::int64_t>(letter.event_id)},
                  {"created_at", iso_time(letter.created_at)},
                  {"retry_count", number_or_null(letter.retry_count)},
                  {"type", text_or_null(letter.type)}},
                 payload_member(letter.payload),
                 {{"key", text_or_null(letter.extra1)},
                  {"headers", headers.empty() ? Json(nullptr) : Json(headers)},
                  {"extra2", text_or_null(letter.extra2)},
                  {"extra3", text_or_null(letter.extra3)},
                  {"extra4", headers.empty() ? text_or_null(letter.extra4) : Json(nullptr)}});
}

// Whether the answer on standard input is y or yes, in capitals or not.
bool confirmed() {
  std::string line;
  std::string answer;
  std::getline(std::cin, line);
  for (const char c : line) {
    if (c != ' ' && c != '\t' && c != '\r') answer += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return answer == "y" || answer == "yes";
}

std::string cut(std::string text, std::size_t longest) {
  if (text.size() <= longest) return text;
  while (longest > 0 && (static_cast<unsigned char>(text[longest]) & 0xC0U) == 0x80) --longest;
  return text.substr(0, longest) + "...";
}

// PgQue makes a normal consumer of a cooperative one whose last worker goes.
bool is_normal_consumer(const Common& common, const SubscribeOptions& options) {
  const auto infos = Admin{common.dsn, unprepared()}.consumers(options.queue);
  return std::any_of(infos.begin(), infos.end(), [&](const ConsumerInfo& info) {
    return info.consumer == options.consumer && info.role == ConsumerRole::normal;
  });
}

}  // namespace

int list_queues(const Common& common, const std::string& queue) {
  Admin admin{common.dsn, unprepared()};
  auto infos = queue.empty() ? admin.queues() : std::vector<QueueInfo>{admin.queue(queue)};
  // PgQue's number does not count a queue's first event, and 0.2.0 does not show it to pgque_reader.
  const auto unticked = admin.unticked_events();
  for (auto& info : infos) {
    if (const auto events = of_queue(unticked, info.queue))
      info.new_events = std::max(info.new_events.value_or(0), *events);
  }
  if (common.json) {
    auto json = Json::array();
    for (const auto& info : infos) json.push_back(to_json(info));
    print_json(json);
    return success;
  }
  Table table{{"QUEUE", ">LAST TICK", ">TICK AGE", ">NEW EVENTS", ">MAX LAG", ">MAX COUNT", ">RETRIES", "PAUSED",
               "ROTATED (UTC)"}};
  for (const auto& info : infos) {
    table.add({info.queue, or_dash(info.last_tick), in_words(info.ticker_lag), or_dash(info.new_events),
               in_words(info.ticker_max_lag), std::to_string(info.ticker_max_count),
               info.max_retries ? std::to_string(*info.max_retries) : "5 (default)",
               info.external_ticker ? "external" : yes_no(info.paused), short_time(info.rotated_at)});
  }
  print(table.text());
  if (!infos.empty() && !infos.front().new_events && !infos.front().note.empty()) complain(infos.front().note);
  return success;
}

int create_queue(const Common& common, const std::string& queue, const QueueSettings& settings) {
  const bool created = Admin{common.dsn, unprepared()}.create_queue(queue, settings);
  return done(common,
              "queue " + printable(queue) + (created ? " created" : " exists already; its settings were applied"),
              {{"queue", queue}, {"created", created}});
}

int drop_queue(const Common& common, const std::string& queue, bool force) {
  Admin{common.dsn, unprepared()}.drop_queue(queue, force);
  return done(common, "queue " + printable(queue) + " dropped", {{"queue", queue}, {"dropped", true}});
}

int set_queue(const Common& common, const std::string& queue, const QueueSettings& settings) {
  Admin admin{common.dsn, unprepared()};
  admin.configure_queue(queue, settings);
  return done(common, "queue " + printable(queue) + " configured", {{"queue", queue}, {"configured", true}});
}

int list_consumers(const Common& common, const std::string& queue) {
  Admin admin{common.dsn, unprepared()};
  const auto infos = queue.empty() ? admin.consumers() : admin.consumers(queue);
  const auto events = admin.unticked_events();
  // A worker has no place of its own in the queue.
  const auto unticked = [&](const ConsumerInfo& info) {
    return info.role == ConsumerRole::subconsumer ? std::nullopt : of_queue(events, info.queue);
  };
  if (common.json) {
    auto json = Json::array();
    for (const auto& info : infos) json.push_back(to_json(info, unticked(info)));
    print_json(json);
    return success;
  }
  Table table{{"QUEUE", "CONSUMER", "ROLE", ">LAG", ">LAST SEEN", ">TICKED", ">UNTICKED", ">BATCH", ">OPEN FOR"}};
  for (const auto& info : infos) {
    table.add({info.queue, info.consumer, std::string{to_string(info.role)}, in_words(info.lag),
               in_words(info.last_seen), or_dash(info.pending_events), or_dash(unticked(info)),
               or_dash(info.current_batch), in_words(info.open_batch_age)});
  }
  print(table.text());
  return success;
}

int remove_gone(const Common& common, const GoneOptions& options) {
  Admin admin{common.dsn, unprepared()};
  if (!options.queue.empty()) admin.queue(options.queue);  // there has to be one
  const auto older_than = std::chrono::ceil<std::chrono::seconds>(options.older_than);
  auto workers = admin.gone_subconsumers(older_than);
  if (!options.queue.empty()) {
    workers.erase(std::remove_if(workers.begin(), workers.end(),
                                 [&](const ConsumerInfo& worker) { return worker.queue != options.queue; }),
                  workers.end());
  }
  if (!common.json) {
    Table table{{"QUEUE", "WORKER", ">LAST SEEN", ">BATCH"}};
    for (const auto& worker : workers) {
      table.add({worker.queue, worker.consumer, in_words(worker.last_seen), or_dash(worker.current_batch)});
    }
    if (workers.empty()) {
      print_line("no worker is gone");
    } else {
      print(table.text());
    }
  }
  bool remove = options.yes;
  if (!remove && !workers.empty() && !common.json && is_terminal(STDIN_FILENO)) {
    complain("remove them, and put the messages of their batches up for retry? [y/N]");
    remove = confirmed();
    if (!remove) return failure;
  }
  if (!remove && !workers.empty() && !common.json) complain("nothing was removed; --yes removes them");
  auto json = Json::array();
  for (const auto& worker : workers) {
    const bool removed = remove && admin.unsubscribe_gone(worker.queue, worker.group, worker_of(worker), older_than);
    auto object = to_json(worker, std::nullopt);
    object["removed"] = removed;
    json.push_back(std::move(object));
    if (!remove || common.json) continue;
    print_line(printable(worker.consumer) +
               (removed ? " unsubscribed from " : " stays, as the last worker or because it is back, on ") +
               printable(worker.queue));
  }
  if (common.json) print_json(json);
  return success;
}

int subscribe(const Common& common, const SubscribeOptions& options) {
  bool created = false;
  const bool at = options.at || options.at_time;
  if (options.at) {
    created = Admin{common.dsn, unprepared()}.subscribe_at(options.queue, options.consumer, TickId{*options.at});
  } else if (options.at_time) {
    created = Admin{common.dsn, unprepared()}.subscribe_at(options.queue, options.consumer, *options.at_time);
  } else if (!options.subconsumer.empty()) {
    created = Client{common.dsn, unprepared()}.subscribe_subconsumer(options.queue, options.consumer,
                                                                     options.subconsumer, options.convert);
  } else {
    created = Client{common.dsn, unprepared()}.subscribe(options.queue, options.consumer);
  }
  const auto who = options.consumer + (options.subconsumer.empty() ? "" : '.' + options.subconsumer);
  return done(common,
              printable(who) +
                  (created ? " subscribed to "
                   : at    ? " was subscribed already, and was moved, on "
                           : " was subscribed already to ") +
                  printable(options.queue),
              {{"queue", options.queue}, {"consumer", who}, {"created", created}});
}

int unsubscribe(const Common& common, const SubscribeOptions& options) {
  const auto handling = options.retry_batch ? BatchHandling::retry : BatchHandling::refuse;
  const bool cooperative = options.workers || !options.subconsumer.empty();
  std::vector<std::string> workers;
  if (!options.subconsumer.empty()) workers.push_back(options.subconsumer);
  if (options.workers) {
    for (const auto& info : Admin{common.dsn, unprepared()}.consumers(options.queue)) {
      if (info.group == options.consumer) workers.push_back(worker_of(info));
    }
  }
  Client client{common.dsn, unprepared()};
  bool removed = false;
  if (cooperative) {
    auto transaction = client.begin();
    for (const auto& worker : workers) {
      if (transaction.unsubscribe_subconsumer(options.queue, options.consumer, worker, handling)) removed = true;
    }
    transaction.commit();
  } else {
    removed = client.unsubscribe(options.queue, options.consumer);
  }
  const auto who = options.workers               ? "all workers of " + options.consumer
                   : options.subconsumer.empty() ? options.consumer
                                                 : options.consumer + '.' + options.subconsumer;
  const bool is_normal = removed && cooperative && is_normal_consumer(common, options);
  auto sentence =
      printable(who) + (removed ? " unsubscribed from " : " is not subscribed to ") + printable(options.queue);
  if (options.workers && !removed)
    sentence = printable(options.consumer) + " has no workers on " + printable(options.queue);
  if (is_normal) sentence += "; " + printable(options.consumer) + " is a normal consumer now";
  Json json{{"queue", options.queue}, {"consumer", cooperative && !options.workers ? who : options.consumer}};
  if (options.workers) json["workers"] = workers;
  json["removed"] = removed;
  if (cooperative) json["is_normal_consumer"] = is_normal;
  done(common, sentence, json);
  return removed ? success : failure;
}

int count_dead_letters(const Common& common) {
  const auto counts = Admin{common.dsn, unprepared()}.count_dead_letters();
  if (common.json) {
    auto json = Json::array();
    for (const auto& count : counts) {
      json.push_back({{"queue", count.queue},
                      {"consumer", count.consumer},
                      {"count", count.count},
                      {"oldest", iso_time(count.oldest)},
                      {"newest", iso_time(count.newest)}});
    }
    print_json(json);
    return success;
  }
  Table table{{"QUEUE", "CONSUMER", ">COUNT", "OLDEST (UTC)", "NEWEST (UTC)"}};
  for (const auto& count : counts) {
    table.add(
        {count.queue, count.consumer, std::to_string(count.count), short_time(count.oldest), short_time(count.newest)});
  }
  print(table.text());
  return success;
}

int list_dead_letters(const Common& common, const std::string& queue, std::int32_t limit) {
  Admin admin{common.dsn, unprepared()};
  const auto visit = [&](const auto& show) {
    if (limit > 0) {
      for (const auto& letter : admin.dead_letters(queue, limit)) show(letter);
      return;
    }
    admin.for_each_dead_letter(queue, [&](const DeadLetter& letter) {
      show(letter);
      return true;
    });
  };
  if (common.json) {
    // One per line, because all of them together may not fit into memory.
    visit([](const DeadLetter& letter) { print_line(line_of(letter)); });
    return success;
  }
  Table table{{">ID", "TIME (UTC)", "CONSUMER", "TYPE", ">RETRIES", "REASON", "PAYLOAD", "KEY", "HEADERS"}};
  visit([&](const DeadLetter& letter) {
    table.add({to_string(letter.id), short_time(letter.time), letter.consumer, letter.type.value_or("NULL"),
               std::to_string(letter.retry_count.value_or(0)), cut(letter.reason.value_or("-"), 60),
               cut(letter.payload.value_or("NULL"), 60), letter.extra1.value_or("-"),
               cut(letter.extra4.value_or("-"), 60)});
  });
  print(table.text());
  return success;
}

int replay_dead_letters(const Common& common, const ReplayOptions& options) {
  constexpr const char* warning =
      "a replayed dead letter is delivered to every consumer of its queue, including those that have handled it";
  if (!options.yes) {
    if (!is_terminal(STDIN_FILENO)) {
      complain(std::string{warning} + "; add --yes if that is wanted");
      return usage;
    }
    complain(std::string{warning} + ". Go on? [y/N]");
    if (!confirmed()) return failure;
  }
  Admin admin{common.dsn, unprepared()};
  if (!options.queue.empty()) {
    const auto result = admin.replay_dead_letters(options.queue);
    done(common, std::to_string(result.replayed) + " replayed, " + std::to_string(result.failed) + " failed",
         {{"replayed", result.replayed}, {"failed", result.failed}, {"first_error", text_or_null(result.first_error)}});
    if (result.first_error) complain(*result.first_error);
    return result.failed == 0 ? success : failure;
  }
  auto json = Json::array();
  int status = success;
  for (const auto id : options.ids) {
    try {
      const auto event = admin.replay_dead_letter(DeadLetterId{id});
      json.push_back({{"dead_letter_id", id}, {"msg_id", number_or_null(event)}});
      if (event && !common.json) print_line(std::to_string(id) + " replayed as message " + to_string(*event));
      if (event) continue;
      complain("there is no dead letter " + std::to_string(id));
      status = failure;
    } catch (const Error& error) {
      // The replays before the error are reported nevertheless.
      complain("dead letter " + std::to_string(id) + ": " + text_of(error));
      status = status_of(error);
      break;
    }
  }
  if (common.json) print_json(json);
  return status;
}

int purge_dead_letters(const Common& common, const std::string& queue, std::chrono::milliseconds older_than) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(older_than);
  const auto purged = Admin{common.dsn, unprepared()}.purge_dead_letters(queue, seconds);
  return done(common, std::to_string(purged) + (purged == 1 ? " dead letter deleted" : " dead letters deleted"),
              {{"queue", queue}, {"deleted", purged}});
}

int doctor(const Common& common, std::optional<std::chrono::milliseconds> stuck_after) {
  DiagnoseOptions options;
  if (stuck_after) options.stuck_after = std::chrono::ceil<std::chrono::seconds>(*stuck_after);
  const auto findings = diagnose(common.dsn, options);
  if (common.json) {
    auto json = Json::array();
    for (const auto& finding : findings) {
      json.push_back({{"severity", std::string{to_string(finding.severity)}},
                      {"code", finding.code},
                      {"queue", name_or_null(finding.queue)},
                      {"consumer", name_or_null(finding.consumer)},
                      {"fact", finding.fact},
                      {"consequence", finding.consequence},
                      {"remedy", finding.remedy}});
    }
    print_json(json);
  } else if (findings.empty()) {
    print_line("Nothing was found that keeps messages from arriving.");
  } else {
    std::string text;
    for (const auto& finding : findings) {
      text += std::string{to_string(finding.severity)} + " [" + finding.code + "] " + printable(finding.fact) +
              "\n  so:  " + printable(finding.consequence) + "\n  fix: " + printable(finding.remedy) + '\n';
    }
    print(text);
  }
  const auto worst = std::max_element(findings.begin(), findings.end(),
                                      [](const Finding& a, const Finding& b) { return a.severity < b.severity; });
  if (worst == findings.end() || worst->severity == Severity::notice) return success;
  return worst->severity == Severity::warning ? warnings : errors;
}

int status(const Common& common) {
  const auto lines = Admin{common.dsn, unprepared()}.status();
  if (common.json) {
    auto json = Json::array();
    for (const auto& line : lines) {
      json.push_back({{"component", line.component}, {"status", line.status}, {"detail", line.detail}});
    }
    print_json(json);
    return success;
  }
  Table table{{"COMPONENT", "STATUS", "DETAIL"}};
  for (const auto& line : lines) table.add({line.component, line.status, line.detail});
  print(table.text());
  return success;
}

}  // namespace pgque::tool
