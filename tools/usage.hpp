#pragma once

// What is said about wrong arguments.

#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

namespace pgque::tool {

// Why the text is taken for no name: it may contain a password, as a DSN or a piece of one. It is not quoted. Empty if
// it may be a name.
std::string why_no_name(std::string_view text);

// The text, or, if it may contain a password, another one in its place.
std::string without_password(const std::string& text);

// The subcommand that was chosen, such as "queue create".
std::string name_of_subcommand(const CLI::App& app);

// Names the word or the option that is unknown and the one that is nearly the same, or says what else is wrong. Shows
// no argument if any of them may contain a password: the others may be pieces of it.
std::string why_wrong(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& arguments);

// Makes `help tail` and `queue help create` what they mean: `tail --help` and `queue create --help`.
void translate_help(const CLI::App& app, std::vector<std::string>& arguments);

// Whether help was asked for beside a word that is no subcommand.
bool has_unknown_word(const CLI::App& app);

}  // namespace pgque::tool
