#pragma once

// An SQL statement, its parameters, and the call it is run for.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <pgque/message.hpp>

namespace pgque::detail {

// PgQue's roles. An error message names the one that the user lacks.
enum class Role { none, reader, writer, admin };

// Functions of PgQue that run as the caller have no search_path of their own. A statement that calls one is run with
// `own`, so that they do not find somebody else's operators first.
enum class SearchPath { callers, own };

struct Statement {
  const char* name;
  Role role;  // what the caller has to be granted
  const char* sql;
  SearchPath path = SearchPath::callers;
};

// One statement parameter. Text must be free of NUL bytes (see check_text): libpqxx 6 sends it as a C string.
class Param {
 public:
  // NOLINTBEGIN(google-explicit-constructor): so that statements' parameters are written as a list of values
  Param(std::nullopt_t) {}
  Param(std::string_view text) : kind_{Kind::text}, text_{text} {}
  Param(const std::string& text) : Param{std::string_view{text}} {}
  Param(std::int64_t number) : kind_{Kind::number}, number_{number} {}
  // A value in PostgreSQL's binary format, which libpqxx 6 can only take as the last parameter.
  static Param binary(std::string_view bytes) {
    Param param{bytes};
    param.kind_ = Kind::binary;
    return param;
  }
  template <class T>
  Param(const std::optional<T>& value) {
    if (value) *this = Param{*value};
  }
  // NOLINTEND(google-explicit-constructor)

  enum class Kind { null, text, number, binary };
  Kind kind() const noexcept { return kind_; }
  std::string_view text() const noexcept { return text_; }
  std::int64_t number() const noexcept { return number_; }

 private:
  Kind kind_ = Kind::null;
  std::string_view text_;
  std::int64_t number_ = 0;
};

using Params = std::initializer_list<Param>;

// What is being done, for error messages.
struct Call {
  const char* verb;
  std::string_view queue{};
  std::string_view consumer{};
  std::optional<BatchId> batch{};

  // Such as `receive (queue "orders", consumer "worker")`.
  std::string describe() const;
};

}  // namespace pgque::detail
