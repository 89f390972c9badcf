#include "support/worker_pool.hpp"

#include <utility>

namespace pgque::detail {

WorkerPool::WorkerPool(std::size_t threads) {
  threads_.reserve(threads);
  try {
    for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
  } catch (...) {
    end();  // the threads that could be started
    throw;
  }
}

WorkerPool::~WorkerPool() {
  end();
}

void WorkerPool::end() noexcept {
  {
    const std::lock_guard lock{mutex_};
    quit_ = true;
  }
  work_to_do_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void WorkerPool::run(std::size_t count, const Task& task) {
  if (count == 0) return;
  std::unique_lock lock{mutex_};
  task_ = &task;
  next_ = 0;
  count_ = count;
  work_to_do_.notify_all();
  all_done_.wait(lock, [&] { return busy_ == 0 && next_ >= count_; });
  task_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void WorkerPool::work(std::size_t thread) {
  std::unique_lock lock{mutex_};
  for (;;) {
    work_to_do_.wait(lock, [&] { return quit_ || (task_ && next_ < count_); });
    if (quit_) return;
    ++busy_;
    const auto& task = *task_;
    const auto count = count_;
    lock.unlock();
    // Without the lock, because many short tasks would mostly wait for it.
    for (auto index = next_++; index < count; index = next_++) {
      try {
        task(index, thread);
      } catch (...) {
        const std::lock_guard guard{mutex_};
        if (!error_) error_ = std::current_exception();
      }
    }
    lock.lock();
    if (--busy_ == 0) all_done_.notify_all();
  }
}

}  // namespace pgque::detail
