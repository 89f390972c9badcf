#pragma once

// The registered handlers, and which of them a message goes to.

#include <cstddef>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <pgque/consumer.hpp>

namespace pgque::detail {

// For single messages or for several at once: one of the two functions is there.
struct Handler {
  std::function<void(const Message&, Context&)> one;
  std::function<void(const std::vector<Message>&, BatchContext&)> many;
  std::size_t chunk = 1;  // the most messages of a call
};

class Handlers {
 public:
  // A type that ends with '*' is a prefix. Both throw std::invalid_argument if the type has a handler already.
  void add(const std::string& type, std::function<void(const Message&, Context&)> one);
  void add(const std::string& type, std::function<void(const std::vector<Message>&, BatchContext&)> many,
           const OnBatchOptions& options);
  // Null if there is none for the message.
  const Handler* find(const Message& message) const;
  bool empty() const noexcept { return exact_.empty() && prefixes_.empty(); }
  bool any_for_many() const noexcept { return any_for_many_; }

 private:
  void put(const std::string& type, Handler handler);

  std::unordered_map<std::string, Handler> exact_;
  std::vector<std::pair<std::string, Handler>> prefixes_;  // without the '*', longer ones first
  bool any_for_many_ = false;
};

}  // namespace pgque::detail
