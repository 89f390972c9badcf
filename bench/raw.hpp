#pragma once

// The yardstick: what a careful programmer does with libpq itself. Prepared statements, the fewest round trips, and the
// same conversions into owned values.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <libpq-fe.h>

namespace pgque::bench {

struct ClearResult {
  void operator()(PGresult* result) const noexcept { ::PQclear(result); }
};
using Result = std::unique_ptr<PGresult, ClearResult>;

// A parameter: text, or anything in binary format.
struct Value {
  Value(const std::string& text) : data{text.c_str()} {}  // NOLINT(google-explicit-constructor)
  Value(const char* text) : data{text} {}                 // NOLINT(google-explicit-constructor)
  static Value binary(std::string_view bytes) {
    Value value{bytes.data()};
    value.length = static_cast<int>(bytes.size());
    value.format = 1;
    return value;
  }
  const char* data;
  int length = 0;
  int format = 0;
};

// A connection; every failure is thrown as std::runtime_error.
class Raw {
 public:
  explicit Raw(const std::string& dsn);
  PGconn* get() const noexcept { return connection_.get(); }

  void prepare(const char* name, const char* sql);
  Result execute(const char* name, std::initializer_list<Value> values);  // of a prepared statement
  Result operator()(const std::string& sql);
  // COPY of these lines, in text format.
  void copy(const std::string& table, const std::string& lines);
  // The first column of the first row as a number; 0 for NULL.
  std::int64_t number(const std::string& sql);

 private:
  struct Disconnect {
    void operator()(PGconn* connection) const noexcept { ::PQfinish(connection); }
  };
  Result checked(PGresult* result) const;

  std::unique_ptr<PGconn, Disconnect> connection_;
};

std::int64_t number_of(const Result& result);
std::vector<std::int64_t> numbers_of(const Result& result);  // of a bigint[]

// A text[] as a literal, and in binary format.
std::string array_literal(const std::vector<std::string>& texts);
std::string binary_array(const std::vector<std::string>& texts);

// The columns of pgque.message as both sides read them.
struct RawMessage {
  std::int64_t msg_id = 0;
  std::int64_t batch_id = 0;
  std::optional<std::string> type;
  std::optional<std::string> payload;
  std::optional<std::int32_t> retry_count;
  std::int64_t created_at = 0;
  std::optional<std::string> extra1, extra2, extra3, extra4;
};

// A connection that is ready to consume.
class RawConsumer : public Raw {
 public:
  explicit RawConsumer(const std::string& dsn);
  std::vector<RawMessage> receive(const std::string& queue, const std::string& consumer);
  void ack(std::int64_t batch);
  // All in one statement.
  void nack(std::int64_t batch, const std::vector<std::int64_t>& messages, const std::string& reason);
};

}  // namespace pgque::bench
