#include "database/conninfo.hpp"

#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>

#include <libpq-fe.h>
#include <pgque/error.hpp>

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
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options{
      PQconninfoParse(std::string{dsn}.c_str(), &text), PQconninfoFree};
  const std::unique_ptr<char, void (*)(void*)> message{text, PQfreemem};
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
