#include "queue.hpp"

#include <algorithm>
#include <cstdio>
#include <exception>

#include <unistd.h>

#include "measure.hpp"

namespace pgque::bench {

Queue::Queue(const std::string& dsn) : sql_{dsn} {
  static int counter = 0;
  name_ = "bench_" + std::to_string(::getpid()) + '_' + std::to_string(++counter);
  sql_("set client_min_messages = warning");
  sql_("select pgque.create_queue('" + name_ + "')");
  // It is ticked when there is an event. force_next_tick() would skip numbers of events each time.
  for (const std::string setting :
       {"'ticker_max_count', '1'", "'ticker_max_lag', '1 day'", "'ticker_idle_period', '1 day'"}) {
    sql_("select pgque.set_queue_config('" + name_ + "', " + setting + ")");
  }
  sql_("select pgque.force_next_tick('" + name_ + "')");
  tick();  // a queue with a single tick is ticked at once
}

Queue::~Queue() {
  try {
    const auto members = sql_(
        "select split_part(consumer_name, '.', 1), split_part(consumer_name, '.', 2) from "
        "pgque.get_consumer_info('" +
        name_ + "') where consumer_name like '%.%'");
    for (int row = 0; row < ::PQntuples(members.get()); ++row) {
      sql_("select pgque.unsubscribe_subconsumer('" + name_ + "', '" + ::PQgetvalue(members.get(), row, 0) + "', '" +
           ::PQgetvalue(members.get(), row, 1) + "', 1)");
    }
    sql_("select pgque.drop_queue('" + name_ + "', true)");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cannot drop queue %s: %s\n", name_.c_str(), error.what());
  }
}

void Queue::subscribe(const std::string& consumer) {
  sql_("select pgque.subscribe('" + name_ + "', '" + consumer + "')");
}

void Queue::subscribe_consumers(int count) {
  for (int i = 0; i < count; ++i) {
    consumers_.push_back(name_ + "_c" + std::to_string(i));
    subscribe(consumers_.back());
  }
}

const std::string& Queue::next_consumer() {
  return consumers_.at(next_consumer_++);
}

void Queue::publish(std::int64_t messages) {
  constexpr std::int64_t at_once = 10'000;
  sql_("begin");
  for (std::int64_t first = 1; first <= messages; first += at_once) {
    const auto last = std::min(messages, first + at_once - 1);
    const auto stored = sql_.number(
        "select cardinality(pgque.send_batch('" + name_ +
        "', 't', array(select format('{\"order_id\": %s, \"customer\": "
        "\"customer-%s\", \"total\": 99.95, \"currency\": \"EUR\", \"items\": [{\"sku\": \"A-1000\", \"quantity\": "
        "2}], \"note\": \"as discussed\"}', i, lpad((i % 1000000)::text, 6, '0')) from generate_series(" +
        std::to_string(first) + "::bigint, " + std::to_string(last) + ") as i)))");
    require(stored == last - first + 1, "send_batch stored " + std::to_string(stored) + " messages");
  }
  sql_("commit");
  tick();
}

void Queue::tick() {
  require(sql_.number("select pgque.ticker('" + name_ + "')") != 0, "no tick");
}

std::int64_t Queue::size_of_batch(const std::string& consumer) {
  return sql_.number("select count(*) from pgque.receive('" + name_ + "', '" + consumer + "', null::int4)");
}

}  // namespace pgque::bench
