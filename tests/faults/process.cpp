#include "process.hpp"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace pgque::test {

namespace {

[[noreturn]] void fail(const char* what) {
  throw std::system_error{errno, std::generic_category(), what};
}

struct Pipe {
  Pipe() {
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe2");
  }
  int ends[2];
};

}  // namespace

std::string server_user() {
  if (::geteuid() != 0) return {};
  return ::getpwnam("postgres") ? "postgres" : "nobody";
}

Process::Process(const std::vector<std::string>& command, const ProcessOptions& options) : on_line_{options.on_line} {
  // Everything that allocates is done before fork().
  std::vector<std::string> environment;
  for (char** variable = environ; *variable; ++variable) environment.emplace_back(*variable);
  for (const auto& [name, value] : options.environment) environment.push_back(std::string{name}.append("=") + value);
  std::vector<char*> arguments;
  for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (const auto& variable : environment) variables.push_back(const_cast<char*>(variable.c_str()));
  variables.push_back(nullptr);
  const auto user = options.as_server_user ? server_user() : std::string{};
  const passwd* const account = user.empty() ? nullptr : ::getpwnam(user.c_str());
  const Pipe input;
  const Pipe output;

  pid_ = ::fork();
  if (pid_ < 0) fail("fork");
  if (pid_ == 0) {
    ::dup2(input.ends[0], 0);
    ::dup2(output.ends[1], 1);
    ::dup2(output.ends[1], 2);
    if (account && (::setgroups(0, nullptr) != 0 || ::setgid(account->pw_gid) != 0 || ::setuid(account->pw_uid) != 0)) {
      ::_exit(126);
    }
    if (account && ::chdir("/") != 0) ::_exit(126);
    ::execvpe(arguments[0], arguments.data(), variables.data());
    ::_exit(127);
  }
  ::close(input.ends[0]);
  ::close(output.ends[1]);
  input_ = input.ends[1];
  output_ = output.ends[0];
  reader_ = std::thread{[this] { read(); }};
}

Process::~Process() {
  if (!ended_) {
    ::kill(pid_, SIGKILL);
    wait();
  }
  ::close(input_);
  ::close(output_);
}

void Process::signal(int number) {
  if (::kill(pid_, number) != 0) fail("kill");
}

void Process::write_line(const std::string& line) {
  const auto text = line + '\n';
  if (::write(input_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) fail("write");
}

int Process::wait() {
  if (ended_) return status_;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) fail("waitpid");
  }
  ended_ = true;
  status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  reader_.join();
  return status_;
}

std::vector<std::string> Process::lines() const {
  const std::lock_guard lock{mutex_};
  return lines_;
}

int Process::count(const std::string& beginning) const {
  int count = 0;
  for (const auto& line : lines()) count += line.compare(0, beginning.size(), beginning) == 0 ? 1 : 0;
  return count;
}

void Process::read() {
  std::string pending;
  char buffer[4096];
  for (;;) {
    const auto size = ::read(output_, buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    pending.append(buffer, static_cast<std::size_t>(size));
    for (auto end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
      const auto line = pending.substr(0, end);
      pending.erase(0, end + 1);
      if (on_line_) {
        on_line_(line);
        continue;
      }
      const std::lock_guard lock{mutex_};
      lines_.push_back(line);
    }
  }
}

void run(const std::vector<std::string>& command, const ProcessOptions& options) {
  Process process{command, options};
  const int status = process.wait();
  if (status == 0) return;
  std::string text = command.front() + " ended with status " + std::to_string(status);
  for (const auto& line : process.lines()) text.append("\n  ").append(line);
  throw std::runtime_error{text};
}

}  // namespace pgque::test
