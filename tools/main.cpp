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

// What all subcommands read, and the subcommand that was chosen.
struct CommandLine {
  Common common;
  std::string queue;
  QueueSettings settings;
  std::vector<std::string> reset;
  bool force = false;
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
  app.add_flag_function(
      "--pause,!--resume", [&settings](std::int64_t count) { settings.paused = count > 0; },
      "Stop or resume ticking the queue");
  app.add_flag_function(
      "--external-ticker,!--own-ticker", [&settings](std::int64_t count) { settings.external_ticker = count > 0; },
      "Whether ticks come from another system");
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
  auto* queues = app.add_subcommand("queues", "Show queues: their ticks, events and settings");
  queues->add_option("QUEUE", line.queue, "Only this one");
  queues->callback([&line] { line.run = [&line] { return list_queues(line.common, line.queue); }; });
  queues->footer("Example:\n  pgque queues --json | jq '.[] | select(.ticker_lag_seconds > 60)'");

  auto* queue = app.add_subcommand("queue", "Create, drop and configure queues")->require_subcommand(1);
  auto* create = queue->add_subcommand("create", "Create a queue; harmless to repeat");
  create->add_option("QUEUE", line.queue, "Its name, 57 bytes at most")->required();
  add_settings(*create, line.settings);
  create->callback([&line] { line.run = [&line] { return create_queue(line.common, line.queue, line.settings); }; });
  create->footer("Example:\n  pgque queue create orders --max-lag 100ms --max-retries 10");

  auto* drop = queue->add_subcommand("drop", "Drop a queue with its events, retries and dead letters");
  drop->add_option("QUEUE", line.queue, "Its name")->required();
  drop->add_flag("--force", line.force, "Even if consumers are subscribed");
  drop->callback([&line] { line.run = [&line] { return drop_queue(line.common, line.queue, line.force); }; });

  auto* set = queue->add_subcommand("set", "Change settings of a queue: all of them or, on an error, none");
  set->add_option("QUEUE", line.queue, "Its name")->required();
  add_settings(*set, line.settings);
  set->add_option("--reset", line.reset, "Back to the default: max-lag, max-retries, ...; separated by commas")
      ->delimiter(',')
      ->type_name("NAME");
  set->callback([&line] {
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
  consumers->add_option("QUEUE", line.queue, "Only those of this queue");
  consumers->callback([&line] { line.run = [&line] { return list_consumers(line.common, line.queue); }; });

  auto& subscription = line.subscription;
  auto* subscribe = app.add_subcommand("subscribe", "Subscribe a consumer; harmless to repeat");
  subscribe->add_option("QUEUE", subscription.queue, "The queue")->required();
  subscribe->add_option("CONSUMER", subscription.consumer, "The consumer's name")->required();
  auto* at = subscribe->add_option("--at", subscription.at, "Start after this earlier tick, or go back to it")
                 ->check(decimal)
                 ->type_name("TICK");
  subscribe->add_option("--subconsumer", subscription.subconsumer, "A worker of a cooperative consumer")
      ->check(not_empty)
      ->type_name("NAME")
      ->excludes(at);
  subscribe->callback([&line] { line.run = [&line] { return tool::subscribe(line.common, line.subscription); }; });

  auto* unsubscribe = app.add_subcommand(
      "unsubscribe", "Remove a consumer, its retries and, with its last subscription, its dead letters");
  unsubscribe->add_option("QUEUE", subscription.queue, "The queue")->required();
  unsubscribe->add_option("CONSUMER", subscription.consumer, "The consumer's name")->required();
  auto* worker =
      unsubscribe->add_option("--subconsumer", subscription.subconsumer, "A worker of a cooperative consumer")
          ->check(not_empty)
          ->type_name("NAME");
  unsubscribe->add_flag("--retry-batch", subscription.retry_batch, "Put the messages of its open batch up for retry")
      ->needs(worker);
  unsubscribe->callback([&line] { line.run = [&line] { return tool::unsubscribe(line.common, line.subscription); }; });
}

void declare_dead_letters(CLI::App& app, CommandLine& line) {
  auto* dlq = app.add_subcommand("dlq", "Dead letters: count, list, replay and purge them")->require_subcommand(0, 1);
  dlq->callback([&line, dlq] {
    if (dlq->get_subcommands().empty()) line.run = [&line] { return count_dead_letters(line.common); };
  });
  dlq->footer("Without a subcommand, counts them per queue and consumer.");

  auto* list = dlq->add_subcommand("list", "The newest dead letters of a queue; with --json one per line");
  list->add_option("QUEUE", line.queue, "The queue")->required();
  list->add_option("--limit", line.limit, "At most this many; 0 for all")
      ->capture_default_str()
      ->check(decimal)
      ->check(CLI::Range(0, std::numeric_limits<int>::max()))
      ->type_name("NUMBER");
  list->callback([&line] { line.run = [&line] { return list_dead_letters(line.common, line.queue, line.limit); }; });

  auto* replay = dlq->add_subcommand("replay", "Send dead letters again, TO EVERY CONSUMER of their queue");
  auto* ids = replay->add_option("ID", line.replay.ids, "Dead letters, as dlq list shows them")->check(decimal);
  auto* all = replay->add_option("--all", line.replay.queue, "All dead letters of this queue")->type_name("QUEUE");
  ids->excludes(all);
  replay->add_flag("--yes", line.replay.yes, "Do not ask; needed without a terminal");
  replay->callback([&line] {
    if (line.replay.ids.empty() && line.replay.queue.empty()) throw CLI::RequiredError{"ID or --all QUEUE"};
    line.run = [&line] { return replay_dead_letters(line.common, line.replay); };
  });
  replay->footer("Examples:\n  pgque dlq replay 17 18\n  pgque dlq replay --all orders --yes");

  auto* purge = dlq->add_subcommand("purge", "Delete dead letters by age");
  purge->add_option("QUEUE", line.queue, "The queue")->required();
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
  sub->add_option("QUEUE", send.queue, "The queue")->required();
  // The payload may be empty.
  auto* payload = sub->add_option_function<std::string>(
      "PAYLOAD", [&send](const std::string& text) { send.payload = text; },
      "The payload; without it, and without --file, lines of standard input are sent");
  auto* file = sub->add_option("-f,--file", send.file, "One event with this file's contents")
                   ->check(CLI::ExistingFile)
                   ->type_name("FILE");
  payload->excludes(file);
  sub->add_option("-t,--type", send.type, "What consumers dispatch on")->capture_default_str()->type_name("TYPE");
  sub->add_flag("--text", send.text, "Payloads may be any text; without this they must be JSON");
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
      "  pgque send orders --batch < events.jsonl");

  auto& tail = line.tail;
  sub = app.add_subcommand("tail", "Print a consumer's messages as lines of JSON, and acknowledge them");
  sub->add_option("QUEUE", tail.queue, "The queue")->required();
  sub->add_option("CONSUMER", tail.consumer, "The consumer, as subscribed")->required();
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
  auto* worker = sub->add_option("--subconsumer", tail.subconsumer, "Work as this worker of a cooperative consumer")
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

int run(int argc, char** argv) {
  CommandLine line;
  CLI::App app{"Administer and use PgQue, the queue inside PostgreSQL.", "pgque"};
  app.require_subcommand(1);
  app.fallthrough();
  app.set_version_flag("--version", std::string{"pgque "} + version());
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      std::ostringstream text;
      app.exit(error, text, text);
      print(text.str());
      return success;
    }
    complain(error.what());
    complain("try --help");
    return usage;
  }
  return line.run();
}

}  // namespace

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
    complain(error.what());
    return status_of(error);
  } catch (const std::invalid_argument& error) {
    complain(error.what());
    return usage;
  } catch (const std::exception& error) {
    complain(error.what());
    return failure;
  }
}
