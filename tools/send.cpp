// pgque send: one event, or the lines of standard input.

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <pgque/client.hpp>
#include <pgque/error.hpp>
#include <pgque/json.hpp>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"
#include "support/event_checks.hpp"
#include "support/text.hpp"

namespace pgque::tool {

namespace {

volatile std::sig_atomic_t signalled = 0;

extern "C" void remember_signal(int) {
  signalled = 1;
}

// Without SA_RESTART, so that a read returns. A second signal ends the process at once, in case the server does not
// answer. A signal that is ignored, as under nohup, stays ignored.
void stop_at_signals() {
  struct sigaction action {};
  action.sa_handler = remember_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGINT, SIGTERM}) {
    struct sigaction previous {};
    sigaction(number, nullptr, &previous);
    if (previous.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
}

// The next bytes of standard input; none at its end and when a signal came.
std::size_t read_input(char* buffer, std::size_t size) {
  ssize_t count = -1;
  while (count < 0 && signalled == 0) {
    count = ::read(STDIN_FILENO, buffer, size);
    pollfd descriptor{STDIN_FILENO, POLLIN, 0};
    // Another program on the same terminal may have made it non-blocking.
    if (count < 0 && errno == EAGAIN)
      ::poll(&descriptor, 1, -1);
    else if (count < 0 && errno != EINTR)
      throw std::system_error{errno, std::generic_category(), "standard input"};
  }
  return count > 0 ? static_cast<std::size_t>(count) : 0;
}

// The lines of standard input, one in memory at a time.
class LineReader {
 public:
  // The next line without its line feed; empty at the end of input and when a signal came.
  std::optional<std::string> next() {
    std::string line;
    while (signalled == 0) {
      const auto begin = buffer_.data() + position_;
      const auto end = buffer_.data() + filled_;
      const auto newline = std::find(begin, end, '\n');
      line.append(begin, newline);
      position_ += static_cast<std::size_t>(newline - begin);
      if (newline != end) {
        ++position_;
        ++lines_;
        return line;
      }
      if (!fill()) {
        if (line.empty() || signalled != 0) break;
        ++lines_;
        return line;
      }
    }
    return std::nullopt;
  }
  std::uint64_t lines() const noexcept { return lines_; }
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  bool fill() {
    position_ = 0;
    filled_ = read_input(buffer_.data(), buffer_.size());
    bytes_ += filled_;
    return filled_ > 0;
  }

  std::array<char, 1 << 16> buffer_{};
  std::size_t position_ = 0;
  std::size_t filled_ = 0;
  std::uint64_t lines_ = 0;
  std::uint64_t bytes_ = 0;
};

// A line of progress on the terminal, with a bar if the end is known and the terminal is wide enough.
class Progress {
 public:
  explicit Progress(bool wanted) : shown_{wanted && is_terminal(STDERR_FILENO)} {
    struct stat file {};
    if (::fstat(STDIN_FILENO, &file) == 0 && S_ISREG(file.st_mode)) {
      total_ = static_cast<std::uint64_t>(std::max<off_t>(file.st_size - ::lseek(STDIN_FILENO, 0, SEEK_CUR), 0));
    }
  }
  void show(std::uint64_t sent, std::uint64_t bytes, bool last = false) {
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || (!last && now < next_)) return;
    next_ = now + std::chrono::milliseconds{100};
    auto line = std::to_string(sent) + " sent";
    if (total_ > 0) {
      const auto share = std::min(1.0, static_cast<double>(bytes) / static_cast<double>(total_));
      const auto percent = std::to_string(static_cast<int>(share * 100));
      line = std::string(3 - percent.size(), ' ') + percent + "%  " + line;
      constexpr std::size_t shortest = 10, longest = 40;
      const auto others =
          line.size() + 4;  // brackets, a space, and the last column, where some terminals begin a new line
      if (const auto columns = terminal_width(); columns >= others + shortest) {
        const auto width = std::min(columns - others, longest);
        const auto filled = static_cast<std::size_t>(share * static_cast<double>(width));
        line = '[' + std::string(filled, '#') + std::string(width - filled, '.') + "] " + line;
      }
    }
    line = '\r' + line + "\033[K" + (last ? "\n" : "");
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  }

 private:
  // Asked each time, because it may change.
  static std::size_t terminal_width() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  }

  bool shown_;
  std::uint64_t total_ = 0;
  std::chrono::steady_clock::time_point next_{};
};

// JSON that is checked here is stored as it is; unlike the server, this check can name the line of a mistake.
void check(const std::string& text, bool verbatim) {
  if (!verbatim) {
    if (!is_json(text)) throw std::invalid_argument{"the payload is not JSON; --text sends it as it is"};
    if (detail::has_escaped_nul(text)) {
      throw std::invalid_argument{"a string in the payload contains a NUL character, which PostgreSQL cannot store"};
    }
  }
  detail::check_text("the payload", text);
}

std::string file_text(const std::string& path) {
  std::ifstream file{path, std::ios::binary};
  if (!file) throw std::system_error{errno, std::generic_category(), path};
  std::string text;
  std::array<char, 1 << 16> buffer{};
  while (file.read(buffer.data(), buffer.size()) || file.gcount() > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) throw std::system_error{EIO, std::generic_category(), path};
  return text;
}

std::string input_text() {
  std::string text;
  std::array<char, 1 << 16> buffer{};
  for (std::size_t count = 0; (count = read_input(buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), count);
  return text;
}

// What all events of this call have in common.
Event event_of(const SendOptions& options) {
  Event event{nullptr, options.type, options.key};
  for (const auto& header : options.headers) {
    const auto end = header.find('=');
    const auto [place, is_new] = event.headers.emplace(header.substr(0, end), header.substr(end + 1));
    if (!is_new) throw std::invalid_argument{"--header: \"" + place->first + "\" is given twice"};
  }
  detail::check_event(event);
  return event;
}

// Each event has its own copies, also of what all events have in common.
std::size_t bytes_beside_payload(const Event& event) {
  auto bytes = event.type.size() + (event.key ? event.key->size() : 0);
  for (const auto& [name, value] : event.headers) bytes += name.size() + value.size();
  return bytes;
}

std::string string_in(std::string_view json, const std::string& what) {
  if (json.front() != '"') throw std::invalid_argument{what + " must be a string"};
  return Json::parse(json).get<std::string>();
}

// A line of --events. The payload is sent as it is written, so that no number loses a digit.
void read_event(const std::string& line, Event& event) {
  if (!is_json(line)) throw std::invalid_argument{"the event is not JSON"};
  const auto members = detail::JsonSyntax::members(line);
  if (!members) throw std::invalid_argument{"an event must be an object, such as {\"payload\": 1}"};
  std::set<std::string> names;
  for (const auto& [quoted_name, value] : *members) {
    const auto name = string_in(quoted_name, {});
    if (!names.insert(name).second) throw std::invalid_argument{"the event has two members " + dumped(Json(name))};
    if (name == "payload") {
      check(std::string{value}, false);
      event.payload = Payload::verbatim(std::string{value});
    } else if (name != "type" && name != "key" && name != "headers") {
      throw std::invalid_argument{"an event has no member " + dumped(Json(name)) +
                                  ", only payload, type, key and headers"};
    } else if (value == "null") {
      continue;
    } else if (name == "type") {
      event.type = string_in(value, "the type");
    } else if (name == "key") {
      event.key = string_in(value, "the key");
    } else {
      const auto headers = detail::JsonSyntax::members(value);
      if (!headers) throw std::invalid_argument{"the headers must be an object of strings"};
      std::set<std::string> header_names;
      for (const auto& header : *headers) {
        const auto header_name = string_in(header.name, {});
        if (!header_names.insert(header_name).second) {
          throw std::invalid_argument{"the event has two headers " + dumped(Json(header_name))};
        }
        event.headers[header_name] = string_in(header.value, "a header");
      }
    }
  }
  if (names.count("payload") == 0) throw std::invalid_argument{"the event has no payload"};
  detail::check_event(event);
}

int send_one(const Common& common, const SendOptions& options, const std::string& text) {
  check(text, options.text);
  auto event = event_of(options);
  event.payload = Payload::verbatim(text);
  const auto id = Client{common.dsn, unprepared()}.send(options.queue, event);
  if (common.json) {
    print_json({{"queue", options.queue}, {"msg_id", static_cast<std::int64_t>(id)}});
  } else {
    print_line("1 event sent, id " + to_string(id));
  }
  return success;
}

class LineSender {
 public:
  LineSender(const Common& common, const SendOptions& options)
      : common_{common},
        options_{options},
        common_event_{event_of(options)},
        client_{common.dsn, unprepared()},
        progress_{options.progress} {
    client_.send_batch(options_.queue, options_.type, {});  // checks the names before anything is read
    if (options_.atomic) transaction_.emplace(client_.begin());
  }

  int run() {
    stop_at_signals();
    if (is_terminal(STDIN_FILENO)) complain("reading lines from the terminal; end with Ctrl-D");
    try {
      while (auto event = next()) add(std::move(*event));
      // The lines before a mistake are sent, unless all or nothing is wanted.
      if (mistake_.empty() || !transaction_) flush();
      // Events that are committed are sent, even if a signal comes meanwhile.
      stopped_ = signalled != 0;
      if (transaction_ && mistake_.empty() && !stopped_) transaction_->commit();
    } catch (const Error& error) {
      progress_.show(sent_, input_.bytes(), true);
      complain((pending_.empty() ? "" : lines_pending()) + text_of(error) + so_far(error.outcome_unknown()));
      return status_of(error);
    }
    progress_.show(sent_, input_.bytes(), true);
    if (!mistake_.empty()) {
      complain(mistake_ + so_far());
      return failure;
    }
    if (stopped_) {
      complain("interrupted after line " + std::to_string(input_.lines()) + so_far());
      return interrupted;
    }
    report();
    return success;
  }

 private:
  // The event of the next line that is not blank; empty at the end and at a mistake, which is recorded.
  std::optional<Event> next() {
    try {
      while (auto line = input_.next()) {
        if (!options_.text) {
          if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
          if (line->back() == '\r') line->pop_back();
        }
        Event event{common_event_};
        bytes_of_line_ = line->size();
        if (options_.events) {
          read_event(*line, event);
        } else {
          check(*line, options_.text);
          event.payload = Payload::verbatim(std::move(*line));
        }
        return event;
      }
    } catch (const std::invalid_argument& error) {
      mistake_ = "line " + std::to_string(input_.lines()) + ": " + error.what();
    } catch (const std::exception& error) {
      mistake_ = "after line " + std::to_string(input_.lines()) + ": " + error.what();
    }
    return std::nullopt;
  }

  void add(Event event) {
    if (pending_.empty()) first_pending_ = input_.lines();
    pending_bytes_ += bytes_of_line_ + bytes_beside_payload(event);
    pending_.push_back(std::move(event));
    // Memory is bounded even if the lines are long.
    constexpr std::size_t enough_bytes = 4 << 20;
    if (!options_.batch || pending_.size() >= options_.batch_size || pending_bytes_ >= enough_bytes) flush();
  }

  std::string lines_pending() const {
    const auto last = std::to_string(input_.lines());
    if (first_pending_ == input_.lines()) return "line " + last + ": ";
    return "lines " + std::to_string(first_pending_) + " to " + last + ": ";
  }

  // The server may end a session that waits for slow input: idle_session_timeout. What certainly was not sent then is
  // sent over a new connection.
  std::vector<EventId> send_pending() {
    if (transaction_) return transaction_->send_batch(options_.queue, pending_);
    try {
      return client_.send_batch(options_.queue, pending_);
    } catch (const ConnectionError& error) {
      if (error.outcome_unknown()) throw;
    }
    client_ = Client{common_.dsn, unprepared()};
    return client_.send_batch(options_.queue, pending_);
  }

  void flush() {
    if (pending_.empty()) return;
    const auto ids = send_pending();
    if (!first_id_ && !ids.empty()) first_id_ = ids.front();
    if (!ids.empty()) last_id_ = ids.back();
    sent_ += pending_.size();
    pending_.clear();
    pending_bytes_ = 0;
    progress_.show(sent_, input_.bytes());
  }

  std::string so_far(bool outcome_unknown = false) const {
    // The commit of a transaction is the only thing in it whose outcome can be unknown.
    if (transaction_) return outcome_unknown ? "; either everything or nothing was sent" : "; nothing was sent";
    return "; " + std::to_string(sent_) + (sent_ == 1 ? " event was sent" : " events were sent") +
           (outcome_unknown ? " for certain" : "");
  }

  void report() const {
    if (common_.json) {
      print_json({{"queue", options_.queue},
                  {"sent", sent_},
                  {"first_msg_id", number_or_null(first_id_)},
                  {"last_msg_id", number_or_null(last_id_)}});
      return;
    }
    auto line = std::to_string(sent_) + (sent_ == 1 ? " event sent" : " events sent");
    if (sent_ == 1 && first_id_) line += ", id " + to_string(*first_id_);
    if (sent_ > 1 && first_id_) line += ", ids " + to_string(*first_id_) + " to " + to_string(*last_id_);
    print_line(line);
  }

  const Common& common_;
  const SendOptions& options_;
  const Event common_event_;
  Client client_;
  std::optional<Transaction> transaction_;
  LineReader input_;
  Progress progress_;
  std::vector<Event> pending_;
  std::size_t bytes_of_line_ = 0;
  std::size_t pending_bytes_ = 0;
  std::uint64_t first_pending_ = 1;
  std::uint64_t sent_ = 0;
  bool stopped_ = false;  // by a signal, before the end of the input
  std::string mistake_;   // the mistake in the input that ended the sending early
  std::optional<EventId> first_id_, last_id_;
};

}  // namespace

int send(const Common& common, const SendOptions& options) {
  if (options.payload) return send_one(common, options, *options.payload);
  if (options.file == "-") {
    if (is_terminal(STDIN_FILENO)) complain("reading the event from the terminal; end with Ctrl-D");
    return send_one(common, options, input_text());
  }
  if (!options.file.empty()) return send_one(common, options, file_text(options.file));
  return LineSender{common, options}.run();
}

}  // namespace pgque::tool
