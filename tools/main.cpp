// The pgque command: how its arguments are written, and what its exit status says.

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <functional>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>
#include <CLI/CLI.hpp>
#include <pgque/error.hpp>
#include <pgque/version.hpp>

#include "command.hpp"
#include "output.hpp"
#include "support/text.hpp"
#include "usage.hpp"

namespace pgque::tool {

namespace {

using std::chrono::milliseconds;

// Options that are durations.
CLI::Option* add_duration(CLI::App& app, const std::string& name, std::function<void(milliseconds)> take,
                          const std::string& help) {
  return app
      .add_option_function<std::string>(
          name,
          [take = std::move(take), name](const std::string& text) {
            try {
              take(parse_duration(text));
            } catch (const std::invalid_argument& error) {
              throw CLI::ValidationError{name, error.what()};
            }
          },
          help)
      ->type_name("DURATION");
}

CLI::Option* add_duration(CLI::App& app, const std::string& name, milliseconds& value, const std::string& help) {
  return add_duration(
      app, name, [&value](milliseconds given) { value = given; }, help);
}

CLI::Option* add_duration(CLI::App& app, const std::string& name, std::optional<milliseconds>& value,
                          const std::string& help) {
  return add_duration(
      app, name, [&value](milliseconds given) { value = given; }, help);
}

std::string why_not_decimal(const std::string& text) {
  std::int64_t number = 0;
  const auto* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  const bool whole = error == std::errc{} && stop == end;
  return whole && std::to_string(number) == text ? "" : '\'' + text + "' is not a decimal number";
}

// By default, CLI11 reads 010 as eight, reads a number that is too large as the largest one, and treats an empty text,
// such as that of an unset variable, as an option that was not given.
const CLI::Validator decimal{why_not_decimal, ""};
const CLI::Validator not_empty{[](const std::string& text) { return text.empty() ? "must not be empty" : ""; }, ""};

// Whoever writes a DSN where a name belongs must not find its password in the terminal or in the server's log.
const CLI::Validator not_a_dsn{why_no_name, ""};

// CLI11's own check shows the path.
const CLI::Validator file_or_standard_input{[](std::string& path) {
                                              if (path == "-" || CLI::ExistingFile(path).empty()) return "";
                                              if (CLI::ExistingDirectory(path).empty()) return "is a directory";
                                              return "File does not exist";
                                            },
                                            ""};

CLI::Option* add_name(CLI::App& app, const std::string& name, std::string& value, const std::string& help) {
  return app.add_option(name, value, help)->check(not_a_dsn);
}

// What all subcommands read, and the subcommand that was chosen.
struct CommandLine {
  Common common;
  std::string queue;
  QueueSettings settings;
  std::vector<std::string> reset;
  bool force = false;
  bool gone = false;
  GoneOptions gone_workers;
  SubscribeOptions subscription;
  std::int32_t limit = 100;
  ReplayOptions replay;
  milliseconds older_than{0};
  std::optional<milliseconds> stuck_after;
  SendOptions send;
  TailOptions tail;
  TickOptions tick;
  std::function<int()> run;
};

void add_settings(CLI::App& app, QueueSettings& settings) {
  app.add_option("--max-count", settings.ticker_max_count, "Tick after this many events")
      ->check(decimal)
      ->type_name("NUMBER");
  add_duration(app, "--max-lag", settings.ticker_max_lag, "Tick this long after the last tick if there are new events");
  add_duration(app, "--idle-period", settings.ticker_idle_period, "Tick this often while there are no new events");
  add_duration(app, "--rotation-period", settings.rotation_period, "Switch to the next event table this often");
  app.add_option("--max-retries", settings.max_retries, "Retries before a message becomes a dead letter")
      ->check(decimal)
      ->type_name("NUMBER");
  const auto add_flag = [&app](const std::string& name, std::optional<bool>& setting, bool value, const char* help) {
    return app.add_flag_callback(
        name, [&setting, value] { setting = value; }, help);
  };
  auto* pause = add_flag("--pause", settings.paused, true, "Stop ticking the queue");
  add_flag("--resume", settings.paused, false, "Tick the queue again")->excludes(pause);
  auto* external = add_flag("--external-ticker", settings.external_ticker, true, "Ticks come from another system");
  add_flag("--own-ticker", settings.external_ticker, false, "Ticks come from PgQue")->excludes(external);
}

bool changes_nothing(const QueueSettings& settings, const std::vector<std::string>& reset) {
  return !settings.ticker_max_count && !settings.ticker_max_lag && !settings.ticker_idle_period &&
         !settings.rotation_period && !settings.max_retries && !settings.paused && !settings.external_ticker &&
         reset.empty();
}

std::vector<QueueSetting> settings_named(const std::vector<std::string>& names) {
  static const std::vector<std::pair<std::string, QueueSetting>> known{
      {"max-count", QueueSetting::ticker_max_count},      {"max-lag", QueueSetting::ticker_max_lag},
      {"idle-period", QueueSetting::ticker_idle_period},  {"rotation-period", QueueSetting::rotation_period},
      {"max-retries", QueueSetting::max_retries},         {"pause", QueueSetting::paused},
      {"external-ticker", QueueSetting::external_ticker},
  };
  std::vector<QueueSetting> settings;
  for (const auto& name : names) {
    const auto found = std::find_if(known.begin(), known.end(), [&](const auto& entry) { return entry.first == name; });
    if (found == known.end()) throw std::invalid_argument{"--reset: there is no setting '" + name + "'"};
    settings.push_back(found->second);
  }
  return settings;
}

void declare_queues(CLI::App& app, CommandLine& line) {
  const auto declare_list = [&line](CLI::App& parent, const char* name, const char* help) {
    auto* list = parent.add_subcommand(name, help);
    add_name(*list, "QUEUE", line.queue, "Only this one");
    list->callback([&line] { line.run = [&line] { return list_queues(line.common, line.queue); }; });
    return list;
  };
  auto* queues = declare_list(app, "queues", "Show queues: their ticks, events and settings");
  queues->footer("Example:\n  pgque queues --json | jq '.[] | select(.ticker_lag_seconds > 60)'");

  auto* queue = app.add_subcommand("queue", "Create, drop, configure and list queues")->require_subcommand(1);
  declare_list(*queue, "list", "Show queues: the same as pgque queues");
  auto* create = queue->add_subcommand("create", "Create a queue; harmless to repeat");
  add_name(*create, "QUEUE", line.queue, "Its name, 57 bytes at most")->required();
  add_settings(*create, line.settings);
  create->callback([&line] { line.run = [&line] { return create_queue(line.common, line.queue, line.settings); }; });
  create->footer("Example:\n  pgque queue create orders --max-lag 100ms --max-retries 10");

  auto* drop = queue->add_subcommand("drop", "Drop a queue with its events, retries and dead letters");
  add_name(*drop, "QUEUE", line.queue, "Its name")->required();
  drop->add_flag("--force", line.force, "Even if consumers are subscribed");
  drop->callback([&line] { line.run = [&line] { return drop_queue(line.common, line.queue, line.force); }; });

  auto* set = queue->add_subcommand("set", "Change settings of a queue: all of them or, on an error, none");
  add_name(*set, "QUEUE", line.queue, "Its name")->required();
  add_settings(*set, line.settings);
  set->add_option("--reset", line.reset, "Back to the default: max-lag, max-retries, ...; separated by commas")
      ->delimiter(',')
      ->type_name("NAME");
  set->callback([&line] {
    if (changes_nothing(line.settings, line.reset))
      throw CLI::RequiredError{"A setting, such as --max-lag, or --reset"};
    line.run = [&line] {
      line.settings.reset = settings_named(line.reset);
      return set_queue(line.common, line.queue, line.settings);
    };
  });
  set->footer(
      "Examples:\n  pgque queue set orders --pause\n  pgque queue set orders --max-lag 50ms --reset max-retries");
}

void declare_consumers(CLI::App& app, CommandLine& line) {
  auto* consumers = app.add_subcommand("consumers", "Show consumers: how far behind they are, and their open batches");
  add_name(*consumers, "QUEUE", line.queue, "Only those of this queue");
  auto* gone =
      consumers->add_flag("--gone", line.gone, "Show workers of cooperative consumers that are gone, and remove them");
  add_duration(*consumers, "--older-than", line.gone_workers.older_than,
               "Gone without a sign of life for this long (default: 1d)")
      ->needs(gone);
  consumers->add_flag("--yes", line.gone_workers.yes, "Do not ask; needed without a terminal")->needs(gone);
  consumers->callback([&line] {
    line.run = [&line] {
      if (!line.gone) return list_consumers(line.common, line.queue);
      line.gone_workers.queue = line.queue;
      return remove_gone(line.common, line.gone_workers);
    };
  });
  consumers->footer(
      "A worker is gone if it has given no sign of life for --older-than, which has to be longer than its\n"
      "poll_interval, and no session of the database is named after it. What it had open is put up for retry.\n"
      "The last worker of a cooperative consumer stays.");

  auto& subscription = line.subscription;
  auto* subscribe = app.add_subcommand("subscribe", "Subscribe a consumer; harmless to repeat");
  add_name(*subscribe, "QUEUE", subscription.queue, "The queue")->required();
  add_name(*subscribe, "CONSUMER", subscription.consumer, "The consumer's name")->required();
  auto* at =
      subscribe
          ->add_option_function<std::string>(
              "--at",
              [&subscription](const std::string& text) {
                if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) {
                  try {
                    subscription.at_time = parse_time(text);
                  } catch (const std::invalid_argument& error) {
                    throw CLI::ValidationError{"--at", error.what()};
                  }
                } else if (std::from_chars(text.data(), text.data() + text.size(), subscription.at.emplace()).ec !=
                           std::errc{}) {
                  throw CLI::ValidationError{"--at", "is no tick"};
                }
              },
              "Start after this earlier tick, or with the events of this time, such as 2026-11-24T08:00Z; or go "
              "back to it")
          ->type_name("TICK|TIME");
  auto* subconsumer =
      add_name(*subscribe, "--subconsumer", subscription.subconsumer, "A worker of a cooperative consumer")
          ->check(not_empty)
          ->type_name("NAME")
          ->excludes(at);
  subscribe->add_flag("--convert", subscription.convert, "Make a cooperative consumer of a normal one")
      ->needs(subconsumer);
  subscribe->callback([&line] { line.run = [&line] { return tool::subscribe(line.common, line.subscription); }; });

  auto* unsubscribe = app.add_subcommand(
      "unsubscribe", "Remove a consumer, its retries and, with its last subscription, its dead letters");
  add_name(*unsubscribe, "QUEUE", subscription.queue, "The queue")->required();
  add_name(*unsubscribe, "CONSUMER", subscription.consumer, "The consumer's name")->required();
  auto* worker = add_name(*unsubscribe, "--subconsumer", subscription.subconsumer, "A worker of a cooperative consumer")
                     ->check(not_empty)
                     ->type_name("NAME");
  unsubscribe
      ->add_flag("--workers", subscription.workers,
                 "All workers of a cooperative consumer, and not the consumer, which is a normal one then")
      ->excludes(worker);
  unsubscribe->add_flag("--retry-batch", subscription.retry_batch,
                        "Put the messages of a worker's open batch up for retry");
  unsubscribe->callback([&line] {
    const auto& given = line.subscription;
    if (given.retry_batch && given.subconsumer.empty() && !given.workers) {
      throw CLI::RequiresError{"--retry-batch", "--subconsumer or --workers"};
    }
    line.run = [&line] { return tool::unsubscribe(line.common, line.subscription); };
  });
  unsubscribe->footer(
      "Examples:\n  pgque unsubscribe orders worker\n"
      "  pgque unsubscribe orders worker --workers --retry-batch    # stop them first");
}

void declare_dead_letters(CLI::App& app, CommandLine& line) {
  auto* dlq = app.add_subcommand("dlq", "Dead letters: count, list, replay and purge them")->require_subcommand(0, 1);
  dlq->callback([&line, dlq] {
    if (dlq->get_subcommands().empty()) line.run = [&line] { return count_dead_letters(line.common); };
  });
  dlq->footer("Without a subcommand, counts them per queue and consumer.");

  auto* list = dlq->add_subcommand("list", "The newest dead letters of a queue; with --json one per line");
  add_name(*list, "QUEUE", line.queue, "The queue")->required();
  list->add_option("--limit", line.limit, "At most this many; 0 for all")
      ->capture_default_str()
      ->check(decimal)
      ->check(CLI::Range(0, std::numeric_limits<int>::max()))
      ->type_name("NUMBER");
  list->callback([&line] { line.run = [&line] { return list_dead_letters(line.common, line.queue, line.limit); }; });

  auto* replay = dlq->add_subcommand("replay", "Send dead letters again, TO EVERY CONSUMER of their queue");
  auto* ids = replay->add_option("ID", line.replay.ids, "Dead letters, as dlq list shows them")->check(decimal);
  auto* all = add_name(*replay, "--all", line.replay.queue, "All dead letters of this queue")->type_name("QUEUE");
  ids->excludes(all);
  replay->add_flag("--yes", line.replay.yes, "Do not ask; needed without a terminal");
  replay->callback([&line] {
    if (line.replay.ids.empty() && line.replay.queue.empty()) throw CLI::RequiredError{"ID or --all QUEUE"};
    line.run = [&line] { return replay_dead_letters(line.common, line.replay); };
  });
  replay->footer("Examples:\n  pgque dlq replay 17 18\n  pgque dlq replay --all orders --yes");

  auto* purge = dlq->add_subcommand("purge", "Delete dead letters by age");
  add_name(*purge, "QUEUE", line.queue, "The queue")->required();
  add_duration(*purge, "--older-than", line.older_than, "Delete those that are older than this")->required();
  purge->callback(
      [&line] { line.run = [&line] { return purge_dead_letters(line.common, line.queue, line.older_than); }; });
  purge->footer("Example:\n  pgque dlq purge orders --older-than 30d");
}

void declare_observation(CLI::App& app, CommandLine& line) {
  auto* doctor = app.add_subcommand("doctor", "Find out why messages do not arrive");
  add_duration(*doctor, "--stuck-after", line.stuck_after, "How long a batch may stay open (default: 10min)");
  doctor->callback([&line] { line.run = [&line] { return tool::doctor(line.common, line.stuck_after); }; });
  doctor->footer("Exit status: 0 nothing worse than notices, 5 warnings, 6 errors.");

  auto* metrics = app.add_subcommand("metrics", "Print metrics in Prometheus' text format");
  metrics->callback([&line] { line.run = [&line] { return tool::metrics(line.common); }; });
  metrics->footer(
      "Example, for the node exporter:\n"
      "  pgque metrics > pgque.prom.new && mv pgque.prom.new /var/lib/node_exporter/pgque.prom");

  auto* status = app.add_subcommand("status", "Show PgQue's report on itself and its scheduler");
  status->callback([&line] { line.run = [&line] { return tool::status(line.common); }; });
}

void declare_messages(CLI::App& app, CommandLine& line) {
  auto& send = line.send;
  auto* sub = app.add_subcommand("send", "Send one event, or each line of standard input as one");
  add_name(*sub, "QUEUE", send.queue, "The queue")->required();
  // The payload may be empty.
  auto* payload = sub->add_option_function<std::string>(
      "PAYLOAD", [&send](const std::string& text) { send.payload = text; },
      "The payload; without it, and without --file, lines of standard input are sent");
  auto* file = sub->add_option("-f,--file", send.file, "One event with this file's contents; - is standard input")
                   ->check(file_or_standard_input)
                   ->type_name("FILE");
  payload->excludes(file);
  // A type may have an @ in it.
  sub->add_option("-t,--type", send.type, "What consumers dispatch on")
      ->capture_default_str()
      ->check([](const std::string& text) { return detail::looks_like_dsn(text) ? why_no_name(text) : ""; })
      ->type_name("TYPE");
  sub->add_option("-k,--key", send.key, "What it is about, such as a customer; kept with the event")->type_name("KEY");
  sub->add_option("--header", send.headers, "What travels beside the payload; may be repeated")
      ->allow_extra_args(false)
      ->check([](const std::string& text) { return text.find('=') == std::string::npos ? "must be NAME=VALUE" : ""; })
      ->type_name("NAME=VALUE");
  auto* any_text = sub->add_flag("--text", send.text, "Payloads may be any text; without this they must be JSON");
  sub->add_flag("--events", send.events,
                "Lines are events: {\"payload\": ..., \"type\": ..., \"key\": ..., \"headers\": {...}}")
      ->excludes(payload)
      ->excludes(file)
      ->excludes(any_text);
  auto* batch = sub->add_flag("--batch", send.batch, "Send many lines at a time, which is much faster");
  sub->add_option("--batch-size", send.batch_size, "How many lines at a time")
      ->capture_default_str()
      ->check(decimal)
      ->check(CLI::Range(1, 1'000'000))
      ->needs(batch)
      ->type_name("NUMBER");
  sub->add_flag("--atomic", send.atomic, "All lines in one transaction: all are sent, or none");
  sub->add_flag("!--no-progress", send.progress, "No progress on the terminal");
  sub->callback([&line] { line.run = [&line] { return tool::send(line.common, line.send); }; });
  sub->footer(
      "Examples:\n  pgque send orders '{\"order_id\": 42}' --type order.created\n"
      "  pgque send orders --batch < payloads.jsonl\n  pgque send orders --events --batch < events.jsonl");

  auto& tail = line.tail;
  sub = app.add_subcommand("tail", "Print a consumer's messages as lines of JSON, and acknowledge them");
  add_name(*sub, "QUEUE", tail.queue, "The queue")->required();
  add_name(*sub, "CONSUMER", tail.consumer, "The consumer, as subscribed")->required();
  auto* once = sub->add_flag("--once", tail.once, "End when there are no more messages");
  auto* peek = sub->add_flag("--peek", tail.peek, "Acknowledge nothing: show what is waiting, and end")->excludes(once);
  sub->add_option("--limit", tail.limit, "Show at most this many (default: 1000); 0 for all")
      ->check(decimal)
      ->check(CLI::Range(0, std::numeric_limits<int>::max()))
      ->needs(peek)
      ->type_name("NUMBER");
  sub->add_flag("--subscribe", tail.subscribe, "Subscribe the consumer first, if it is not")->excludes(peek);
  sub->add_flag("--raw", tail.raw, "Print payloads only");
  sub->add_flag("--pooled", tail.pooled, "Through a pooler in transaction mode: poll, without notifications");
  auto* worker = add_name(*sub, "--subconsumer", tail.subconsumer, "Work as this worker of a cooperative consumer")
                     ->check(not_empty)
                     ->type_name("NAME");
  add_duration(*sub, "--dead-interval", tail.dead_interval, "Take over from workers without a heartbeat for this long")
      ->needs(worker);
  add_duration(*sub, "--poll-interval", tail.poll_interval, "How often to poll beside notifications (default: 30s)");
  sub->callback([&line] { line.run = [&line] { return tool::tail(line.common, line.tail); }; });
  sub->footer("Examples:\n  pgque tail orders debugger --subscribe | jq .payload\n  pgque tail orders worker --peek");

  auto& tick = line.tick;
  sub = app.add_subcommand("tick", "Run the scheduler until SIGINT or SIGTERM: ticks, retries, maintenance, rotation");
  add_duration(*sub, "--period", tick.period, "How often to look for queues to tick (default: 100ms)");
  add_duration(*sub, "--retry-period", tick.retry_period, "How often to bring due retries back (default: 1s)");
  add_duration(*sub, "--maintenance-period", tick.maintenance_period,
               "How often to run general maintenance (default: 30s)");
  add_duration(*sub, "--rotation-period", tick.rotation_period,
               "How often to run the second step of rotation (default: 10s)");
  add_duration(*sub, "--standby-period", tick.standby_period,
               "How often to try to become the active one (default: 1s)");
  add_duration(*sub, "--max-lag", tick.max_lag, "Lower each queue's ticker_max_lag to this where it is higher");
  sub->add_flag("--pooled", tick.pooled, "Through a pooler in transaction mode, which is refused without this");
  sub->add_flag("-q,--quiet", tick.quiet, "Only warnings and errors");
  sub->callback([&line] { line.run = [&line] { return tool::tick(line.common, line.tick); }; });
  sub->footer(
      "Run as many as you like: one is active, and another takes over when it ends.\n"
      "Example:\n  pgque tick --max-lag 100ms");
}

// The next file or connection would get the descriptor of a standard stream that is closed. What is opened here in its
// place fails on use, as a closed stream does.
void occupy_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(descriptor, F_GETFD) < 0) ::open("/dev/null", descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

// Such as "queue create", for the errors of what it does.
std::string subcommand;

int run(int argc, char** argv) {
  CommandLine line;
  CLI::App app{"Administer and use PgQue, the queue inside PostgreSQL.", "pgque"};
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("-V,--version", std::string{"pgque "} + version());
  app.add_option("--dsn", line.common.dsn,
                 "The database: a postgresql:// URI or key=value settings. Default: libpq's environment (PGHOST, ...)")
      ->envname("PGQUE_DSN");
  app.add_flag("--json", line.common.json, "Answer in JSON");
  app.footer(
      "Exit status: 0 success, 1 failure, 2 wrong arguments, 3 no connection, 4 no permission; doctor: 5 warnings,\n"
      "6 errors. Passwords belong into ~/.pgpass or PGQUE_DSN, not into arguments, which other users can see.");
  declare_messages(app, line);
  declare_queues(app, line);
  declare_consumers(app, line);
  declare_dead_letters(app, line);
  declare_observation(app, line);
  std::vector<std::string> arguments{argv + 1, argv + argc};
  translate_help(app, arguments);
  try {
    app.parse(std::vector<std::string>{arguments.rbegin(), arguments.rend()});  // as CLI11 wants them
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0 && !has_unknown_word(app)) {
      std::ostringstream text;
      app.exit(error, text, text);
      print(text.str());
      return success;
    }
    complain(why_wrong(app, error, arguments));
    complain("try --help");
    return usage;
  }
  subcommand = name_of_subcommand(app);
  return line.run();
}

}  // namespace

// The library names the call that failed, which is not always what the user asked for.
std::string text_of(const Error& error) {
  std::string text = error.what();
  const auto verb = error.operation().substr(0, error.operation().find(" ("));
  if (verb.empty() || verb == "connect" || text.compare(0, verb.size(), verb) != 0) return text;
  return subcommand + text.substr(verb.size());
}

std::string text_of(const LogRecord& record) {
  // An error begins with the call, such as: receive (queue "q", consumer "c"): ...
  const auto& text = record.message;
  const auto verb = text.substr(0, text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"));
  const auto rest = text.substr(verb.size());
  const auto continues = [&](std::string_view with) { return rest.compare(0, with.size(), with) == 0; };
  const bool is_call = !verb.empty() && (continues(" (queue \"") || continues(" (batch "));
  const bool is_ticker = verb == "ticker" && continues(": ");  // of all queues
  return is_call || is_ticker ? subcommand + std::string{rest} : std::string{text};
}

int status_of(const Error& error) {
  if (dynamic_cast<const ConnectionError*>(&error)) return no_connection;
  return error.sqlstate() == "42501" ? no_permission : failure;
}

}  // namespace pgque::tool

int main(int argc, char** argv) {
  using namespace pgque::tool;
  occupy_standard_streams();
  try {
    return run(argc, argv);
  } catch (const pgque::Error& error) {
    complain(text_of(error));
    return status_of(error);
  } catch (const std::invalid_argument& error) {
    complain(without_password(error.what()));
    return usage;
  } catch (const std::exception& error) {
    complain(error.what());
    return failure;
  }
}
