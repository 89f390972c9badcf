// A service that sends and reads JSON values.

#include <iostream>

#include <pgque/json.hpp>
#include <pgque/pgque.hpp>

int main() {
  pgque::Message message{};
  message.payload = R"({"order_id": 42})";
  if (pgque::payload_as(message).at("order_id") != 42) return 1;
  message.payload = "not JSON";
  try {
    pgque::payload_as(message);  // thrown by code of this program, caught as a class of the library
  } catch (const pgque::Error& error) {
    std::cout << error.what() << '\n';
    return 0;
  }
  return 1;
}
