// A row of pgque.message as the server sends it: ten lines, each a field.

#include "database/row.hpp"

#include <array>
#include <charconv>
#include <limits>
#include <stdexcept>
#include <string>

#include "fuzz.hpp"

namespace {

using pgque::fuzz::require;
using Fields = std::array<std::optional<std::string>, 10>;

// As libpqxx's iterator of a row's fields. A field that is NULL reads as empty text.
class FieldIterator {
 public:
  explicit FieldIterator(const std::optional<std::string>* field) : field_{field} {}
  bool is_null() const { return !*field_; }
  const char* c_str() const { return *field_ ? (*field_)->c_str() : ""; }
  std::size_t size() const { return *field_ ? (*field_)->size() : 0; }
  const FieldIterator* operator->() const { return this; }
  FieldIterator& operator++() {
    ++field_;
    return *this;
  }

 private:
  const std::optional<std::string>* field_;
};

template <class T>
std::optional<T> number_in(const std::string& text, int base = 10) {
  T value{};
  const auto* const end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data(), end, value, base);
  return error == std::errc{} && next == end ? std::optional{value} : std::nullopt;
}

// What parse_integer() accepts, by the standard library's reading of it.
std::optional<std::int64_t> integer_in(const std::string& text) {
  constexpr std::size_t most_digits = 19;
  const auto digits = text.size() - (text.substr(0, 1) == "-" ? 1 : 0);
  return digits <= most_digits ? number_in<std::int64_t>(text) : std::nullopt;
}

std::optional<std::int64_t> microseconds_in(const std::string& text) {
  if (text.size() != 16 || text.find_first_of("ABCDEF-") != std::string::npos) return std::nullopt;
  const auto bits = number_in<std::uint64_t>(text, 16);
  return bits ? std::optional{static_cast<std::int64_t>(*bits)} : std::nullopt;
}

bool is_int32(std::int64_t value) {
  return value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max();
}

void check_numbers(const std::string& text) {
  std::optional<std::int64_t> read;
  try {
    read = pgque::detail::parse_integer(text.c_str());
  } catch (const std::runtime_error&) {
    // So nothing is read.
  }
  require(read == integer_in(text), "an integer is read as the standard library reads it, or not at all");

  std::optional<pgque::Timestamp> time;
  try {
    time = pgque::detail::parse_timestamp(text.c_str());
  } catch (const std::runtime_error&) {
    // So nothing is read.
  }
  const auto since_2000 = microseconds_in(text);
  require(time.has_value() == since_2000.has_value(), "16 hexadecimal digits are a time, and nothing else is");
  if (!time) return;
  constexpr std::int64_t year_2000 = 946'684'800'000'000;
  const auto since_1970 = time->time_since_epoch().count();
  require(since_1970 == std::numeric_limits<std::int64_t>::max() || since_1970 - year_2000 == *since_2000,
          "a time is moved by 30 years, or the latest one");
}

void check_row(const Fields& fields) {
  // What has to be there to be read.
  const auto id = integer_in(fields[0].value_or(""));
  const auto batch = integer_in(fields[1].value_or(""));
  const auto retries = fields[4] ? integer_in(*fields[4]) : 0;
  const auto time = microseconds_in(fields[5].value_or(""));
  const bool readable = id && batch && retries && is_int32(*retries) && time;

  pgque::Message message;
  try {
    pgque::detail::read_message(FieldIterator{fields.data()}, message);
  } catch (const std::runtime_error&) {
    require(!readable, "a row in which everything is in order can be read");
    return;
  }
  require(readable, "a row that is read has everything in order");
  require(static_cast<std::int64_t>(message.msg_id) == *id, "the message's id is the one that was sent");
  require(static_cast<std::int64_t>(message.batch_id) == *batch, "the batch's id is the one that was sent");
  require(message.retry_count.has_value() == fields[4].has_value() && message.retry_count.value_or(0) == *retries,
          "the count of retries is the one that was sent");
  require(message.type == fields[2] && message.payload == fields[3] && message.extra1 == fields[6] &&
              message.extra2 == fields[7] && message.extra3 == fields[8] && message.extra4 == fields[9],
          "text stays as it was sent, and NULL is NULL");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto text = std::string{pgque::fuzz::text_of(data, size)};
  // PostgreSQL's text has no NUL bytes, and libpq ends each field with one.
  text = text.substr(0, text.find('\0'));
  pgque::fuzz::Lines lines{text};
  Fields fields;
  for (auto& field : fields) {
    field = lines.value();
    if (field) check_numbers(*field);
  }
  check_row(fields);
  return 0;
}
