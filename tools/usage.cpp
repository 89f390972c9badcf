#include "usage.hpp"

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include "output.hpp"
#include "support/text.hpp"

namespace pgque::tool {

namespace {

constexpr const char* dsn_option = "the database is named by --dsn DSN, or by the environment variable PGQUE_DSN";

// How many letters have to be inserted, removed, replaced or swapped with their neighbour to make one word the other.
std::size_t distance(std::string_view from, std::string_view to) {
  std::vector<std::size_t> before;
  std::vector<std::size_t> last;
  std::vector<std::size_t> row(to.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= from.size(); ++i) {
    before = std::exchange(last, row);
    row[0] = i;
    for (std::size_t k = 1; k <= to.size(); ++k) {
      const bool same = from[i - 1] == to[k - 1];
      row[k] = std::min({last[k] + 1, row[k - 1] + 1, last[k - 1] + (same ? 0 : 1)});
      if (i > 1 && k > 1 && from[i - 1] == to[k - 2] && from[i - 2] == to[k - 1]) {
        row[k] = std::min(row[k], before[k - 2] + 1);
      }
    }
  }
  return row[to.size()];
}

// Which word a name that is given shall be compared with, and how it is shown.
struct Known {
  std::string word;
  std::string shown;
};

// The nearest one, where the beginning of a word is near the word. There is at least one.
std::string nearest(const std::string& word, const std::vector<Known>& known) {
  const auto cost = [&](const Known& one) {
    const bool begins = word.size() > 1 && one.word.compare(0, word.size(), word) == 0;
    return begins ? std::size_t{one.word == word ? 0U : 1U} : distance(word, one.word);
  };
  return std::min_element(known.begin(), known.end(), [&](const Known& a, const Known& b) { return cost(a) < cost(b); })
      ->shown;
}

std::vector<const CLI::App*> subcommands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

void add_subcommands(const CLI::App& app, const std::string& path, std::vector<Known>& known) {
  for (const auto* sub : subcommands_of(app)) known.push_back({sub->get_name(), path + sub->get_name()});
  for (const auto* sub : subcommands_of(app)) add_subcommands(*sub, path + sub->get_name() + ' ', known);
}

void add_options(const CLI::App& app, std::vector<Known>& known) {
  for (const auto* option : app.get_options([](const CLI::Option*) { return true; })) {
    for (const auto& name : option->get_lnames()) known.push_back({"--" + name, "--" + name});
  }
}

// The app itself, the chosen subcommand, and the subcommand of that.
std::vector<const CLI::App*> chosen(const CLI::App& app) {
  std::vector<const CLI::App*> path{&app};
  while (!path.back()->get_subcommands().empty()) path.push_back(path.back()->get_subcommands().front());
  return path;
}

std::string unknown_option(const std::vector<const CLI::App*>& path, const std::string& word) {
  const bool long_form = word.compare(0, 2, "--") == 0;
  // Not what follows the name, which may be anything.
  const auto name = long_form ? word.substr(0, word.find('=')) : word.substr(0, 2);
  if (may_contain_password(name)) return "there is no such option";
  auto text = "there is no option " + printable(name);
  if (!long_form) return text;
  std::vector<Known> known;
  for (const auto* app : path) add_options(*app, known);
  return text + "; the nearest is " + nearest(name, known);
}

std::string unknown_word(const std::vector<const CLI::App*>& path, const std::string& word) {
  if (may_contain_password(word)) return "an argument that looks like a DSN has no place here";
  const auto shown = '\'' + printable(word) + '\'';
  if (subcommands_of(*path.back()).empty()) return "unexpected argument " + shown;
  std::string prefix;
  for (const auto* app : path) prefix += app->get_name() + ' ';
  std::vector<Known> known;
  add_subcommands(*path.back(), prefix, known);
  return "there is no subcommand " + shown + "; the nearest is '" + nearest(word, known) + '\'';
}

// A DSN somewhere else than behind --dsn. JSON is a payload, in which anything may stand.
bool has_misplaced_dsn(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& text = arguments[i];
    const bool of_dsn_option = text.compare(0, 6, "--dsn=") == 0 || (i > 0 && arguments[i - 1] == "--dsn");
    const bool json = !text.empty() && std::string_view{"{[\""}.find(text[0]) != std::string_view::npos;
    if (!of_dsn_option && !json && may_contain_password(text)) return true;
  }
  return false;
}

std::vector<std::string> unknown_words(const CLI::App& app) {
  auto words = app.remaining(true);
  words.erase(std::remove(words.begin(), words.end(), "--"), words.end());
  return words;
}

}  // namespace

bool may_contain_password(std::string_view text) noexcept {
  return detail::looks_like_dsn(text) || text.find('@') != std::string_view::npos;
}

std::string without_password(const std::string& text) {
  if (!may_contain_password(text)) return text;
  return std::string{"an argument is wrong, and is not shown, because it may contain a password; "} + dsn_option;
}

std::string name_of_subcommand(const CLI::App& app) {
  std::string name;
  for (const auto* at : chosen(app)) {
    if (at != &app) name += (name.empty() ? "" : " ") + at->get_name();
  }
  return name;
}

std::string why_wrong(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& arguments) {
  const auto words = unknown_words(app);
  auto text = words.empty()                                         ? without_password(error.what())
              : words.front().size() > 1 && words.front()[0] == '-' ? unknown_option(chosen(app), words.front())
                                                                    : unknown_word(chosen(app), words.front());
  const bool named = text.find(dsn_option) != std::string::npos;
  if (!named && has_misplaced_dsn(arguments)) text += std::string{"; "} + dsn_option;
  return text;
}

bool has_unknown_word(const CLI::App& app) {
  return !subcommands_of(*chosen(app).back()).empty() && !unknown_words(app).empty();
}

}  // namespace pgque::tool
