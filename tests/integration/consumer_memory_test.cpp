// What a large batch costs this process.

#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <pgque/consumer.hpp>

#include "consumer_fixture.hpp"

namespace pgque::test {
namespace {

// What was the most since the last reset, in KiB; Linux alone tells.
std::int64_t peak_memory() {
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoll(line.substr(6));
  }
  return 0;
}

bool reset_peak_memory() {
  std::ofstream clear{"/proc/self/clear_refs"};
  return static_cast<bool>(clear << "5" << std::flush);
}

// A sanitizer keeps what was freed, so there is nothing to be measured, only something to be waited for.
#ifdef PGQUE_SANITIZED
constexpr int messages = 20'000;
constexpr bool measurable = false;
#else
constexpr int messages = 1'000'000;
constexpr bool measurable = true;
#endif

TEST_F(ConsumerTest, ABatchOfAMillionMessagesIsHandledInAFewMebibytes) {
  client().subscribe(queue(), consumer_name() + "_split");
  ASSERT_EQ(sql().number("select array_length(pgque.send_batch(" + sql().quote(queue().name()) +
                         ", 't', array_agg(rpad(i::text, 100, '.'))), 1) from generate_series(1, " +
                         std::to_string(messages) + ") i"),
            messages);
  queue().tick();
  bool measured = measurable;
  for (const auto mode : {TransactionMode::per_batch, TransactionMode::split}) {
    auto with = options(mode);
    if (mode == TransactionMode::split) with.name += "_split";
    std::int64_t next = 1;
    std::int64_t in_order = 0;
    Consumer consumer{dsn(), with};
    consumer.on("t", [&](const Message& message) {
      if (std::stoll(*message.payload) == next++) ++in_order;
    });
    const bool can_reset = reset_peak_memory();
    const auto before = peak_memory();
    {
      Running running{consumer};
      ASSERT_TRUE(wait_until([&] { return consumer.stats().batches == 1; }, 90s));
    }
    const auto growth = peak_memory() - before;
    EXPECT_EQ(in_order, messages);
    EXPECT_EQ(consumer.stats().messages, static_cast<std::uint64_t>(messages));
    EXPECT_EQ(consumer.stats().batches, 1U);
    EXPECT_EQ(log.count(LogEvent::batch_acked), mode == TransactionMode::per_batch ? 1U : 2U);
    RecordProperty("growth_kib", std::to_string(growth));
    std::printf("  %s: grew by %lld KiB\n", mode == TransactionMode::per_batch ? "per_batch" : "split",
                static_cast<long long>(growth));
    measured = measured && can_reset && before > 0;
    if (measured) {
      EXPECT_LT(growth, 32 * 1024);
    }
  }
  if (measurable && !measured) skip_outside_ci("the system does not tell how much memory a process has taken");
}

}  // namespace
}  // namespace pgque::test
