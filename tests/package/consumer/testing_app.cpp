// A service's test without a test framework and without a database, which links pgque::testing alone.

#include <cstdio>
#include <cstdlib>
#include <functional>

#include <pgque/testing.hpp>

int main() {
  const auto outcome = pgque::testing::handle(pgque::testing::message("order.created", R"({"order_id": 42})"),
                                              [](const pgque::Message&, pgque::Context& context) {
                                                context.send("audit", "{}");
                                                throw pgque::GiveUp{"no such product"};
                                              });
  if (!outcome.gave_up() || outcome.reason() != "no such product") return 1;
  // With a database, a queue too.
  if (const char* dsn = std::getenv("PGQUE_TEST_DSN")) {
    pgque::testing::Queue queue{dsn};
    queue.send("{}", "order.created");
    const auto run = queue.deliver({}, [](pgque::Consumer& c) { c.on("*", [](const pgque::Message&) {}); });
    if (run.handled != 1) return 1;
    std::puts("one message handled");
  }
  return 0;
}
