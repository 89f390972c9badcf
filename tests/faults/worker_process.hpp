#pragma once

// A consumer in a separate process, the program of worker.cpp.

#include <csignal>
#include <string>
#include <vector>

#include "database.hpp"
#include "process.hpp"

namespace pgque::test {

// The settings are those that worker.cpp describes.
class Worker : public Process {
 public:
  Worker(const std::string& queue, const std::string& consumer, const std::string& mode,
         const std::vector<std::string>& settings = {})
      : Process{command(queue, consumer, mode, settings)} {}
  void go_on() { write_line("go on"); }
  // Ends it as a service manager does.
  int terminate() {
    signal(SIGTERM);
    return wait();
  }

 private:
  static std::vector<std::string> command(const std::string& queue, const std::string& consumer,
                                          const std::string& mode, const std::vector<std::string>& settings) {
    std::vector<std::string> command{PGQUE_FAULT_WORKER, dsn(), queue, consumer, mode};
    command.insert(command.end(), settings.begin(), settings.end());
    return command;
  }
};

}  // namespace pgque::test
