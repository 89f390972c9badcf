// What a reader of the pages has to imagine on each of them. A snippet that declares one of these names by itself hides
// it. check_snippets includes this; nothing is ever linked.

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <iostream>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <pgque/admin.hpp>
#include <pgque/buffered_producer.hpp>
#include <pgque/doctor.hpp>
#include <pgque/json.hpp>
#include <pgque/pgque.hpp>
#include <pgque/pqxx.hpp>
#include <pqxx/pqxx>

using nlohmann::json;
using namespace std::chrono_literals;

struct Order {
  std::int64_t id = 0;
  std::string customer;
};
inline void to_json(json& value, const Order& order) {
  value = {{"id", order.id}, {"customer", order.customer}};
}
inline void from_json(const json& value, Order& order) {
  value.at("id").get_to(order.id);
  value.at("customer").get_to(order.customer);
}

extern const std::string dsn;
extern pgque::Client client;
extern pgque::ConsumerOptions options;
extern pgque::Consumer consumer;
extern const pgque::Message message;
extern const Order order;
extern pqxx::connection connection;
