#include "usage.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "output.hpp"
#include "support/nearest.hpp"
#include "support/text.hpp"

namespace pgque::tool {

namespace {

constexpr const char* dsn_option =
    "the database is named by --dsn DSN, in quotation marks if it contains spaces, or by the environment variable "
    "PGQUE_DSN";

constexpr const char* is_dsn = "looks like a DSN and is not shown";
constexpr const char* is_piece_of_dsn =
    "may be a piece of a DSN, because it contains @ or %40, and is not shown; psql and the library take such names";

bool may_contain_password(std::string_view text) {
  return !why_no_name(text).empty();
}

// Which word a name that is given shall be compared with, and how it is shown.
struct Known {
  std::string word;
  std::string shown;
};

// The nearest one, where the beginning of a word is near the word; none if more than a third of the letters differ.
std::optional<std::string> nearest(const std::string& word, const std::vector<Known>& known) {
  const auto cost = [&](const Known& one) {
    const bool begins = word.size() > 1 && one.word.compare(0, word.size(), word) == 0;
    return begins ? std::size_t{one.word == word ? 0U : 1U} : detail::edit_distance(word, one.word);
  };
  const auto best =
      std::min_element(known.begin(), known.end(), [&](const Known& a, const Known& b) { return cost(a) < cost(b); });
  if (best == known.end() || !detail::is_near(cost(*best), word, best->word)) return std::nullopt;
  return best->shown;
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

// The app and its subcommands so far, such as "pgque queue create".
std::string words_of(const std::vector<const CLI::App*>& path) {
  std::string words;
  for (const auto* app : path) words += (words.empty() ? "" : " ") + app->get_name();
  return words;
}

std::string unknown_option(const std::vector<const CLI::App*>& path, const std::string& word) {
  const bool long_form = word.compare(0, 2, "--") == 0;
  // Not what follows the name, which may be anything.
  const auto name = long_form ? word.substr(0, word.find('=')) : word.substr(0, 2);
  if (path.back()->get_option_no_throw(name) != nullptr) {
    return "the option " + name + " belongs behind '" + words_of(path) + "', and before any --";
  }
  auto text = "there is no option " + printable(name);
  if (!long_form) return text;
  std::vector<Known> known;
  for (const auto* app : path) add_options(*app, known);
  const auto near = nearest(name, known);
  return near ? text + "; the nearest is " + *near : text;
}

std::string unknown_word(const std::vector<const CLI::App*>& path, const std::string& word) {
  const auto shown = '\'' + printable(word) + '\'';
  if (subcommands_of(*path.back()).empty()) return "unexpected argument " + shown;
  const auto prefix = words_of(path) + ' ';
  std::vector<Known> known;
  if (path.size() == 1) known.push_back({"version", prefix + "--version"});
  add_subcommands(*path.back(), prefix, known);
  auto text = "there is no subcommand " + shown;
  const auto near = nearest(word, known);
  return near ? text + "; the nearest is '" + *near + '\'' : text;
}

// Such as "create, drop or list".
std::string names_of_subcommands(const CLI::App& app) {
  const auto all = subcommands_of(app);
  std::string names;
  for (std::size_t i = 0; i < all.size(); ++i) {
    names += (i == 0 ? "" : i + 1 == all.size() ? " or " : ", ") + all[i]->get_name();
  }
  return names;
}

// Whether an argument may contain a password. JSON is a payload, in which anything may stand.
bool has_secret(const std::vector<std::string>& arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [](const std::string& text) {
    const bool json = !text.empty() && std::string_view{"{[\""}.find(text[0]) != std::string_view::npos;
    return !json && may_contain_password(text);
  });
}

bool refuses_name(const CLI::ParseError& error) {
  const std::string text{error.what()};
  return text.find(is_dsn) != std::string::npos || text.find(is_piece_of_dsn) != std::string::npos;
}

// Whether the text of the error names options and quotes no argument.
bool quotes_nothing(const CLI::ParseError& error) {
  return dynamic_cast<const CLI::RequiredError*>(&error) || dynamic_cast<const CLI::RequiresError*>(&error) ||
         dynamic_cast<const CLI::ExcludesError*>(&error);
}

std::vector<std::string> unknown_words(const CLI::App& app) {
  auto words = app.remaining(true);
  words.erase(std::remove(words.begin(), words.end(), "--"), words.end());
  return words;
}

}  // namespace

std::string why_no_name(std::string_view text) {
  if (detail::looks_like_dsn(text)) return is_dsn;
  const bool piece = text.find('@') != std::string_view::npos || text.find("%40") != std::string_view::npos;
  return piece ? is_piece_of_dsn : "";
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
  const auto path = chosen(app);
  if (has_secret(arguments) && (!words.empty() || !quotes_nothing(error))) {
    const std::string text{error.what()};
    if (words.empty() && refuses_name(error)) return text + "; " + dsn_option;
    const auto option = text.substr(0, text.find(": "));
    const bool known = words.empty() && path.back()->get_option_no_throw(option) != nullptr;
    return (known ? option + ": the value" : "an argument") +
           " is wrong, and none is shown, because one may contain a password; " + dsn_option;
  }
  if (!words.empty()) {
    const auto& word = words.front();
    return word.size() > 1 && word[0] == '-' ? unknown_option(path, word) : unknown_word(path, word);
  }
  if (!subcommands_of(*path.back()).empty() && dynamic_cast<const CLI::RequiredError*>(&error)) {
    return '\'' + words_of(path) + "' needs a subcommand: " + names_of_subcommands(*path.back());
  }
  return error.what();
}

void translate_help(const CLI::App& app, std::vector<std::string>& arguments) {
  const auto* at = &app;
  for (auto word = arguments.begin(); word != arguments.end(); ++word) {
    if (*word == "--") return;
    if (*word == "--dsn") {
      if (++word == arguments.end()) return;
      continue;
    }
    if (word->compare(0, 1, "-") == 0) continue;
    if (*word == "help") {
      arguments.erase(word);
      arguments.erase(std::remove(arguments.begin(), arguments.end(), "--"), arguments.end());
      arguments.emplace_back("--help");
      return;
    }
    const auto named = at->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == *word; });
    if (named.empty() || subcommands_of(*named.front()).empty()) return;
    at = named.front();
  }
}

bool has_unknown_word(const CLI::App& app) {
  return !subcommands_of(*chosen(app).back()).empty() && !unknown_words(app).empty();
}

}  // namespace pgque::tool
