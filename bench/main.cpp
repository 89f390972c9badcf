// Compares pgque with raw libpq; scripts/bench runs it on a throwaway server.

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>

#include <pqxx/version>

#include "raw.hpp"
#include "workload.hpp"

namespace {

constexpr const char* usage = R"(Usage: pgque_bench [OPTION...]

  --filter REGEX   only workloads whose name contains a match
  --list           print the workloads' names
  --quick          a third of the pairs
  --smoke          tiny sizes, one pair: only to see that everything works
  --markdown FILE  also write the table as Markdown
  --points DIR     also write the numbers behind the pictures

PGQUE_TEST_DSN names the database, as a role that may create queues and tables.
)";

struct Arguments {
  pgque::bench::Setting setting;
  std::regex filter{""};
  bool list = false;
  bool help = false;
  std::string markdown;
  std::string points;
};

Arguments parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string option{argv[i]};
    const auto value = [&] {
      if (++i == argc) throw std::invalid_argument{option + " needs a value"};
      return std::string{argv[i]};
    };
    if (option == "--filter") {
      out.filter = value();
    } else if (option == "--list") {
      out.list = true;
    } else if (option == "--quick") {
      out.setting.scale = pgque::bench::Scale::quick;
    } else if (option == "--smoke") {
      out.setting.scale = pgque::bench::Scale::smoke;
    } else if (option == "--markdown") {
      out.markdown = value();
    } else if (option == "--points") {
      out.points = value();
    } else if (option == "--help" || option == "-h") {
      out.help = true;
    } else {
      throw std::invalid_argument{"unknown option " + option};
    }
  }
  return out;
}

std::vector<pgque::bench::Workload> all_workloads() {
  namespace bench = pgque::bench;
  std::vector<bench::Workload> out;
  for (auto part : {bench::send_workloads(), bench::receive_workloads(), bench::consume_workloads(),
                    bench::backlog_workloads(), bench::latency_workloads(), bench::scaling_workloads(),
                    bench::ticking_workloads(), bench::held_transaction_workloads()}) {
    out.insert(out.end(), std::make_move_iterator(part.begin()), std::make_move_iterator(part.end()));
  }
  return out;
}

std::string footer(pgque::bench::Raw& sql, pgque::bench::Scale scale) {
  const auto text = [&](const char* statement) { return std::string{::PQgetvalue(sql(statement).get(), 0, 0)}; };
  std::string out = "PostgreSQL " + text("select split_part(current_setting('server_version'), ' ', 1)");
  out += ", PgQue " + text("select pgque.version()") + ", libpqxx " PQXX_VERSION ", ";
  out += std::to_string(std::thread::hardware_concurrency()) + " processors for server and client, fsync ";
  out += text("select current_setting('fsync')") + ", synchronous_commit " +
         text("select current_setting('synchronous_commit')") + '.';
  if (scale == pgque::bench::Scale::quick) out += " Run with --quick.";
  if (scale == pgque::bench::Scale::smoke) out += " Run with --smoke: these numbers mean nothing.";
  return out;
}

}  // namespace

int main(int argc, char** argv) try {
  const auto* const dsn = std::getenv("PGQUE_TEST_DSN");
  auto arguments = parse(argc, argv);
  if (arguments.help) {
    std::fputs(usage, stdout);
    return 0;
  }
  std::vector<pgque::bench::Workload> workloads;
  for (const auto& workload : all_workloads()) {
    if (std::regex_search(workload.name, arguments.filter)) workloads.push_back(workload);
  }
  if (workloads.empty()) throw std::invalid_argument{"no workload has such a name; see --list"};
  if (arguments.list) {
    for (const auto& workload : workloads) std::puts(workload.name.c_str());
    return 0;
  }
  if (!dsn) throw std::invalid_argument{"PGQUE_TEST_DSN is not set; scripts/with-postgres COMMAND sets it"};

  // A file that cannot be written is reported now, not after some minutes.
  if (!arguments.points.empty()) std::filesystem::create_directories(arguments.points);
  if (!arguments.markdown.empty() && !std::ofstream{arguments.markdown, std::ios::app}) {
    throw std::runtime_error{"cannot write " + arguments.markdown};
  }
  arguments.setting.dsn = dsn;
  pgque::bench::Report report;
  {
    pgque::bench::Raw sql{dsn};
    report.set_footer(footer(sql, arguments.setting.scale));
  }
  for (const auto& workload : workloads) {
    try {
      workload.run(workload.name, arguments.setting, report);
    } catch (const std::exception& error) {
      throw std::runtime_error{workload.name + ": " + error.what()};
    }
  }
  report.print();
  if (!arguments.markdown.empty()) report.write_markdown(arguments.markdown);
  if (!arguments.points.empty()) report.write_points(arguments.points);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "pgque_bench: %s\n", error.what());
  return 1;
}
