// The headers in a message's extra4, compared with what nlohmann_json reads, and sent on.

#include "support/headers.hpp"

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "fuzz.hpp"
#include "support/event_checks.hpp"

namespace {

using nlohmann::json;
using pgque::fuzz::require;

// Takes an object of strings that PostgreSQL can store, and refuses everything else.
class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  pgque::Headers headers;

  bool start_object(std::size_t) override { return ++depth_ == 1; }
  bool key(string_t& name) override {
    name_ = name;
    return name.find('\0') == std::string::npos;
  }
  bool string(string_t& value) override {
    headers[name_] = value;
    return depth_ == 1 && value.find('\0') == std::string::npos;
  }
  bool end_object() override { return true; }
  bool null() override { return false; }
  bool boolean(bool) override { return false; }
  bool number_integer(number_integer_t) override { return false; }
  bool number_unsigned(number_unsigned_t) override { return false; }
  bool number_float(number_float_t, const string_t&) override { return false; }
  bool binary(binary_t&) override { return false; }
  bool start_array(std::size_t) override { return false; }
  bool end_array() override { return false; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  int depth_ = 0;
  std::string name_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = pgque::fuzz::text_of(data, size);
  const auto read = pgque::detail::read_headers(text);
  HeaderReader reader;
  // nlohmann_json skips a byte order mark and ends at a NUL, and PostgreSQL takes neither.
  const bool readable = text.substr(0, 3) != "\xEF\xBB\xBF" && text.find('\0') == std::string_view::npos &&
                        json::sax_parse(text, &reader);
  require(read.has_value() == readable, "an object of strings is read, and nothing else");
  if (!read) return 0;
  require(*read == reader.headers, "names and values are the same, and the last of a name counts");

  const auto written = pgque::detail::write_headers(*read);
  require(pgque::detail::read_headers(written) == read, "what is written is read again");
  require(json::parse(written) == json(*read), "and so it is by others");
  for (const auto& [name, value] : *read) {
    constexpr std::size_t longest_name = 256;
    if (name.empty() || name.size() > longest_name || name.find("://") != std::string::npos ||
        name.find('=') != std::string::npos) {
      continue;
    }
    pgque::detail::check_event({"1", "t", {}, {{name, value}}});  // so it can be sent on
  }
  return 0;
}
