#include "consumer/watchdog.hpp"

#include <chrono>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pgque::test {
namespace {

using namespace std::chrono_literals;
using detail::HandlerSlot;
using detail::RunningHandler;
using detail::Watchdog;
using testing::ElementsAre;
using testing::UnorderedElementsAre;
using Clock = std::chrono::steady_clock;

constexpr BatchId first{7};
constexpr BatchId second{8};

class WatchdogTest : public testing::Test {
 protected:
  Watchdog& watchdog(const Watchdog::Limits& limits, std::size_t threads = 1) {
    return watchdog_.emplace(threads, limits,
                             Watchdog::Reports{[this](const RunningHandler& handler) {
                                                 const std::lock_guard lock{mutex_};
                                                 stuck_.push_back(handler.message);
                                               },
                                               [this](BatchId batch) {
                                                 const std::lock_guard lock{mutex_};
                                                 slow_.push_back(batch);
                                               }});
  }
  static Message message(int id) {
    Message message;
    message.batch_id = first;
    message.msg_id = EventId{id};
    return message;
  }
  std::vector<EventId> stuck() const {
    const std::lock_guard lock{mutex_};
    return stuck_;
  }
  std::vector<BatchId> slow() const {
    const std::lock_guard lock{mutex_};
    return slow_;
  }
  void wait_stuck(std::size_t count) const {
    wait([&] { return stuck().size() >= count; });
  }
  void wait_slow(std::size_t count) const {
    wait([&] { return slow().size() >= count; });
  }

 private:
  template <class Condition>
  static void wait(const Condition& condition) {
    const auto end = Clock::now() + 20s;
    while (!condition() && Clock::now() < end) std::this_thread::sleep_for(1ms);
  }

  mutable std::mutex mutex_;
  std::vector<EventId> stuck_;
  std::vector<BatchId> slow_;
  std::optional<Watchdog> watchdog_;  // ends before what it reports to
};

TEST_F(WatchdogTest, ReportsEachStuckHandlerOnce) {
  auto& dog = watchdog({1ms, std::nullopt});
  const Watchdog::Scope scope{dog, first, Clock::now()};
  for (const int id : {1, 2}) {
    const HandlerSlot::Scope running{dog.slot(0), message(id), 1};
    wait_stuck(static_cast<std::size_t>(id));
    EXPECT_TRUE(dog.handler_is_stuck());
  }
  EXPECT_FALSE(dog.handler_is_stuck());
  EXPECT_THAT(stuck(), ElementsAre(EventId{1}, EventId{2}));
  EXPECT_THAT(slow(), ElementsAre());
}

TEST_F(WatchdogTest, ReportsTheHandlersOfAllThreads) {
  auto& dog = watchdog({1ms, std::nullopt}, 2);
  const Watchdog::Scope scope{dog, first, Clock::now()};
  const HandlerSlot::Scope one{dog.slot(0), message(1), 1};
  const HandlerSlot::Scope other{dog.slot(1), message(2), 1};
  wait_stuck(2);
  EXPECT_THAT(stuck(), UnorderedElementsAre(EventId{1}, EventId{2}));
}

TEST_F(WatchdogTest, ReportsNoHandlerBeforeItsTime) {
  auto& dog = watchdog({1h, 1ms});
  const Watchdog::Scope scope{dog, first, Clock::now()};
  const HandlerSlot::Scope running{dog.slot(0), message(1), 1};
  wait_slow(1);  // so the thread has looked
  EXPECT_FALSE(dog.handler_is_stuck());
  EXPECT_THAT(stuck(), ElementsAre());
}

TEST_F(WatchdogTest, ReportsEachSlowBatchOnce) {
  auto& dog = watchdog({std::nullopt, 1ms});
  EXPECT_EQ(dog.slot(0), nullptr);
  EXPECT_FALSE(dog.handler_is_stuck());
  for (const auto batch : {first, second}) {
    const Watchdog::Scope scope{dog, batch, Clock::now()};
    wait_slow(batch == first ? 1 : 2);
  }
  EXPECT_THAT(slow(), ElementsAre(first, second));
}

TEST_F(WatchdogTest, ReportsABatchThatIsSlowFromTheBeginning) {
  auto& dog = watchdog({std::nullopt, 1h});
  const Watchdog::Scope scope{dog, first, Clock::now() - 2h};  // its receive took that long
  wait_slow(1);
  EXPECT_THAT(slow(), ElementsAre(first));
}

}  // namespace
}  // namespace pgque::test
