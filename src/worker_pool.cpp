#include "worker_pool.hpp"

#include <utility>

namespace pgque::detail {

WorkerPool::WorkerPool(std::size_t threads) {
  threads_.reserve(threads);
  try {
    for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (...) {
    end();  // those that could be made
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

void WorkerPool::run(std::size_t count, const std::function<void(std::size_t)>& task) {
  if (count == 0) return;
  std::unique_lock lock{mutex_};
  task_ = &task;
  next_ = 0;
  count_ = unfinished_ = count;
  work_to_do_.notify_all();
  all_done_.wait(lock, [&] { return unfinished_ == 0; });
  task_ = nullptr;
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void WorkerPool::work() {
  std::unique_lock lock{mutex_};
  for (;;) {
    work_to_do_.wait(lock, [&] { return quit_ || (task_ && next_ < count_); });
    if (quit_) return;
    const auto index = next_++;
    const auto& task = *task_;
    lock.unlock();
    std::exception_ptr error;
    try {
      task(index);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && !error_) error_ = std::move(error);
    if (--unfinished_ == 0) all_done_.notify_all();
  }
}

}  // namespace pgque::detail
