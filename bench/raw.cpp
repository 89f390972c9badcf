#include "raw.hpp"

#include <array>
#include <charconv>
#include <cstring>
#include <stdexcept>

#include "measure.hpp"

namespace pgque::bench {

namespace {

std::int64_t parse(const char* text) {
  std::int64_t value = 0;
  std::from_chars(text, text + std::strlen(text), value);
  return value;
}

// Since the year 2000, from PostgreSQL's own eight bytes.
std::int64_t microseconds(const char* hex) {
  std::uint64_t bits = 0;
  std::from_chars(hex, hex + std::strlen(hex), bits, 16);
  return static_cast<std::int64_t>(bits);
}

void read_text(std::optional<std::string>& text, const PGresult* result, int row, int column) {
  if (::PQgetisnull(result, row, column) != 0) return;
  text.emplace(::PQgetvalue(result, row, column), static_cast<std::size_t>(::PQgetlength(result, row, column)));
}

void put_int32(std::string& out, std::size_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xFF);
}

}  // namespace

Raw::Raw(const std::string& dsn) : connection_{::PQconnectdb(dsn.c_str())} {
  require(::PQstatus(get()) == CONNECTION_OK, ::PQerrorMessage(get()));
}

Result Raw::checked(PGresult* result) const {
  Result owner{result};
  const auto status = ::PQresultStatus(result);
  require(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, ::PQerrorMessage(get()));
  return owner;
}

void Raw::prepare(const char* name, const char* sql) {
  checked(::PQprepare(get(), name, sql, 0, nullptr));
}

Result Raw::execute(const char* name, std::initializer_list<Value> values) {
  std::array<const char*, 8> data{};
  std::array<int, 8> lengths{};
  std::array<int, 8> formats{};
  std::size_t count = 0;
  for (const auto& value : values) {
    data.at(count) = value.data;
    lengths.at(count) = value.length;
    formats.at(count) = value.format;
    ++count;
  }
  return checked(
      ::PQexecPrepared(get(), name, static_cast<int>(count), data.data(), lengths.data(), formats.data(), 0));
}

Result Raw::operator()(const std::string& sql) {
  return checked(::PQexec(get(), sql.c_str()));
}

void Raw::copy(const std::string& table, const std::string& lines) {
  const Result begun{::PQexec(get(), ("copy " + table + " from stdin").c_str())};
  require(::PQresultStatus(begun.get()) == PGRES_COPY_IN, ::PQerrorMessage(get()));
  require(
      ::PQputCopyData(get(), lines.data(), static_cast<int>(lines.size())) == 1 && ::PQputCopyEnd(get(), nullptr) == 1,
      ::PQerrorMessage(get()));
  checked(::PQgetResult(get()));
  require(::PQgetResult(get()) == nullptr, "more than one result of copy");
}

std::int64_t Raw::number(const std::string& sql) {
  return number_of((*this)(sql));
}

std::int64_t number_of(const Result& result) {
  return ::PQntuples(result.get()) == 0 ? 0 : parse(::PQgetvalue(result.get(), 0, 0));
}

std::vector<std::int64_t> numbers_of(const Result& result) {
  std::vector<std::int64_t> out;
  const char* text = ::PQgetvalue(result.get(), 0, 0);
  const char* const end = text + std::strlen(text);
  for (const char* p = text + 1; p < end && *p != '}'; ++p) {
    std::int64_t value = 0;
    p = std::from_chars(p, end, value).ptr;
    out.push_back(value);
  }
  return out;
}

std::string array_literal(const std::vector<std::string>& texts) {
  std::string out{"{"};
  std::size_t bytes = 2;
  for (const auto& text : texts) bytes += text.size() * 5 / 4 + 3;
  out.reserve(bytes);
  for (const auto& text : texts) {
    out += '"';
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    out += "\",";
  }
  if (texts.empty()) out += ',';
  out.back() = '}';
  return out;
}

std::string binary_array(const std::vector<std::string>& texts) {
  std::string out;
  std::size_t bytes = 20;
  for (const auto& text : texts) bytes += 4 + text.size();
  out.reserve(bytes);
  for (const std::size_t word : {std::size_t{1}, std::size_t{0}, std::size_t{25}, texts.size(), std::size_t{1}}) {
    put_int32(out, word);
  }
  for (const auto& text : texts) {
    put_int32(out, text.size());
    out += text;
  }
  return out;
}

RawConsumer::RawConsumer(const std::string& dsn) : Raw{dsn} {
  prepare("receive",
          "select msg_id, batch_id, type, payload, retry_count, encode(timestamptz_send(created_at), 'hex'), "
          "extra1, extra2, extra3, extra4 from pgque.receive($1::text, $2::text, null::int4)");
  prepare("ack", "select pgque.ack($1::int8)");
  prepare("nack",
          "select pgque.nack($1::int8, row(id, null, null, null, null, null, null, null, null, null)::pgque.message, "
          "interval '60 seconds', $3::text) from unnest($2::int8[]) as n(id)");
}

std::vector<RawMessage> RawConsumer::receive(const std::string& queue, const std::string& consumer) {
  const auto result = execute("receive", {queue, consumer});
  const PGresult* const rows = result.get();
  std::vector<RawMessage> messages;
  const int count = ::PQntuples(rows);
  messages.reserve(static_cast<std::size_t>(count));
  for (int row = 0; row < count; ++row) {
    auto& message = messages.emplace_back();
    message.msg_id = parse(::PQgetvalue(rows, row, 0));
    message.batch_id = parse(::PQgetvalue(rows, row, 1));
    read_text(message.type, rows, row, 2);
    read_text(message.payload, rows, row, 3);
    if (::PQgetisnull(rows, row, 4) == 0) {
      message.retry_count = static_cast<std::int32_t>(parse(::PQgetvalue(rows, row, 4)));
    }
    message.created_at = microseconds(::PQgetvalue(rows, row, 5));
    read_text(message.extra1, rows, row, 6);
    read_text(message.extra2, rows, row, 7);
    read_text(message.extra3, rows, row, 8);
    read_text(message.extra4, rows, row, 9);
  }
  return messages;
}

void RawConsumer::ack(std::int64_t batch) {
  require(number_of(execute("ack", {std::to_string(batch)})) == 1, "raw ack found no batch");
}

void RawConsumer::nack(std::int64_t batch, const std::vector<std::int64_t>& messages, const std::string& reason) {
  std::string ids{"{"};
  for (const auto id : messages) ids += std::to_string(id) + ',';
  ids.back() = '}';
  execute("nack", {std::to_string(batch), ids, reason});
}

}  // namespace pgque::bench
