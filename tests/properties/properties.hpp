#pragma once

// What several of the property tests need.

#include <chrono>
#include <string>
#include <vector>

#include <rapidcheck.h>

namespace pgque::test {

using namespace std::chrono_literals;

// Text that PostgreSQL can store, made of what means something to a parser somewhere.
inline rc::Gen<std::string> any_text() {
  const auto piece = rc::gen::element<std::string>(
      "a", "B", "7", " ", "\t", "\n", "\r\n", "\x01", "\x7F", "\"", "'", "''", "\\", "\\\\", "\\'", "\\n", "\\u0000",
      "{", "}", "[", "]", "(", ")", ",", ";", ":", "::", "=", "@", "/", "%", "%20", "$1", "$$", "$x$", "--", "/*", "*/",
      "NULL", "null", "E'", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80");
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(piece), [](const std::vector<std::string>& pieces) {
    std::string text;
    for (const auto& one : pieces) text += one;
    return text;
  });
}

}  // namespace pgque::test
