#pragma once

// A queue for one benchmark.

#include <cstdint>
#include <string>
#include <vector>

#include "raw.hpp"

namespace pgque::bench {

// The queue has a unique name, is ticked only by tick(), and is dropped in the end.
class Queue {
 public:
  explicit Queue(const std::string& dsn);
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue();

  const std::string& name() const noexcept { return name_; }
  Raw& sql() noexcept { return sql_; }

  void subscribe(const std::string& consumer);
  // Subscribes consumers, which all get what is published from now on, so that each run finds the same messages.
  // next_consumer() hands them out.
  void subscribe_consumers(int count);
  const std::string& next_consumer();
  // Stores events of type "t" with payloads of about 150 bytes, and ticks: one batch.
  void publish(std::int64_t messages);
  void tick();
  // How many messages the consumer's next batch has.
  std::int64_t size_of_batch(const std::string& consumer);

 private:
  Raw sql_;
  std::string name_;
  std::vector<std::string> consumers_;
  std::size_t next_consumer_ = 0;
};

}  // namespace pgque::bench
