#include "support/worker_pool.hpp"

#include <fstream>
#include <set>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit_support.hpp"

namespace pgque::test {
namespace {

using detail::WorkerPool;
using testing::ElementsAre;
using testing::StrEq;
using testing::ThrowsMessage;

TEST(WorkerPool, CallsEachTaskOnce) {
  for (const std::size_t count : {1u, 3u, 4u, 1000u}) {
    WorkerPool pool{4};
    std::vector<std::atomic<int>> calls(count);
    pool.run(count, [&](std::size_t i, std::size_t) { ++calls[i]; });
    for (const auto& times : calls) EXPECT_EQ(times, 1);
  }
}

TEST(WorkerPool, DoesNothingForNoTasks) {
  WorkerPool pool{2};
  pool.run(0, [](std::size_t, std::size_t) { FAIL(); });
}

TEST(WorkerPool, UsesAllItsThreadsAtOnce) {
  constexpr std::size_t threads = 4;
  WorkerPool pool{threads};
  Rendezvous all{threads};
  std::atomic<int> met{0};
  std::mutex mutex;
  std::set<std::thread::id> ids;
  std::set<std::size_t> numbers;
  pool.run(threads, [&](std::size_t, std::size_t thread) {
    {
      const std::lock_guard lock{mutex};
      ids.insert(std::this_thread::get_id());
      numbers.insert(thread);
    }
    met += all.arrive();
  });
  EXPECT_EQ(met, 4);
  EXPECT_EQ(ids.size(), threads);
  EXPECT_EQ(ids.count(std::this_thread::get_id()), 0u);
  EXPECT_THAT(numbers, ElementsAre(0u, 1u, 2u, 3u));
}

TEST(WorkerPool, RunsNoMoreTasksAtOnceThanItHasThreads) {
  WorkerPool pool{3};
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  pool.run(200, [&](std::size_t, std::size_t) {
    const int now = ++running;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::yield();
    --running;
  });
  EXPECT_LE(most, 3);
}

TEST(WorkerPool, BeginsTasksInOrder) {
  WorkerPool pool{1};
  std::vector<std::size_t> order;
  pool.run(5, [&](std::size_t i, std::size_t) { order.push_back(i); });
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

TEST(WorkerPool, ReturnsWhenAllTasksHaveReturned) {
  WorkerPool pool{4};
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> returned{0};
    pool.run(7, [&](std::size_t, std::size_t) {
      std::this_thread::yield();
      ++returned;
    });
    ASSERT_EQ(returned, 7);
  }
}

TEST(WorkerPool, ThrowsWhatATaskThrewAfterAllOthers) {
  WorkerPool pool{2};
  std::atomic<int> calls{0};
  EXPECT_THAT(
      [&] {
        pool.run(20, [&](std::size_t i, std::size_t) {
          ++calls;
          if (i == 3) throw std::runtime_error{"task 3"};
        });
      },
      ThrowsMessage<std::runtime_error>(StrEq("task 3")));
  EXPECT_EQ(calls, 20);
}

TEST(WorkerPool, ThrowsTheFirstOfSeveralExceptions) {
  WorkerPool pool{1};
  EXPECT_THAT([&] { pool.run(3, [](std::size_t i, std::size_t) { throw std::runtime_error{std::to_string(i)}; }); },
              ThrowsMessage<std::runtime_error>(StrEq("0")));
}

TEST(WorkerPool, CanBeUsedAfterAnException) {
  WorkerPool pool{2};
  EXPECT_THROW(pool.run(4, [](std::size_t, std::size_t) { throw std::runtime_error{"no"}; }), std::runtime_error);
  std::atomic<int> calls{0};
  EXPECT_NO_THROW(pool.run(4, [&](std::size_t, std::size_t) { ++calls; }));
  EXPECT_EQ(calls, 4);
}

// In a child with little address space left. Exits with 0 if the pool could not be made and said so.
[[noreturn]] void make_a_pool_that_is_too_large() {
  std::size_t pages = 0;
  std::ifstream{"/proc/self/statm"} >> pages;
  const rlim_t limit = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{64} << 20);
  const rlimit limits{limit, limit};
  ::setrlimit(RLIMIT_AS, &limits);
  try {
    WorkerPool pool{1024};
  } catch (const std::system_error&) {
    ::_exit(0);
  }
  ::_exit(1);
}

TEST(WorkerPool, ThrowsWhenTheSystemHasNoMoreThreads) {
  // A sanitizer's shadow memory needs more address space than the limit would leave.
  if (sanitized) GTEST_SKIP() << "not with a sanitizer";
  const auto child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) make_a_pool_that_is_too_large();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << "killed by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace pgque::test
