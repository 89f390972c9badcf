#pragma once

// The exception a call throws, its class exact: a class derived from the expected one does not count.

#include <exception>
#include <stdexcept>
#include <string>
#include <typeinfo>

#include <pgque/error.hpp>

namespace pgque::test {

// Runs it and returns the E it throws. The test fails if it throws something else, or nothing.
template <class E, class Run>
E thrown(const Run& run) {
  try {
    run();
  } catch (const E& error) {
    if (typeid(error) == typeid(E)) return error;
    throw std::runtime_error{std::string{"threw a derived "} + typeid(error).name() + ": " + error.what()};
  }
  throw std::runtime_error{std::string{"threw nothing instead of "} + typeid(E).name()};
}

// The name of the class that it throws, such as "QueueNotFound" or "std::logic_error"; "nothing" if it throws nothing.
// For tables of calls, where one failure should not hide the others.
template <class Run>
std::string class_thrown(const Run& run) {
  try {
    run();
    return "nothing";
  } catch (const std::exception& error) {
    const auto is = [&](const std::type_info& type) { return typeid(error) == type; };
    if (is(typeid(Error))) return "Error";
    if (is(typeid(ConnectionError))) return "ConnectionError";
    if (is(typeid(QueueNotFound))) return "QueueNotFound";
    if (is(typeid(ConsumerNotFound))) return "ConsumerNotFound";
    if (is(typeid(BatchNotFound))) return "BatchNotFound";
    if (is(typeid(BatchOverflow))) return "BatchOverflow";
    if (is(typeid(std::logic_error))) return "std::logic_error";
    if (is(typeid(std::invalid_argument))) return "std::invalid_argument";
    return std::string{typeid(error).name()} + ": " + error.what();
  }
}

}  // namespace pgque::test
