#include "database/conninfo.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include <libpq-fe.h>
#include <pgque/error.hpp>

#include "support/nearest.hpp"

namespace pgque::detail {

namespace {

// libpq's message quotes parts of the DSN, and with them perhaps the password; how it quotes depends on the language.
// So only reasons that are known to contain no secret are taken from it.
[[noreturn]] void throw_malformed(std::string_view libpq_text) {
  static constexpr std::array<std::string_view, 13> harmless{"it contains a NUL byte",
                                                             "IPv6 host address may not be empty",
                                                             "missing \"=\"",
                                                             "unterminated quoted string",
                                                             "invalid connection option",
                                                             "invalid percent-encoded",
                                                             "forbidden value %00",
                                                             "end of string reached",
                                                             "unexpected character",
                                                             "missing key/value separator",
                                                             "extra key/value separator",
                                                             "invalid URI query parameter",
                                                             "wrong host or port"};
  Error::Facts facts;
  facts.operation = "connect";
  facts.advice = "dsn: neither a postgresql:// URI nor key=value settings";
  for (const auto reason : harmless) {
    if (libpq_text.substr(0, reason.size()) == reason) facts.advice += " (" + std::string{reason} + ')';
  }
  throw ConnectionError{std::move(facts)};
}

using Options = std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)>;

// The names that libpq knows, and whether they name secrets.
std::map<std::string, bool> known_settings() {
  const Options options{PQconninfoParse("", nullptr), PQconninfoFree};
  std::map<std::string, bool> known;
  if (!options) return known;
  for (const auto* option = options.get(); option->keyword; ++option) {
    known.emplace(option->keyword, option->dispchar && option->dispchar[0] == '*');
  }
  return known;
}

struct Setting {
  std::string name;
  bool may_be_secret;  // it may be a piece of a password that should have been quoted or escaped
};

// The first setting that is not known. Reads as libpq does, up to what is no setting at all.
std::optional<Setting> unknown_in_list(std::string_view dsn, const std::map<std::string, bool>& known) {
  constexpr std::string_view space{" \t\n\r\f\v"};
  bool after_secret = false;
  const auto skip_space = [&] { dsn.remove_prefix(std::min(dsn.find_first_not_of(space), dsn.size())); };
  for (skip_space(); !dsn.empty(); skip_space()) {
    const std::string name{dsn.substr(0, dsn.find_first_of(std::string{space} + '='))};
    dsn.remove_prefix(name.size());
    skip_space();
    if (dsn.empty() || dsn.front() != '=') return std::nullopt;
    dsn.remove_prefix(1);
    skip_space();
    const bool quoted = !dsn.empty() && dsn.front() == '\'';
    if (quoted) dsn.remove_prefix(1);
    const auto ends = [&](char c) { return quoted ? c == '\'' : space.find(c) != std::string_view::npos; };
    std::size_t end = 0;
    while (end < dsn.size() && !ends(dsn[end])) end += dsn[end] == '\\' ? 2U : 1U;
    if (quoted && end >= dsn.size()) return std::nullopt;
    const auto found = known.find(name);
    if (found == known.end()) return Setting{name, after_secret};
    after_secret = after_secret || found->second;
    dsn.remove_prefix(std::min(end + (quoted ? 1U : 0U), dsn.size()));
  }
  return std::nullopt;
}

std::optional<Setting> unknown_in_uri(std::string_view dsn, const std::map<std::string, bool>& known) {
  const auto question = dsn.find('?');
  if (question == std::string_view::npos) return std::nullopt;
  const auto place = dsn.substr(dsn.find("//") + 2);
  const auto authority = place.substr(0, place.find_first_of("/?"));
  dsn.remove_prefix(question + 1);
  // A password may contain '/', '?' and '&' where they should have been escaped, and the '@' behind it may be missing.
  bool may_be_secret = dsn.find('@') != std::string_view::npos ||
                       (authority.find(':') != std::string_view::npos && authority.find('@') == std::string_view::npos);
  while (!dsn.empty()) {
    const auto parameter = dsn.substr(0, dsn.find('&'));
    const auto equals = parameter.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    std::string name{parameter.substr(0, equals)};
    const auto found = known.find(name);
    if (name != "ssl" && found == known.end()) return Setting{std::move(name), may_be_secret};
    may_be_secret = may_be_secret || (found != known.end() && found->second);
    dsn.remove_prefix(std::min(parameter.size() + 1, dsn.size()));
  }
  return std::nullopt;
}

bool is_word(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [&](const char& c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z' && &c == name.data());
  });
}

// Names a setting that libpq does not know, unless it may be a secret and looks like none that libpq knows.
void check_settings(std::string_view dsn) {
  const auto known = known_settings();
  const bool is_uri = dsn.substr(0, 13) == "postgresql://" || dsn.substr(0, 11) == "postgres://";
  const auto unknown = is_uri ? unknown_in_uri(dsn, known) : unknown_in_list(dsn, known);
  if (!unknown || !is_word(unknown->name)) return;
  std::vector<std::string> names;
  names.reserve(known.size());
  for (const auto& [name, secret] : known) names.push_back(name);
  const auto near = nearest(unknown->name, names);
  if (unknown->may_be_secret && !near) return;
  Error::Facts facts;
  facts.operation = "connect";
  facts.advice = "dsn: libpq knows no setting \"" + unknown->name + '"';
  if (near) facts.advice += "; the nearest is \"" + *near + '"';
  throw ConnectionError{std::move(facts)};
}

// If a password contains an unescaped '/' or '@', libpq takes parts of it for a port or a host, and shows them in its
// error message.
void check_place(const std::map<std::string, std::string>& settings) {
  const auto text_of = [&](const char* keyword) {
    const auto found = settings.find(keyword);
    return found == settings.end() ? std::string{} : found->second;
  };
  std::istringstream hosts{text_of("host")};
  bool wrong = text_of("port").find_first_not_of("0123456789, ") != std::string::npos;
  for (std::string host; std::getline(hosts, host, ',');) {
    const bool socket = !host.empty() && (host[0] == '/' || host[0] == '@');
    wrong = wrong || (!socket && host.find('@') != std::string::npos);
  }
  if (wrong) throw_malformed("wrong host or port");
}

std::map<std::string, std::string> parse(std::string_view dsn) {
  if (dsn.find('\0') != std::string_view::npos) throw_malformed("it contains a NUL byte");
  char* text = nullptr;
  const Options options{PQconninfoParse(std::string{dsn}.c_str(), &text), PQconninfoFree};
  const std::unique_ptr<char, void (*)(void*)> message{text, PQfreemem};
  if (!options) check_settings(dsn);
  if (!options) throw_malformed(message ? message.get() : "");
  std::map<std::string, std::string> settings;
  for (const auto* option = options.get(); option->keyword; ++option) {
    if (option->val) settings.emplace(option->keyword, option->val);
  }
  check_place(settings);
  return settings;
}

std::string quoted(const std::string& value) {
  std::string out = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out += '\'';
}

}  // namespace

void check_fixed(const Dsn& dsn) {
  if (!dsn.is_function()) parse(dsn());
}

std::string complete_conninfo(std::string_view dsn, const SessionOptions& options) {
  auto settings = parse(dsn);
  // emplace() keeps what the DSN says.
  settings.emplace("fallback_application_name", options.application_name);
  // Settings made here would override a service file, so with a service none are made.
  if (settings.count("service") == 0 && !std::getenv("PGSERVICE")) {
    if (!std::getenv("PGCONNECT_TIMEOUT")) {
      settings.emplace("connect_timeout", std::to_string(options.connect_timeout.count()));
    }
    // A vanished peer is noticed after about a minute instead of the operating system's two hours, also when it does
    // not acknowledge data.
    settings.emplace("keepalives_idle", "30");
    settings.emplace("keepalives_interval", "10");
    settings.emplace("keepalives_count", "3");
    settings.emplace("tcp_user_timeout", "60000");
  }
  settings["client_encoding"] = "UTF8";  // the only encoding that this library works with

  std::string out;
  for (const auto& [keyword, value] : settings) {
    if (!out.empty()) out += ' ';
    out += keyword + '=' + quoted(value);
  }
  return out;
}

}  // namespace pgque::detail
