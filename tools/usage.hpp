#pragma once

// What is said about wrong arguments.

#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

namespace pgque::tool {

// Whether an argument, or a text that quotes one, may contain a password: a DSN, or a piece of one.
bool may_contain_password(std::string_view text) noexcept;

// The text, or, if it may contain a password, another one in its place.
std::string without_password(const std::string& text);

// The subcommand that was chosen, such as "queue create".
std::string name_of_subcommand(const CLI::App& app);

// Names the word or the option that is unknown and the nearest one that is known, or says what else is wrong.
std::string why_wrong(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& arguments);

// Whether help was asked for beside a word that is no subcommand.
bool has_unknown_word(const CLI::App& app);

}  // namespace pgque::tool
