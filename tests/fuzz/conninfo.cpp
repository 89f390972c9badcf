// What users give as a DSN: key=value settings or a URI, or anything.

#include "database/conninfo.hpp"

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include <libpq-fe.h>
#include <pgque/error.hpp>

#include "fuzz.hpp"

namespace {

using pgque::fuzz::require;

std::optional<std::map<std::string, std::string>> settings_of(const std::string& conninfo) {
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options{
      PQconninfoParse(conninfo.c_str(), nullptr), PQconninfoFree};
  if (!options) return std::nullopt;
  std::map<std::string, std::string> settings;
  for (const auto* option = options.get(); option->keyword; ++option) {
    if (option->val) settings.emplace(option->keyword, option->val);
  }
  return settings;
}

// Letters and underscores, between a quotation mark at the beginning and one that ends the text or is before this.
bool begins_with_name(const std::string& text, const std::string& next) {
  const auto end = text.find('"', 1);
  if (text.empty() || text[0] != '"' || end == std::string::npos) return false;
  for (std::size_t i = 1; i < end; ++i) {
    const bool letter = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z');
    if (!letter && text[i] != '_') return false;
  }
  const auto rest = text.substr(end + 1);
  return rest.empty() ||
         (!next.empty() && rest.compare(0, next.size(), next) == 0 && begins_with_name(rest.substr(next.size()), {}));
}

// An error names one of these reasons, or none, or what can only be a setting's name, and so nothing of what may be a
// password.
bool is_harmless(std::string text) {
  static constexpr std::array<const char*, 13> reasons{" (it contains a NUL byte)",
                                                       " (IPv6 host address may not be empty)",
                                                       " (missing \"=\")",
                                                       " (unterminated quoted string)",
                                                       " (invalid connection option)",
                                                       " (invalid percent-encoded)",
                                                       " (forbidden value %00)",
                                                       " (end of string reached)",
                                                       " (unexpected character)",
                                                       " (missing key/value separator)",
                                                       " (extra key/value separator)",
                                                       " (invalid URI query parameter)",
                                                       " (wrong host or port)"};
  const std::string unknown = "connect: dsn: libpq knows no setting ";
  if (text.compare(0, unknown.size(), unknown) == 0) {
    return begins_with_name(text.substr(unknown.size()), "; the nearest is ");
  }
  const std::string beginning = "connect: dsn: neither a postgresql:// URI nor key=value settings";
  if (text.compare(0, beginning.size(), beginning) != 0) return false;
  text.erase(0, beginning.size());
  for (const auto* const reason : reasons) {
    if (text == reason) return true;
  }
  return text.empty();
}

bool sets_password(const std::string& conninfo) {
  const auto settings = settings_of(conninfo);
  return settings && (settings->count("password") == 1 || settings->count("sslpassword") == 1);
}

// Whether the name that an error shows stands where it may be a piece of a password.
bool may_be_secret(const std::string& dsn, const std::string& name) {
  const bool is_uri = dsn.compare(0, 13, "postgresql://") == 0 || dsn.compare(0, 11, "postgres://") == 0;
  std::string before;
  std::string settings = dsn;
  if (is_uri) {
    const auto question = dsn.find('?');
    const auto place = dsn.substr(dsn.find("//") + 2);
    const auto authority = place.substr(0, place.find_first_of("/?"));
    if (dsn.find('@', question) != std::string::npos) return true;
    if (authority.find(':') != std::string::npos && authority.find('@') == std::string::npos) return true;
    before = "postgresql:///?";
    settings = dsn.substr(question + 1);
  }
  // What stands before it is a DSN of its own.
  for (auto at = settings.find(name); at != std::string::npos; at = settings.find(name, at + 1)) {
    if (sets_password(before + settings.substr(0, at))) return true;
  }
  return false;
}

// An error names a setting that may be a piece of a password only if it is nearly one that libpq knows.
bool shows_no_piece_of_a_password(const std::string& text, const std::string& dsn) {
  const std::string unknown = "connect: dsn: libpq knows no setting \"";
  if (text.compare(0, unknown.size(), unknown) != 0 || text.find("; the nearest is ") != std::string::npos) return true;
  return !may_be_secret(dsn, text.substr(unknown.size(), text.size() - unknown.size() - 1));
}

std::optional<std::string> completed(const std::string& dsn) {
  pgque::detail::SessionOptions options;
  options.application_name = "it's \\ fuzzed";
  try {
    return pgque::detail::complete_conninfo(dsn, options);
  } catch (const pgque::ConnectionError& error) {
    require(is_harmless(error.what()), "an error shows nothing of the DSN");
    require(shows_no_piece_of_a_password(error.what(), dsn), "an error shows no piece of a password");
    require(!error.retryable() && !error.outcome_unknown() && error.server_message().empty(),
            "a malformed DSN stays malformed, and no server has seen it");
    return std::nullopt;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string dsn{pgque::fuzz::text_of(data, size)};
  const auto conninfo = completed(dsn);

  bool accepted = true;
  try {
    pgque::detail::check_fixed(pgque::Dsn{dsn});
  } catch (const pgque::ConnectionError& error) {
    require(is_harmless(error.what()), "an error of the check shows nothing of the DSN");
    accepted = false;
  }
  require(accepted == conninfo.has_value(), "a DSN that is checked can be used, and no other");
  if (!conninfo) return 0;

  const auto given = settings_of(dsn);
  const auto settings = settings_of(*conninfo);
  require(given && settings, "what is made of a DSN is understood by libpq");
  for (const auto& [keyword, value] : *given) {
    require(keyword == "client_encoding" || settings->at(keyword) == value, "what the DSN says is kept");
  }
  require(settings->at("client_encoding") == "UTF8", "the encoding is always UTF-8");
  require(given->count("service") == 1 || settings->count("keepalives_idle") == 1,
          "what the DSN leaves open is completed");
  return 0;
}
